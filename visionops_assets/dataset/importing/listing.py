"""The files of a source, walked through once and listed without an object for each: a batch may have any number."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.dataset.findings import Finding
from visionops_assets.dataset.importing.portions import MadeInPortions
from visionops_assets.dataset.importing.source import IMAGE_SUFFIXES
from visionops_assets.dataset.importing.text_column import TextColumn, decoded, in_order

_SYSTEM = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "_success",
        "@eadir",
        "$recycle.bin",
        "system volume information",
    }
)


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


@dataclass(frozen=True)
class Listing:
    """The files below `root`, by their paths from there, sorted as paths are: `images`, by their names, and `others`.

    What is no part of any format, hidden files and what systems leave behind, is counted in `passed`. `links` lead out
    of the source, `broken` ones lead nowhere; they are not read.
    """

    root: Path
    images: Names
    others: Names
    passed: int = 0
    links: Sequence[str] = ()
    broken: Sequence[str] = ()

    def ending(self, *suffixes: str) -> list[str]:
        """The other files whose names end so, whatever their case."""
        return [name for name in self.others if name.lower().endswith(suffixes)]

    def without(self, wanted: Callable[[str], bool]) -> "Listing":
        """The same without the images that are wanted elsewhere."""
        left = sorted_names(name for name in self.images if not wanted(name))
        return self if len(left) == len(self.images) else replace(self, images=left)

    def link_findings(self) -> list[Finding]:
        """That links lead out of the source."""
        what, why = (
            "is a link that leads out of the source",
            "put a copy there, or allow it with --follow-links",
        )
        broken = "is a link to what is not there", "put the file there, or remove the link"
        return [
            *(Finding("inside the source", name, what, why) for name in self.links),
            *(Finding("complete", name, *broken) for name in self.broken),
        ]


def list_files(root: Path, follow_links: bool = False) -> Listing:
    """Walk through a source once. Links are followed where they stay inside, or where that is allowed."""
    walk = _Walk(root.resolve(), follow_links)
    images, others = TextColumn(), TextColumn()
    for name in walk.below(str(root), "", ()):
        (images if is_image_name(name) else others).add(name)
    links, broken = (sorted(names, key=lambda name: name.split("/")) for names in (walk.outside, walk.broken))
    return Listing(root, _sorted(images), _sorted(others), walk.passed, links, broken)


class _Walk:
    def __init__(self, root: Path, follow_links: bool) -> None:
        self._root, self._follow = root, follow_links
        self.passed, self.outside, self.broken = 0, list[str](), list[str]()

    def below(self, folder: str, before: str, around: tuple[str, ...]) -> Iterator[str]:
        """The files of a folder and the folders in it, in no order. One that may not be read is passed over."""
        folders = []
        try:
            entries = os.scandir(folder)
        except (PermissionError, NotADirectoryError, FileNotFoundError):
            return
        with entries:
            for entry in entries:
                linked = entry.is_symlink()
                if is_no_part(entry.name):
                    self.passed += _files_in(entry)
                elif linked and not self._allowed(entry):
                    self.outside.append(before + entry.name)
                elif linked and not Path(entry.path).exists():
                    self.broken.append(before + entry.name)
                elif entry.is_dir():
                    place = os.path.realpath(entry.path) if linked else entry.path
                    # A link to a folder around it has no end.
                    if not (linked and any(f"{one}/".startswith(f"{place}/") for one in (*around, folder))):
                        folders.append(entry.name)
                elif entry.is_file():
                    yield before + entry.name
        for name in folders:
            inside = os.path.realpath(f"{folder}/{name}") if around or Path(folder, name).is_symlink() else ""
            yield from self.below(
                f"{folder}/{name}", f"{before}{name}/", (*around, inside or os.path.realpath(folder))
            )

    def _allowed(self, entry: os.DirEntry[str]) -> bool:
        return self._follow or Path(entry.path).resolve().is_relative_to(self._root)


def is_no_part(name: str) -> bool:
    """Whether a file or folder is of no format: hidden, or left behind by a system."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


def _files_in(entry: os.DirEntry[str]) -> int:
    if not entry.is_dir(follow_symlinks=False):
        return 1
    return sum(len(files) for _, _, files in os.walk(entry.path))


def is_image_name(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def paths_in(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[Path]:
    """The few files and folders in a folder whose names are wanted, sorted."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if wanted(entry.name))


def sorted_names(names: Iterable[str]) -> Names:
    """Names of files in the order of their paths."""
    return _sorted(TextColumn(names))


def _sorted(names: TextColumn) -> Names:
    # Paths are sorted part by part, and no part of a name has a zero byte.
    keys = _replaced(names.array(), b"/", b"\0")
    return Names(_replaced(keys.take(pa.array(in_order(keys))), b"\0", b"/"))


def _replaced(texts: pa.Array, old: bytes, new: bytes) -> pa.Array:
    _, ends, content = texts.buffers()
    changed = pa.py_buffer(content.to_pybytes().replace(old, new) if content is not None else b"")
    return pa.Array.from_buffers(pa.binary(), len(texts), [None, ends, changed])


def ascending(order: NDArray[np.integer]) -> bool:
    """Whether an order leaves everything where it is."""
    return bool((order == np.arange(len(order), dtype=order.dtype)).all())
