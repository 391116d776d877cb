"""Who may know whom: walks every import in the packages and fails on a wrong arrow.

Imports inside functions count as well: a room that reaches for another one late still knows it.
"""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Plain values and what guards the reading of foreign files: they import nothing of cl_core, and every room may know
# them. "package" is cl_core/__init__.py: the version.
PLAIN = {
    "assets", "commands", "digit_table", "estimate", "events", "hf_cache", "method_defaults", "metrics", "package",
    "readouts", "untrusted",
}  # fmt: skip

# Every other room and what it may import besides itself, from the ground up. "features", "stream" and "method" are
# vocabularies of their rooms: the types that others are handed, not what makes them.
ROOMS = {
    "linalg": set(),
    "synthetic_world": set(),
    "config": set(),
    "config_changes": {"config"},
    "registry": {"config"},
    "presets": {"config", "registry"},
    "plugins": {"config", "registry"},
    "whatif": {"config"},
    "store": {"config", "config_changes", "registry"},
    "summary": {"store"},
    "playground": {"config", "store"},
    "recordings": {"config", "playground", "presets"},
    "questions": {"config", "presets", "registry", "store", "summary"},
    "export": {"config", "store", "summary"},
    "features": {"config"},
    "stream": {"config"},
    "method": {"features", "stream"},
    "streams": {"config", "synthetic_world"},
    "backbones": {"config"},
    "pretraining": {"synthetic_world"},
    "methods": {"config", "features", "linalg", "stream"},
    "observers": {"config", "features", "linalg", "method", "methods", "stream"},
    "training": {  # a method is met through the registry
        "backbones", "config", "config_changes", "features", "linalg", "method", "observers", "registry", "store",
        "stream", "streams",
    },
    "recorder": {"config", "linalg", "observers", "store", "training"},  # the loop is the user's
    "interop": {"config", "export", "recorder", "store", "summary"},  # the recorder only in wrappers of loops
    "sweeps": {"config", "presets", "registry", "store", "summary", "training"},  # workers train; plans do not
    "analysis": {"config", "features", "method", "observers", "store", "stream", "summary", "training"},
}  # fmt: skip
ROOMS["cli"] = set(ROOMS)
ROOMS["main"] = {"cli"}
ROOMS |= {room: set() for room in PLAIN}

VOCABULARIES = {
    "cl_core.backbones.answer_cache": "features",
    "cl_core.backbones.backbone": "features",
    "cl_core.backbones.io_types": "features",
    "cl_core.streams.digit_table": "digit_table",
    "cl_core.streams.stream": "stream",
    "cl_core.methods.method": "method",
}
DASHBOARD_MAY_KNOW = PLAIN | ROOMS["questions"] | {
    "analysis", "config_changes", "export", "playground", "plugins", "questions", "recordings", "sweeps", "whatif"
}  # fmt: skip

HEAVY = {"torch", "torchvision", "timm", "open_clip"}
WITHOUT_TORCH = {
    "assets", "hf_cache", "config_changes", "config", "estimate", "events", "commands", "export", "presets", "registry",
    "metrics", "playground", "readouts", "recordings", "store", "summary", "questions",
}  # fmt: skip
WRAPPING_FILES = {  # the only files that may import these libraries
    "timm": {"cl_core/backbones/vit.py", "cl_core/backbones/timm_models.py", "cl_core/pretraining/micro_vit.py"},
    "open_clip": {"cl_core/backbones/clip.py", "cl_core/backbones/open_clip_models.py",
                  "cl_core/backbones/activations.py", "cl_core/pretraining/micro_clip.py"},
    "torchvision": {"cl_core/streams/cifar100.py", "cl_core/streams/omniglot.py", "cl_core/streams/augmentation.py"},
}  # fmt: skip


