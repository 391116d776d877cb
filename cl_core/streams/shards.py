"""Images in larger files: webdataset's tar files, and parquet files that contain the images.

webdataset: members that share a name up to its first dot are one sample (0001.jpg, 0001.cls); the label is the text of
.cls, or `label` in .json. https://github.com/webdataset/webdataset
Parquet: a column of {bytes, path} and one of labels, as Hugging Face's `datasets` writes them.

The split is the prefix of a file's name (train-0000.tar, test-00000-of-00001.parquet), or its folder.
"""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl_core.config import ConfigError
from cl_core.streams.images import SUFFIXES, ImageFile, memory_bound, shown
from cl_core.streams.listings import LABELS, class_key, class_labels, label_column
from cl_core.streams.scanning import PACKED_TARS, Look, Parts, half_of, note
from cl_core.untrusted import read_text

SAMPLE = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")  # webdataset's: key and suffix of a member
MOST_LABEL = 1_000_000  # most bytes of a label
MOST_IMAGE = 512_000_000  # most bytes of an image


@dataclass(frozen=True)
class TarImage:
    """A member of an uncompressed tar file."""

    tar: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}/{self.name}"

    def read(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class ParquetColumn:
    """The images of a parquet file, loaded together on first access and freed after the last."""

    file: Path
    column: str
    _held: Any = field(default=None, repr=False)

    def encoded(self, row: int) -> bytes:
        if self._held is None:
            import pyarrow.parquet as pq

            self._held = pq.read_table(self.file, columns=[self.column]).column(self.column)
        value = self._held[row].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise ValueError("the table holds no bytes of it")
        return bytes(data)


@dataclass(frozen=True)
class ParquetImage:
    """A row of a parquet file."""

    column: ParquetColumn
    row: int

    def __str__(self) -> str:
        return f"{self.column.file}/{self.row:08}"

    def read(self) -> bytes:
        return self.column.encoded(self.row)


def shards_in(place: Path) -> list[Path]:
    """Return tar or parquet files that may hold images, in `place` or else in its folder `data`; only one kind."""
    for folder in (place, place / "data"):
        for suffix in (".tar", ".parquet"):
            if folder.is_dir() and (found := _shards(folder, suffix)):
                return found
    return []


def _shards(folder: Path, suffix: str) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.name.lower().endswith(suffix) and not file.name.startswith(".") and file.name != "metadata.parquet"
    )


def sharded(place: Path, look: Look) -> Parts | None:
    """Return split ("" for none) → class → images of the shards in `place`; None without shards. Raises ConfigError."""
    files = shards_in(place)
    if not files:
        packed = sorted(file.name for file in place.iterdir() if file.name.lower().endswith(PACKED_TARS))
        if packed:
            raise ConfigError(
                f"{shown(str(place / packed[0]))} is compressed, and images are read from where they lie in a tar: "
                "unpack it once (gunzip), or extract it to class folders"
            )
        return None
    parts: dict[str, dict[str, list[ImageFile]]] = {}
    named = [_split_of(file) for file in files]
    divided = all(half_of(name) for name in named)
    read = _tar if files[0].suffix.lower() == ".tar" else _parquet
    if read is _parquet:
        _refuse_too_large(files, place)
    for file, name in zip(files, named, strict=True):
        classes = parts.setdefault(name if divided else "", {})
        for key, image in read(file, look):
            classes.setdefault(key, []).append(image)
    _names_of_numbers(place, look, {key for classes in parts.values() for key in classes})
    return {part: {key: tuple(images) for key, images in classes.items()} for part, classes in parts.items()}


def _split_of(file: Path) -> str:
    found = re.match(r"[A-Za-z]+", file.name)
    return found.group().lower() if found else ""


def _names_of_numbers(place: Path, look: Look, keys: set[str]) -> None:
    """Read classnames.txt beside webdataset's shards or in the parent folder: line i is the name of class i."""
    for folder in (place, place.parent, look.root):
        file = folder / "classnames.txt"
        if file.is_file() and all(key.isdecimal() for key in keys):
            try:
                names = [line.strip() for line in read_text(file).splitlines()]
            except (OSError, ValueError) as error:
                raise ConfigError(f"cannot read {shown(str(file))}: {error}") from error
            look.names.update({key: names[int(key)] for key in keys if int(key) < len(names) and names[int(key)]})
            return


