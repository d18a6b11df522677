"""The files of a source, walked through once and listed without an object for each: a batch may have any number."""

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from visionops_assets.common.arrow_columns import MadeInPortions, TextColumn, decoded, in_order
from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.image_source import IMAGE_SUFFIXES, SourceError
from visionops_assets.dataset.importing.source_files import Folder, SourceFile
from visionops_assets.dataset.importing.split_names import split_in_folders

# Folders in folders; people have a few.
_DEEPEST, _SHOWN = 200, 80
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


# Hidden folders that hold copies and small pictures of what tools show.
_TOOLS = frozenset(
    {
        *(".git", ".dvc", ".hg", ".svn", ".cache", ".thumbnails", ".thumbs", ".ipynb_checkpoints", ".trash"),
        *(".trashes", ".spotlight-v100", ".fseventsd", ".dropbox.cache", ".idea", ".vscode", ".venv"),
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


class Renamed:
    """Files that only a link says a split of are called by the link's name: people make such links to split what lies
    in one folder. Called with the name of a file it gives the one that counts, `own_name` of that the one without."""

    def __init__(self, files: Mapping[str, str], folders: Mapping[str, str]) -> None:
        """Both are links with what they lead to."""
        self.disputed: dict[str, str] = {}
        self._files, self._folders = self._named(files, _folder_of), self._named(folders, str)
        self._own_files, self._own_folders = (
            {link: other for other, link in named.items()} for named in (self._files, self._folders)
        )

    def _named(self, links: Mapping[str, str], folder_of: Callable[[str], str]) -> dict[str, str]:
        named: dict[str, str] = {}
        for link, other in links.items():
            split = split_in_folders(folder_of(link))
            if split is None or split_in_folders(folder_of(other)) is not None:
                continue
            first = named.setdefault(other, link)
            if split != split_in_folders(folder_of(first)):
                self.disputed[other] = f"{first}, {link}"
        return named

    def __bool__(self) -> bool:
        return bool(self._files or self._folders)

    def __call__(self, name: str) -> str:
        return _called(name, self._files, self._folders)

    def own_name(self, name: str) -> str:
        """The name that needs no link of a file by the name that counts."""
        return _called(name, self._own_files, self._own_folders)


def _called(name: str, files: Mapping[str, str], folders: Mapping[str, str]) -> str:
    if name in files:
        return files[name]
    folder = name
    while folders and "/" in folder:
        folder = folder.rpartition("/")[0]
        if folder in folders:
            return folders[folder] + name.removeprefix(folder)
    return name


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


@dataclass(frozen=True)
class Listing:
    """The files below a folder, by their paths from there, sorted as paths are: `images`, by their names, and `others`.

    What is no part of any format, hidden files and what systems leave behind, is counted in `passed`. `links` lead out
    of the source, `broken` ones lead nowhere, `special` are pipes, sockets and devices; they are not read. `again` are
    links to files and folders that are listed anyway, with what they lead to: that counts, by its own name, or by the
    link's where only that says a split.
    """

    folder: Folder
    images: Names
    others: Names
    passed: int = 0
    links: Sequence[str] = ()
    broken: Sequence[str] = ()
    special: Sequence[str] = ()
    again: Mapping[str, str] = field(default_factory=dict)
    folders_again: Mapping[str, str] = field(default_factory=dict)
    renamed: Renamed = field(default_factory=lambda: Renamed({}, {}))
    # Images in hidden folders, by the folder: not among those that are `passed` without a word.
    hidden: Mapping[str, int] = field(default_factory=dict)
    # Whether any of the files is reached by a link.
    linked: bool = False

    @property
    def root(self) -> Path:
        """Where the folder lies."""
        return self.folder.path

    def file(self, name: str) -> SourceFile:
        """A file of it."""
        return self.folder.file(name)

    def ending(self, *suffixes: str) -> list[str]:
        """The other files whose names end so, whatever their case."""
        return [name for name in self.others if name.lower().endswith(suffixes)]

    def without(self, wanted: Callable[[str], bool]) -> "Listing":
        """The same without the images that are wanted elsewhere."""
        left = sorted_names(name for name in self.images if not wanted(name))
        return self if len(left) == len(self.images) else replace(self, images=left)

    def not_followed(self) -> int:
        """How many files were seen that are none: they are left out, and told by `link_findings`."""
        return len(self.links) + len(self.broken) + len(self.special) + len(self.again)

    def link_findings(self) -> list[Finding]:
        """That links lead out of the source, or nowhere, and what is no file."""
        what, why = (
            "is a link that leads out of the source",
            "put a copy there, or allow it with --follow-links",
        )
        if self.folder.links == "none":
            what, why = "is a link, and nothing here may be one", "put the file itself there"
        broken = "is a link to what is not there", "put the file there, or remove the link"
        special = "is a pipe, socket or device", "it is not read; remove it"
        once = "it counts once"
        disputed = "is in more than one split by links", "keep one of them"
        return [
            *(Finding("inside the source", name, what, why) for name in self.links),
            *(Finding("complete", name, *broken) for name in self.broken),
            *(Finding("images read", name, *special, "WARN") for name in self.special),
            *(
                Finding("counted once", name, f"is a link to {other}", once, "WARN")
                for name, other in self.again.items()
            ),
            *(
                Finding(
                    "counted once",
                    f"{name}/",
                    f"is a link to {other}/",
                    "what lies there counts once",
                    "WARN",
                )
                for name, other in self.folders_again.items()
            ),
            *(
                Finding("one split", name, f"{disputed[0]}: {links}", disputed[1])
                for name, links in self.renamed.disputed.items()
            ),
        ]


def list_files(root: Path | Folder) -> Listing:
    """Walk through a folder once. Links are followed where they stay inside the source, or where that is allowed; what
    is reached twice counts once, by the name that needs no link. Raises `SourceError` for folders without end."""
    folder = root if isinstance(root, Folder) else Folder(str(root))
    walk = _Walk(folder)
    images, others = TextColumn(), TextColumn()
    for name in walk.files():
        (images if is_image_name(name) else others).add(name)
    outside, broken, special = (
        sorted(names, key=lambda name: name.split("/")) for names in (walk.outside, walk.broken, walk.special)
    )
    again, folders_again = (dict(sorted(found.items())) for found in (walk.again, walk.folders_again))
    renamed = Renamed(again, folders_again)

    def called(names: Names) -> Names:
        return sorted_names(map(renamed, names)) if renamed else names

    return Listing(
        folder,
        called(_sorted(images)),
        called(_sorted(others)),
        walk.passed,
        outside,
        broken,
        special,
        again,
        folders_again,
        renamed,
        walk.hidden,
        walk.linked or bool(renamed),
    )


class _Walk:
    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.passed, self.linked = 0, False
        self.outside, self.broken, self.special = list[str](), list[str](), list[str]()
        self.again: dict[str, str] = {}
        self.folders_again: dict[str, str] = {}
        self.hidden = Counter[str]()
        # Folders by device and inode: links that lead to one again have no end, or are the same files twice.
        self._folders: dict[tuple[int, int], str] = {}
        self._links: list[str] = []

    def files(self) -> Iterator[str]:
        """Every file, in no order. Links come last, so that what needs none keeps its name."""
        yield from self._below("")
        to_files: list[str] = []
        while self._links:
            links, self._links = sorted(self._links), []
            for name in links:
                if self._is_folder(name):
                    yield from self._below(name)
                else:
                    to_files.append(name)
        yield from self._linked_files(sorted(to_files))

    def _below(self, start: str) -> Iterator[str]:
        """The files of a folder and the folders in it. One that may not be read is passed over."""
        waiting = [(start, False)]
        while waiting:
            folder, passed = waiting.pop()
            if folder.count("/") >= _DEEPEST:
                raise SourceError(
                    f"{self._folder.path}: {folder[:_SHOWN]}… is more than {_DEEPEST} folders deep; move what is "
                    "meant up"
                )
            before = f"{folder}/" if folder else ""
            try:
                with self._folder.entries(folder) as (state, entries):
                    if not passed:
                        identity = (state.st_dev, state.st_ino)
                        if identity in self._folders:
                            if folder == start and not _is_within(start, self._folders[identity]):
                                self.folders_again[start] = self._folders[identity]
                            continue
                        self._folders[identity] = folder
                        self.linked |= bool(start)
                    for entry in entries:
                        name, no_part = before + entry.name, passed or is_no_part(entry.name)
                        if entry.is_folder:
                            waiting.append((name, no_part))
                        elif no_part:
                            self.passed += 1
                            if passed and is_image_name(name) and not is_no_part(entry.name):
                                self._hide(name)
                        elif entry.is_link:
                            self._links.append(name)
                        elif entry.is_file:
                            yield name
                        else:
                            self.special.append(name)
            except (PermissionError, NotADirectoryError, FileNotFoundError):
                continue
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                # A folder when its own folder was read, a link that leads out by now.
                self.outside.append(folder)

    def _hide(self, name: str) -> None:
        """Count an image in a hidden folder; of folders that tools keep for themselves none is meant."""
        parts = name.split("/")
        at = next(place for place, part in enumerate(parts) if is_no_part(part))
        if parts[at].startswith(".") and parts[at].lower() not in _TOOLS:
            self.hidden["/".join(parts[: at + 1])] += 1

    def _is_folder(self, name: str) -> bool:
        try:
            with self._folder.entries(name):
                return True
        except OSError:
            return False

    def _linked_files(self, names: Sequence[str]) -> Iterator[str]:
        reached: dict[str, str] = {}
        for name in names:
            try:
                target = self._folder.target(name)
            except OSError:
                self.outside.append(name)
                continue
            try:
                self._folder.open(name).close()
            except PermissionError:
                pass
            except OSError as error:
                (self.special if error.errno == errno.EINVAL else self.broken).append(name)
                continue
            first = self._listed(target) or reached.setdefault(target, name)
            if first == name:
                self.linked = True
                yield name
            else:
                self.again[name] = first

    def _listed(self, target: str) -> str | None:
        """The name by which the file at a path is listed anyway, if it is."""
        around, _, name = target.rpartition("/")
        try:
            state = Path(around or "/").stat()
        except OSError:
            return None
        folder = self._folders.get((state.st_dev, state.st_ino))
        if folder is None or is_no_part(name):
            return None
        return f"{folder}/{name}" if folder else name


def _is_within(name: str, folder: str) -> bool:
    """Whether a path leads into a folder: a link there to the folder itself has no end, and says nothing."""
    return not folder or f"{name}/".startswith(f"{folder}/")


def is_no_part(name: str) -> bool:
    """Whether a file or folder is of no format: hidden, or left behind by a system."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


def is_image_name(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


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
