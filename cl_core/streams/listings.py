"""Tables that assign images to classes, instead of or in addition to folders.

metadata.csv | .jsonl | .parquet   file_name (or *_file_name), relative to the table, and a label: Hugging Face's
                                   imagefolder; a column `split`, or a first folder train/…, test/…, divides it
val_annotations.txt                Tiny-ImageNet: file, tab, class; the files beside it or in images/
LOC_val_solution.csv               ImageNet's flat validation half, as Kaggle labels it: ImageId,PredictionString
…synset_labels.txt                 the same: the class of every file in the order of their names, one per line
words.txt, LOC_synset_mapping.txt  names of ImageNet's classes
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cl_core.config import ConfigError
from cl_core.streams.images import ImageFile, shown
from cl_core.streams.scanning import Files, Look, Parts, folders_in, half_of, images_below, note
from cl_core.untrusted import MOST_BYTES, parse_json, read_text

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
LABELS = ("label", "class", "category", "target", "class_name", "label_name", "labels", "fine_label")
ANNOTATIONS = "val_annotations.txt"
KAGGLE = "LOC_val_solution.csv"
SYNSET_LABELS = ("imagenet_2012_validation_synset_labels.txt", "synset_labels.txt")
WORDS = ("words.txt", "LOC_synset_mapping.txt")  # class, tab or space, name


def is_listed(place: Path) -> bool:
    """Return whether the folder holds a table that may label its images."""
    return any((place / name).is_file() for name in (*TABLES, ANNOTATIONS))


def listed(place: Path, look: Look) -> Parts | None:
    """Return split → class → files from the table in `place`; None if there is none, or if only folders name classes.
    Raises ConfigError."""
    tables = [name for name in TABLES if (place / name).is_file()]
    if not tables:
        return None
    file = place / tables[0]
    if len(tables) > 1:
        raise ConfigError(f"{shown(str(place))} holds {tables[0]} and {tables[1]}; leave one of them there")
    rows, columns, names = _rows(file)
    where = _file_column(columns, file)
    label = _label_column(columns, where, look, file)
    if not label:
        others = ", ".join(shown(c) for c in columns if c != where) or "nothing else"
        if folders_in(place, look):
            look.notes.append(f"{tables[0]} names no class (it has {others}); the folders do")
            return None
        raise ConfigError(
            f"{shown(str(file))} has the columns {', '.join(map(shown, columns))}, and which of them names the class "
            f"is not clear: set stream.label_column, for example {others.split(', ')[0]}"
        )
    look.names.update(names.get(label, {}))
    split = next((column for column in columns if column.lower() == "split"), "")
    parts: dict[str, dict[str, dict[str, Path]]] = {}
    outside: list[str] = []  # names outside the table's folder
    missing: list[str] = []
    labels: dict[str, str] = {}  # file name → class
    for row in rows:
        name, key = str(row.get(where) or ""), _key(row.get(label), file)
        image = place / name
        if not name or not key:
            note(
                look.skipped,
                image if name else file,
                look.root,
                f"a line of {tables[0]} without {'file' if key else 'label'}",
            )
            continue
        if Path(name).is_absolute() or ".." in Path(name).parts:
            outside.append(name)
            note(look.skipped, Path(name), look.root, f"named in {tables[0]}, outside its folder")
        elif not image.is_file():
            missing.append(name)
            note(look.skipped, image, look.root, f"named in {tables[0]}, and not there")
        elif labels.setdefault(name, key) != key:
            raise ConfigError(
                f"{shown(str(file))} calls {shown(name)} both {shown(labels[name])} and {shown(key)}; an image has one "
                "class here"
            )
        else:
            part = str(row.get(split) or "") if split else ""
            parts.setdefault(part, {}).setdefault(key, {})[name] = image
    if not parts and (outside or missing):
        which = "is there" if missing else "lies in its folder"
        first = f"{which} (the first is {shown((missing or outside)[0])})"
        none = f"none of the {len(outside) + len(missing):,} pictures that"
        if not folders_in(place, Look(look.root, look.config)):
            raise ConfigError(
                f"{none} {shown(str(file))} names {first}: names are relative to the table and do not lead out of "
                "its folder; put the table above the pictures, or change the names"
            )
        look.notes.append(f"{none} {tables[0]} names {first}; the folders name the classes")
        return None
    if not split:
        parts = _by_first_folder(parts.get("", {}))
    unlisted = sum(
        1 for image in images_below(place, Look(look.root, look.config)) if _relative(image, place) not in labels
    )
    if unlisted:
        look.notes.append(f"{unlisted} image{'s' * (unlisted > 1)} not named in {tables[0]}: not used")
    return {
        part: {key: tuple(files[name] for name in sorted(files)) for key, files in classes.items()}
        for part, classes in parts.items()
    }


def _relative(image: Path, place: Path) -> str:
    return image.relative_to(place).as_posix()


def _by_first_folder(classes: dict[str, dict[str, Path]]) -> dict[str, dict[str, dict[str, Path]]]:
    """Split files by the folders train/… and test/…; a single split if some lie elsewhere."""
    firsts = {Path(name).parts[0] for files in classes.values() for name in files if len(Path(name).parts) > 1}
    loose = any(len(Path(name).parts) == 1 for files in classes.values() for name in files)
    if loose or not {half_of(first) for first in firsts} >= {"train", "test"}:
        return {"": classes} if classes else {}
    parts: dict[str, dict[str, dict[str, Path]]] = {}
    for key, files in classes.items():
        for name, image in files.items():
            parts.setdefault(Path(name).parts[0], {}).setdefault(key, {})[name] = image
    return parts


Rows = Iterable[Mapping[str, Any]]


def _rows(file: Path) -> tuple[Rows, list[str], dict[str, dict[str, str]]]:
    """Read rows, column names, and per column the names of its numbers, if the table has them. Raises ConfigError."""
    try:
        if file.suffix == ".csv":
            text = read_text(file).removeprefix("\ufeff")
            head = text.partition("\n")[0]
            reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
            return list(reader), list(reader.fieldnames or ()), {}
        if file.suffix == ".jsonl":
            rows = [parse_json(line) for line in read_text(file).splitlines() if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is no table of values")
            return rows, list(dict.fromkeys(column for row in rows for column in row)), {}
        return _parquet_rows(file)
    except ConfigError:
        raise
    except Exception as error:  # pyarrow raises its own exceptions
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"cannot read {shown(str(file))}: {why}") from error


def _parquet_rows(file: Path) -> tuple[Rows, list[str], dict[str, dict[str, str]]]:
    import pyarrow.parquet as pq

    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"it has {file.stat().st_size:,} bytes, and at most {MOST_BYTES:,} are read")
    table = pq.read_table(file)
    return table.to_pylist(), list(table.column_names), class_labels(table.schema)


def class_labels(schema: Any) -> dict[str, dict[str, str]]:
    """Return column → number → name from the ClassLabel features that Hugging Face writes into a parquet schema."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"]
        return {
            column: {str(number): str(name) for number, name in enumerate(feature["names"])}
            for column, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _file_column(columns: Sequence[str], file: Path) -> str:
    if "file_name" in columns:
        return "file_name"
    found = [column for column in columns if column.endswith("_file_name")]
    if len(found) != 1:
        raise ConfigError(
            f"{shown(str(file))} has no column file_name (it has {', '.join(map(shown, columns)) or 'none'}): it names "
            "each image, relative to the table"
        )
    return found[0]


def _label_column(columns: Sequence[str], where: str, look: Look, file: Path) -> str:
    return label_column([column for column in columns if column != where], look, shown(str(file)))


def label_column(columns: Sequence[str], look: Look, table: str) -> str:
    """Return the column of the class: the setting's, else the first with a usual name; "" if there is none. Raises
    ConfigError if the setting names a missing column."""
    told = look.config.label_column
    if told and told not in columns:
        raise ConfigError(
            f"{table} has no column {told!r} (stream.label_column); it has {', '.join(map(shown, columns)) or 'none'}"
        )
    return told or next((name for name in LABELS if name in columns), "")


def _key(value: Any, file: Path) -> str:
    return class_key(value, shown(str(file)))


def class_key(value: Any, table: str) -> str:
    """Return a label as a class key; "" for none. Raises ConfigError for several labels."""
    if isinstance(value, (list, tuple, dict)):
        raise ConfigError(f"{table} gives an image several labels ({str(value)[:40]}); an image has one class here")
    if value is None:
        return ""
    if isinstance(value, float):  # an integer column with missing values is read as floats
        return "" if value != value else f"{value:g}"
    return str(value).strip()


# ---------------------------------------------------------------- ImageNet and Tiny-ImageNet


def annotated(place: Path, look: Look) -> dict[str, Files] | None:
    """Return class → files of a half without class folders whose images are labelled by a list; None if it has class
    folders. Raises ConfigError if no list labels it."""
    inside = folders_in(place, look)
    if inside and not (place / ANNOTATIONS).is_file() and not (len(inside) == 1 and inside[0].name == "images"):
        return None
    images = {file.name: file for file in images_below(place, look)}
    if (place / ANNOTATIONS).is_file():
        return _by_class(look, place / ANNOTATIONS, _annotations(place / ANNOTATIONS), images)
    for folder in dict.fromkeys((place, look.root)):
        if (folder / KAGGLE).is_file():
            return _by_class(look, folder / KAGGLE, _solutions(folder / KAGGLE), images)
        for name in SYNSET_LABELS:
            if (folder / name).is_file():
                return _by_class(look, folder / name, _in_order(folder / name, sorted(images)), images)
    if not images:
        return None
    raise ConfigError(
        f"{shown(str(place))} holds {len(images):,} images without class folders, as ImageNet's validation half comes: "
        f"put {KAGGLE}, {SYNSET_LABELS[0]} or {ANNOTATIONS} there, or a metadata.csv with file_name and label"
    )


def _by_class(
    look: Look, table: Path, pairs: Iterable[tuple[str, str]], images: Mapping[str, Path]
) -> dict[str, Files]:
    found: dict[str, list[ImageFile]] = {}
    left = dict(images)
    for name, key in pairs:
        file = left.pop(name, None)
        if file is None:
            note(look.skipped, table.parent / name, look.root, f"named in {table.name}, and not there")
        else:
            found.setdefault(key, []).append(file)
    for file in left.values():
        note(look.skipped, file, look.root, f"not named in {table.name}")
    look.notes.append(f"{shown(table.name)} labels the images of {shown(table.parent.name)}")
    return {key: tuple(sorted(files, key=str)) for key, files in found.items()}


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in read_text(file).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {shown(str(file))}: {error}") from error


def _annotations(file: Path) -> list[tuple[str, str]]:
    parts = [line.split("\t") for line in _lines(file)]
    if any(len(part) < 2 for part in parts):
        raise ConfigError(f"{shown(str(file))} must hold file, tab, class in each line")
    return [(part[0].strip(), part[1].strip()) for part in parts]


def _solutions(file: Path) -> list[tuple[str, str]]:
    """Return pairs of ImageId (without suffix) and the first class of its prediction string (class x y x y …)."""
    found = []
    for row in csv.DictReader(_lines(file)):
        name, told = row.get("ImageId"), (row.get("PredictionString") or "").split()
        if not name or not told:
            raise ConfigError(f"{shown(str(file))} must have the columns ImageId and PredictionString")
        found.append((f"{name}.JPEG", told[0]))
    return found


def _in_order(file: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    labels = [line.strip() for line in _lines(file)]
    if len(labels) != len(names):
        raise ConfigError(
            f"{shown(str(file))} has {len(labels):,} lines for {len(names):,} images; it takes one an image, in the "
            "order of their names"
        )
    return list(zip(names, labels, strict=True))


def names_beside(look: Look, keys: Sequence[str]) -> dict[str, str]:
    """Return class names from ImageNet's lists: the first of a class's words, or all words if two classes share it."""
    for name in WORDS:
        file = look.root / name
        if not file.is_file():
            continue
        known = set(keys)
        told: dict[str, str] = {}
        for line in _lines(file):
            key, _, words = line.replace("\t", " ", 1).partition(" ")
            if key in known and words.strip():
                told[key] = words.strip()
        firsts = [words.split(",")[0].strip() for words in told.values()]
        return {key: first if firsts.count(first) == 1 else told[key] for key, first in zip(told, firsts, strict=True)}
    return {}
