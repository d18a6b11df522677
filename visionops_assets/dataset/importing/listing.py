"""The files of a source, listed without an object for each: a batch may have any number."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.dataset.findings import Finding
from visionops_assets.dataset.importing.portions import MadeInPortions
from visionops_assets.dataset.importing.source import IMAGE_SUFFIXES
from visionops_assets.dataset.importing.text_column import TextColumn, decoded, in_order


class Listed(NamedTuple):
    """A file below a folder: its path from there, and the directory's entry."""

    name: str
    entry: os.DirEntry[str]


class Names(MadeInPortions[str]):
    """Texts as one Arrow array of their bytes; also those of file names that are no UTF-8."""

    def __init__(self, encoded: pa.Array) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def portion(self, start: int, stop: int) -> list[str]:
        return [decoded(one) for one in self.encoded.slice(start, stop - start).to_pylist()]


class Index:
    """Finds positions by a text of each, `key(position)`, at 16 bytes a text."""

    def __init__(self, texts: Sequence[str], key: Callable[[str], str] = lambda text: text) -> None:
        self._texts, self._key = texts, key
        hashes = np.fromiter((hash(key(text)) for text in texts), np.int64, len(texts))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def all(self, wanted: str) -> list[int]:
        """The positions whose text is `wanted`, ascending."""
        value = hash(wanted)
        place, found = int(np.searchsorted(self._hashes, value)), []
        while place < len(self._hashes) and self._hashes[place] == value:
            position = int(self._order[place])
            if self._key(self._texts[position]) == wanted:
                found.append(position)
            place += 1
        return found

    def first(self, wanted: str) -> int | None:
        """The first of `all`."""
        return next(iter(self.all(wanted)), None)


def walk(folder: Path, wanted: Callable[[str], bool], hidden: bool = True) -> Iterator[Listed]:
    """What lies anywhere below a folder and has a name that is wanted, in no order. Links to folders are not followed.

    A folder that may not be read is passed over.
    """
    yield from _walk(str(folder), "", wanted, hidden)


def _walk(folder: str, below: str, wanted: Callable[[str], bool], hidden: bool) -> Iterator[Listed]:
    folders = []
    try:
        entries = os.scandir(folder)
    except (PermissionError, NotADirectoryError, FileNotFoundError):
        return
    with entries:
        for entry in entries:
            if not hidden and entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif wanted(entry.name):
                yield Listed(below + entry.name, entry)
    for name in folders:
        yield from _walk(f"{folder}/{name}", f"{below}{name}/", wanted, hidden)


def paths_below(folder: Path, wanted: Callable[[str], bool]) -> list[Path]:
    """The few files below a folder whose names are wanted, sorted."""
    return sorted(folder / found.name for found in walk(folder, wanted))


def paths_in(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[Path]:
    """The few files and folders in a folder whose names are wanted, sorted."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if wanted(entry.name))


def is_image_name(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def image_files(folder: Path) -> tuple[Names, list[Finding]]:
    """The image files under a folder by their paths from there, sorted as paths are, and findings on links that
    lead out of it.

    Hidden files and folders, and files of other kinds, are passed over.
    """
    root = folder.resolve()
    outside: list[str] = []

    def inside() -> Iterator[str]:
        for name, entry in walk(folder, is_image_name, hidden=False):
            if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
                outside.append(name)
            elif entry.is_file():
                yield name

    names = sorted_names(inside())
    what, why = "is a link that leads out of the source", "put a copy there"
    in_order = sorted(outside, key=lambda name: name.split("/"))
    return names, [Finding("inside the source", name, what, why) for name in in_order]


def has_image_below(folder: Path) -> bool:
    """Whether an image lies in a folder in this one."""
    root = folder.resolve()
    return any(
        "/" in name
        and entry.is_file()
        and (not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(root))
        for name, entry in walk(folder, is_image_name, hidden=False)
    )


def sorted_names(names: Iterable[str]) -> Names:
    """Names of files in the order of their paths."""
    # Paths are sorted part by part, and no part of a name has a zero byte.
    keys = TextColumn(name.replace("/", "\0") for name in names).array()
    ordered = keys.take(pa.array(in_order(keys)))
    _, ends, content = ordered.buffers()
    slashed = pa.py_buffer(content.to_pybytes().replace(b"\0", b"/") if content is not None else b"")
    return Names(pa.Array.from_buffers(pa.binary(), len(ordered), [None, ends, slashed]))


def ascending(order: NDArray[np.integer]) -> bool:
    """Whether an order leaves everything where it is."""
    return bool((order == np.arange(len(order), dtype=order.dtype)).all())