def imports_of(source: str, module: str) -> set[str]:
    """Absolute dotted names a module imports; `from package import name` is package.name where that is a module."""
    found, tree = set(), ast.parse(source)
    for node in ast.walk(tree):  # types that one is handed are seen by a type checker alone
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, *([base] if base else [])])
            found |= {f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base for alias in node.names}
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def room_of(module: str) -> str:
    """The room a cl_core module lives in."""
    if module in VOCABULARIES:
        return VOCABULARIES[module]
    parts = module.split(".")
    return {"__init__": "package", "__main__": "main"}.get(parts[1], parts[1]) if len(parts) > 1 else "package"


def modules(package: str) -> list[tuple[str, Path]]:
    """Dotted name and path of every source file of a package that exists so far."""
    files = sorted((ROOT / package).rglob("*.py"))
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts), path) for path in files]


def wrong_arrows(module: str, source: str) -> list[str]:
    """What a module imports and must not, one sentence each."""
    names = imports_of(source, module)
    libraries = {name.split(".")[0] for name in names}
    path = module.replace(".", "/") + ".py"
    wrong = [
        f"{module} imports {library}, which belongs to {', '.join(sorted(files))}"
        for library, files in WRAPPING_FILES.items()
        if library in libraries and path not in files
    ]
    known = {name: room_of(name) for name in names if name.split(".")[0] == "cl_core"}
    if module.split(".")[0] == "dashboard":
        wrong += [f"{module} imports {name}" for name, room in known.items() if room not in DASHBOARD_MAY_KNOW]
        wrong += [f"{module} imports {library}" for library in libraries & HEAVY]
        if module.startswith("dashboard.figures") and "streamlit" in libraries:
            wrong.append(f"{module} imports streamlit: a figure takes arrays and returns a figure")
        return wrong
    room = room_of(module)
    home = module.split(".")[1]
    if home not in {"__init__", "__main__"} and room not in ROOMS and room not in VOCABULARIES.values():
        return [f"{module} lives in no room of this table: name the room and what it may know"]
    own = {room, *(VOCABULARIES[name] for name in VOCABULARIES if name.split(".")[1] == home)}
    allowed = ROOMS[home if home in ROOMS else room] | own | {home} | (set() if room in PLAIN else PLAIN)
    wrong += [f"{module} imports {name}" for name, other in known.items() if other not in allowed]
    wrong += [f"{module} imports {library}" for library in libraries & {"dashboard", "streamlit"}]
    if room in WITHOUT_TORCH:
        wrong += [f"{module} imports {library}" for library in libraries & HEAVY]
    if room == "linalg":
        outside = libraries - sys.stdlib_module_names - {"torch", "cl_core"}
        wrong += [f"{module} imports {library}: linalg knows torch tensors only" for library in outside]
        wrong += [f"{module} imports {name}: linalg holds no modules" for name in names if name.startswith("torch.nn")]
    return wrong


def test_the_table_itself_has_no_circle():
    order = tuple(TopologicalSorter(ROOMS).static_order())
    assert order.index("config") < order.index("store") < order.index("training") < order.index("cli")


