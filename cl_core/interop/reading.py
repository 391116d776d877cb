"""Selection of the importer for a path: by content and file name, or by --format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cl_core.config import ConfigError, nearest
from cl_core.interop import avalanche, facil, histories, mammoth, pilot, plain
from cl_core.interop.result import Asked, Result


@dataclass(frozen=True)
class Format:
    """A kind of file or folder that can be imported."""

    about: str  # description, for lists
    fits: Callable[[Path], bool]
    read: Callable[[Path, Asked], Result]


FORMATS: dict[str, Format] = {
    "avalanche": Format("Avalanche: csvlogs folder, eval_results.csv, text log", avalanche.fits, avalanche.read),
    "mammoth": Format("Mammoth: logs.pyd", mammoth.fits, mammoth.read),
    "pilot": Format("PILOT or PyCIL: the log of a training", pilot.fits, pilot.read),
    "facil": Format("FACIL: acc_tag-….txt, acc_taw-….txt or their folder", facil.fits, facil.read),
    "wandb": Format("W&B offline: run-ID.wandb", lambda p: bool(histories.wandb_files(p)), histories.wandb),
    "lightning": Format(
        "Lightning: metrics.csv or a folder of version_N",
        lambda p: bool(histories.lightning_files(p)),
        histories.lightning,
    ),
    "trainer": Format(
        "Hugging Face Trainer: trainer_state.json, or a folder of its trainings",
        lambda p: bool(histories.hugging_face_files(p)),
        histories.hugging_face,
    ),
    "tensorboard": Format(
        "TensorBoard: event files", lambda p: bool(histories.tensorboard_files(p)), histories.tensorboard
    ),
    "table": Format(
        "a table: square matrix, or trained,evaluated,accuracy",
        lambda p: p.suffix.lower() in (".csv", ".tsv", ".txt") if p.is_file() else (p / plain.EXPORTED).is_file(),
        plain.read,
    ),
}


def read(path: Path, asked: Asked) -> Result:
    """Read the results at `path`. Raises ConfigError with one sentence that names a fix."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist")
    if asked.format:
        name = asked.format.replace("_", "-").lower()
        if name not in FORMATS:
            raise ConfigError(nearest(asked.format, FORMATS, "format"))
        return FORMATS[name].read(path, asked)
    if path.suffix.lower() in (".pt", ".pth", ".pkl", ".ckpt", ".bin", ".safetensors"):
        raise ConfigError(
            f"{path.name} is a checkpoint; results are read from the logs beside it ({_known()}), or from a table with "
            "the columns trained,evaluated,accuracy"
        )
    for form in FORMATS.values():
        if form.fits(path):
            return form.read(path, asked)
    raise ConfigError(
        f"{path} is none of what can be imported ({_known()}); a table with the columns trained,evaluated,accuracy "
        "always can"
    )


def _known() -> str:
    return "; ".join(form.about for form in FORMATS.values())
