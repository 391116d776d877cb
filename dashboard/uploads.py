"""Safe unpacking of an uploaded ZIP of images into a separate folder.

Only files of image streams are extracted: images, and tables and shards that label them. Paths outside the folder,
links, encrypted members, and more than `MOST_BYTES` or `MOST_FILES` are refused before or during writing, and nothing
is left behind. The folder is named by the content, so that a ZIP is unpacked only once.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from cl_core.store import StoreError
from cl_core.untrusted import printable
from dashboard.changes import changes

MOST_BYTES = 4_000_000_000  # limit of the unpacked size
MOST_FILES = 200_000
MOST_MEMBER = 1_000_000_000  # most bytes of one file
KEPT = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif", ".avif", ".csv",
    ".jsonl", ".json", ".txt", ".parquet", ".tar", ".heic", ".heif", ".jxl",
)  # fmt: skip
PLACE = ".pictures"  # below the folder of runs
_CHUNK = 1 << 20


@changes
def unpack_images(source: IO[bytes], name: str, runs: Path) -> Path:
    """Unpack the ZIP `source`, called `name`, and return its folder, or the single folder that contains everything.
    Raises StoreError with one sentence."""
    digest = hashlib.sha256()
    source.seek(0)
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
    stem = re.sub(r"[^\w.-]+", "-", Path(name).stem).strip(".-")[:60] or "pictures"
    target = Path(runs) / PLACE / f"{stem}-{digest.hexdigest()[:8]}"
    if not target.is_dir():
        source.seek(0)
        _unpack(source, printable(name, 80), target)
    inside = [entry for entry in target.iterdir() if not entry.name.startswith(("__", "."))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


def _unpack(source: IO[bytes], called: str, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(source) as archive:
            members = _checked(archive, called)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacking-") as place:
                room = Path(place) / "images"
                room.mkdir()
                left = MOST_BYTES
                for member in members:
                    left = _extract(archive, member, room, left, called)
                room.rename(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise StoreError(f"{called} is not a valid ZIP file ({printable(error, 80)})") from error
    except OSError as error:
        if target.is_dir():  # another page has unpacked it meanwhile
            return
        raise StoreError(f"cannot unpack {called} into {target.parent}: {error.strerror or error}") from error


def _checked(archive: zipfile.ZipFile, called: str) -> list[zipfile.ZipInfo]:
    """Return the members to unpack. Raises StoreError for forbidden ones."""
    members = archive.infolist()
    if len(members) > MOST_FILES:
        raise StoreError(f"{called} holds {len(members):,} files; at most {MOST_FILES:,} are unpacked")
    kept = []
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
            raise StoreError(f"{called} names a place outside its folder ({printable(member.filename, 60)}); refused")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise StoreError(f"{called} holds a link ({printable(member.filename, 60)}); pack the files themselves")
        if member.flag_bits & 0x1:
            raise StoreError(f"{called} is encrypted; unpack it and name its folder")
        junk = any(part.startswith((".", "__")) for part in path.parts)
        if not member.is_dir() and not junk and path.suffix.lower() in KEPT:
            kept.append(member)
    total = sum(member.file_size for member in kept)
    if total > MOST_BYTES or any(member.file_size > MOST_MEMBER for member in kept):
        raise StoreError(
            f"{called} holds {total / 1e9:.1f} GB; at most {MOST_BYTES / 1e9:.0f} GB (and {MOST_MEMBER / 1e9:.0f} GB "
            "a file) are unpacked here: unpack it yourself and name its folder"
        )
    if not kept:
        raise StoreError(f"{called} holds no images (such as {', '.join(KEPT[:4])}) and no tables or shards of them")
    return kept


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, room: Path, left: int, called: str) -> int:
    """Write one file and return the remaining byte budget. Sizes in headers are not trusted."""
    file = room.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, file.open("xb") as out:
        while chunk := packed.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                shutil.rmtree(room, ignore_errors=True)
                raise StoreError(f"{called} unpacks to more than {MOST_BYTES / 1e9:.0f} GB; refused")
            out.write(chunk)
    return left