def test_no_arrow_points_the_wrong_way():
    files = modules("cl_core") + modules("dashboard")
    assert len(files) > 5
    wrong = [sentence for module, path in files for sentence in wrong_arrows(module, path.read_text("utf-8"))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cl_core.config", "import torch"),
        ("cl_core.events", "from cl_core.store import RunFolder"),
        ("cl_core.linalg.spectra", "import numpy as np"),
        ("cl_core.linalg.spectra", "from torch.nn import Module"),
        ("cl_core.streams.digits", "from cl_core.backbones.vit import micro_vit"),
        ("cl_core.backbones.vit", "from cl_core.streams.stream import Task"),
        ("cl_core.methods.nsp2", "from cl_core.training.trainer import Trainer"),
        ("cl_core.methods.nsp2", "from ..store import RunReader"),
        ("cl_core.methods.nsp2", "from cl_core.backbones.vit import micro_vit"),
        ("cl_core.methods.nsp2", "def late():\n    import timm"),
        ("cl_core.training.trainer", "from cl_core.methods.nsp2 import NSP2"),
        ("cl_core.store.reader", "import torch"),
        ("cl_core.questions.gnsp", "from cl_core.methods.gnsp import GnspConfig"),
        ("cl_core.cli.demo", "import streamlit"),
        ("cl_core.cli.demo", "from dashboard import app"),
        ("cl_core.utils.things", "import json"),
        ("dashboard.pages.live", "from cl_core.training.worker import work"),
        ("dashboard.pages.live", "from cl_core import linalg"),
        ("dashboard.pages.live", "import torch"),
        ("dashboard.figures.spectra", "import streamlit as st"),
    ],
)
def test_a_wrong_arrow_is_seen(module, source):
    assert wrong_arrows(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cl_core.linalg.spectra", "import math\nimport torch\nfrom cl_core.linalg.validation import share"),
        ("cl_core.methods.nsp2", "from cl_core.linalg import spectrum\nfrom cl_core.streams.stream import Task"),
        ("cl_core.methods.nsp2", "from cl_core.backbones.io_types import Features"),
        ("cl_core.training.trainer", "from cl_core.methods.method import Method\nfrom cl_core import __version__"),
        ("cl_core.cli.demo", "import subprocess\nfrom cl_core.training.worker import work"),
        ("cl_core.backbones.vit", "import timm\nfrom cl_core.backbones.io_types import Features"),
        ("dashboard.pages.live", "import streamlit as st\nfrom cl_core.store import RunReader"),
    ],
)
def test_a_right_arrow_is_let_through(module, source):
    assert wrong_arrows(module, source) == []


def test_no_file_is_called_after_nothing():
    vague = {"utils", "util", "helpers", "helper", "manager", "misc", "common"}
    for package in ("cl_core", "dashboard", "tests"):
        assert not [path for path in (ROOT / package).rglob("*") if path.stem in vague]


IMPORT_AND_REPORT = """
import ast, importlib, pathlib, sys
for name in sys.argv[1:]:
    if name.endswith(".py"):    # a page is a script: what it imports, without drawing it
        body = ast.parse(pathlib.Path(name).read_text("utf-8")).body
        body = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(body, []), name, "exec"), {"__name__": "page"})
    else:
        importlib.import_module(name)
    met = {"torch", "torchvision", "timm", "open_clip"} & set(sys.modules)
    if met:
        sys.exit(f"importing {name} imports {', '.join(sorted(met))}")
"""


def import_without_torch(*names, beside=""):
    """Imports modules by name and the imports of scripts by path in a fresh process; its complaint, empty if none.
    `beside`: a folder of further modules."""
    command, environment = [sys.executable, "-c", IMPORT_AND_REPORT, *names], {**os.environ, "PYTHONPATH": str(beside)}
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    return result.stderr[-2000:] if result.returncode else ""


def test_pages_store_and_command_line_import_without_torch():
    there = [
        f"cl_core.{room}"
        for room in ("store", "export", "questions", "sweeps", "whatif", "analysis", "cli")
        if (ROOT / "cl_core" / room / "__init__.py").is_file()
    ]
    if (ROOT / "dashboard").is_dir():
        scripts = sorted((ROOT / "dashboard").glob("*.py")) + sorted((ROOT / "dashboard" / "pages").glob("*.py"))
        drawn_by = [name for name, path in modules("dashboard") if path.parent.name in {"figures", "report", "widgets"}]
        assert scripts and drawn_by, "the dashboard is there, but none of its modules was found"
        there += [str(path) for path in scripts] + [name.removesuffix(".__init__") for name in drawn_by]
    assert there, "none of the modules that must open without torch exists"
    assert import_without_torch(*there) == ""


def test_an_import_of_torch_is_noticed(tmp_path):
    (tmp_path / "torch.py").write_text("")  # the real one takes seconds
    (tmp_path / "page.py").write_text("import torch\n")
    assert "page.py imports torch" in import_without_torch("cl_core.store", tmp_path / "page.py", beside=tmp_path)