def _tar(file: Path, look: Look) -> list[tuple[str, ImageFile]]:
    """Return (class, image) of every sample that has both. Raises ConfigError."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                found = SAMPLE.fullmatch(member.name)
                if not member.isfile() or found is None or Path(member.name).name.startswith("."):
                    continue
                key, suffix = found.group(1), found.group(2).lower()
                parts = samples.setdefault(key, {})
                if suffix in parts:
                    raise ConfigError(f"{shown(str(file))} holds {shown(key)}.{shown(suffix)} twice")
                parts[suffix] = member
                if suffix in ("cls", "json") and member.size <= MOST_LABEL and (held := tar.extractfile(member)):
                    label = _label(suffix, held.read(), f"{shown(str(file))}/{shown(member.name)}")
                    if label and (suffix == "cls" or key not in labels):
                        labels[key] = label
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigError(f"cannot read {shown(str(file))}: {str(error) or type(error).__name__}") from error
    pairs: list[tuple[str, ImageFile]] = []
    for key, parts in samples.items():
        images = [suffix for suffix in parts if f".{suffix}" in SUFFIXES]
        if len(images) > 1:
            raise ConfigError(
                f"sample {shown(key)} of {shown(str(file))} has several images ({', '.join(images)}); keep one of them"
            )
        place = Path(f"{file}/{key}")
        if not images:
            note(look.skipped, place, look.root, f"a sample without an image (it has {', '.join(sorted(parts))[:60]})")
        elif key not in labels:
            note(look.skipped, place, look.root, "a sample without a label (.cls, or label in .json)")
        elif parts[images[0]].size > MOST_IMAGE:
            note(look.skipped, place, look.root, f"an image of {parts[images[0]].size:,} bytes")
        else:
            member = parts[images[0]]
            pairs.append((labels[key], TarImage(file, member.name, member.offset_data, member.size)))
    return pairs


def _label(suffix: str, data: bytes, where: str) -> str:
    text = data.decode("utf-8", "replace").strip()
    if suffix == "cls":
        return text
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(told, dict):
        return ""
    return class_key(next((told[name] for name in LABELS if name in told), None), where)


def _parquet(file: Path, look: Look) -> list[tuple[str, ImageFile]]:
    """Return (class, image) of every row. Raises ConfigError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = shown(str(file))
    try:
        schema = pq.read_schema(file)
        images = [
            column.name
            for column in schema
            if pa.types.is_binary(column.type)
            or (pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0)
        ]
        if not images:
            raise ConfigError(
                f"{where} holds no images (no column of bytes; it has {', '.join(map(shown, schema.names))}); a table "
                "that labels files is called metadata.parquet"
            )
        label = label_column([name for name in schema.names if name != images[0]], look, where)
        if not label:
            raise ConfigError(
                f"{where} has the columns {', '.join(map(shown, schema.names))}, and which of them names the class is "
                "not clear: set stream.label_column"
            )
        values = pq.read_table(file, columns=[label]).column(label).to_pylist()
    except ConfigError:
        raise
    except Exception as error:  # pyarrow raises its own exceptions
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"cannot read {where}: {why}") from error
    look.names.update(class_labels(schema).get(label, {}))
    column = ParquetColumn(file, images[0])
    pairs: list[tuple[str, ImageFile]] = []
    for row, value in enumerate(values):
        if key := class_key(value, where):
            pairs.append((key, ParquetImage(column, row)))
        else:
            note(look.skipped, Path(f"{file}/{row:08}"), look.root, "a row without a label")
    return pairs


def _refuse_too_large(files: list[Path], place: Path) -> None:
    """Raise ConfigError if the parquet files exceed the memory limit; they stay in memory while images are read."""
    total, bound = sum(file.stat().st_size for file in files), memory_bound()
    if total > bound:
        raise ConfigError(
            f"the parquet files of {shown(str(place))} have {total / 1e9:.1f} GB, more than the {bound / 1e9:.1f} GB "
            "set aside for them (half of this machine's memory); write their images to class folders, or keep fewer"
        )
