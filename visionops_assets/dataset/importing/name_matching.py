r"""Which image a text means, the same way for all formats.

The first rung that fits decides, and two images on one rung are an ERROR: (1) the path from the annotation's
folder, or from the folder of images that stands for it (`labels/a` and `images/a`); (2) the path from the root; (3)
the only path that ends in it; (4) these with `/` for `\`, without `./` and `../`, percent-decoded, in NFC; (5) with
another prefix, one and the same for all texts of a file; (6) in another case; (7) without the suffix. Rungs 4 to 7
are told once a source.

So does the split that a source gives each image find it: by its lists and folders of splits, else by names of files
and folders.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from urllib.parse import unquote

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.file_listing import Index, Names, Renamed
from visionops_assets.dataset.importing.plain_text import composed
from visionops_assets.dataset.importing.split_names import (
    path_stem,
    split_in_folders,
    split_of_file,
    splits_in_folders,
)
from visionops_assets.dataset.importing.statements import Said

_IMAGE_FOLDERS = ("images", "jpegimages", "image", "imgs", "img", "data")
_ANNOTATION_FOLDERS = frozenset(
    {"labels", "label", "annotations", "annotation", "annots", "ann", "xml", "xmls", "metadata"}
)
Key = Callable[[str], str]


class Rung(NamedTuple):
    """How images and texts are compared, and what is told of it (nothing, where they are compared as they stand)."""

    of_image: Key
    of_text: Key
    how: str


@dataclass(frozen=True)
class Meant:
    """The images that a text means, by place: none, one, or several where that is an ERROR. `how` says on which rung,
    if it is one that is to be told."""

    places: Sequence[int] = ()
    how: str = ""


class Finder:
    """Finds images by texts that name them, also by the names under which they lie where they are called otherwise."""

    def __init__(self, images: Names, renamed: Renamed) -> None:
        self.images, self._renamed = images, renamed
        self._indices: dict[tuple[Key, bool], Index] = {}

    def meant(
        self, text: str, folder: str, split: str | None = None, bare: bool = False, part: str = ""
    ) -> Meant:
        """The images that a text in a file of this folder means, but for rung 5. Among images that are called alike
        those in a folder called as the `part` of the data are meant, else those of the `split`."""
        for rung in _BARE if bare else _RUNGS:
            for written in _written(text, folder, rung):
                if places := self._fitting(written, folder, rung, split, part):
                    return Meant(places, rung.how)
        return Meant()

    def with_prefix(self, texts: Sequence[str], bare: bool = False) -> tuple[dict[int, Meant], str]:
        """The images that texts mean by rung 5, by the place of the text, and the prefix that was replaced by which;
        a text whose image is not there has none."""
        split_up = [_slashed(unquote(text.strip())).split("/") for text in texts]
        shared = _shared(split_up)
        for rung in _BARE[1:] if bare else _RUNGS[1:]:
            for dropped in range(1, shared + 1):
                rests = ["/".join(parts[dropped:]) for parts in split_up]
                found = [self._behind(rest, rung) for rest in rests]
                prefixes = Counter(prefix for one in found for prefix in one)
                most = max(prefixes.values(), default=0)
                # One that few of them fit is a chance.
                if 2 * most <= len(texts):
                    continue
                best = sorted(prefix for prefix, times in prefixes.items() if times == most)
                meant = {
                    number: Meant([place for prefix in best for place in one.get(prefix, [])], PREFIX)
                    for number, one in enumerate(found)
                    if any(prefix in one for prefix in best)
                }
                before = "/".join(split_up[0][:dropped])
                return meant, f"{before}/ for {' or '.join(prefix or './' for prefix in best)}"
        return {}, ""

    def _behind(self, rest: str, rung: "Rung") -> dict[str, list[int]]:
        """The images whose path ends so, by what stands before it."""
        wanted, found = rung.of_text(rest), defaultdict(list)
        for place in self._index(rung.of_image, last=True).all(wanted.rpartition("/")[2]):
            path = rung.of_image(self.images[place])
            if path == wanted or path.endswith(f"/{wanted}"):
                parts = self.images[place].split("/")
                found["".join(f"{part}/" for part in parts[: -1 - wanted.count("/")])].append(place)
        return found

    def _fitting(self, text: str, folder: str, rung: "Rung", split: str | None, part: str) -> list[int]:
        wanted = rung.of_text(text)
        for before in self._folders(folder):
            path = f"{before}/{text}" if before else text
            if places := self._exact(path, rung):
                return places
        if places := self._exact(text, rung):
            return places
        places = [
            place
            for place in self._index(rung.of_image, last=True).all(wanted.rpartition("/")[2])
            if rung.of_image(self.images[place]).endswith(f"/{wanted}")
        ]
        if len(places) > 1 and part:
            within = [
                place
                for place in places
                if part.casefold() in _folder(self.images[place]).casefold().split("/")
            ]
            places = within or places
        if len(places) > 1 and split is not None:
            of_split = [place for place in places if split_in_folders(_folder(self.images[place])) == split]
            return of_split or places
        return places

    def _exact(self, path: str, rung: Rung) -> list[int]:
        index = self._index(rung.of_image, last=False)
        places = index.all(rung.of_text(path))
        if not places and (called := self._renamed(path)) != path:
            places = index.all(rung.of_text(called))
        return places

    def _folders(self, folder: str) -> Iterator[str]:
        """The folder of an annotation, and that of its images."""
        yield folder
        parts = folder.split("/")
        for place in reversed(range(len(parts))):
            if parts[place].lower() in _ANNOTATION_FOLDERS:
                for name in (*_IMAGE_FOLDERS, ""):
                    mirrored = "/".join(part for part in (*parts[:place], name, *parts[place + 1 :]) if part)
                    if (there := self._image_folders.get(mirrored.lower())) is not None:
                        yield there
                return

    @cached_property
    def _image_folders(self) -> dict[str, str]:
        return {folder.lower(): folder for folder in {_folder(name) for name in self.images}}

    def _index(self, key: Key, *, last: bool) -> Index:
        wanted = (key, last)
        if wanted not in self._indices:
            self._indices[wanted] = Index(
                self.images, (lambda name: key(name.rpartition("/")[2])) if last else key
            )
        return self._indices[wanted]


def _written(text: str, folder: str, rung: Rung) -> Iterator[str]:
    """A text as it stands, or as rung 4 has it."""
    if not rung.how:
        yield text
        if (stripped := text.strip()) != text:
            yield stripped
        return
    text = text.strip()
    slashed = _slashed(text)
    yield slashed
    if (decoded := unquote(slashed)) != slashed:
        yield decoded
    # From the folder that the dots lead to, and from the root.
    if ".." in text.split("/"):
        yield _slashed(f"{folder}/{text}" if folder else text, inside=True)
        yield _slashed(text, inside=True)


def _slashed(text: str, inside: bool = False) -> str:
    """With `/` for `\\`, without `./` and without `../`."""
    parts: list[str] = []
    for part in text.replace("\\", "/").split("/"):
        if part == "..":
            if inside and parts:
                parts.pop()
        elif part not in ("", ".") or (not part and not parts):
            parts.append(part)
    return "/".join(parts)


def _shared(texts: Sequence[Sequence[str]]) -> int:
    """How many folders all of them begin with."""
    count = 0
    for parts in zip(*(text[:-1] for text in texts), strict=False):
        if len(set(parts)) > 1:
            break
        count += 1
    return count


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _plain(name: str) -> str:
    return name


def _folded(name: str) -> str:
    return composed(name).casefold()


def _without(name: str) -> str:
    return path_stem(composed(name))


def _without_folded(name: str) -> str:
    return _without(name).casefold()


OTHERWISE, PREFIX, CASE, SUFFIX = (
    "written otherwise",
    "in another folder",
    "in another case",
    "with another suffix",
)
_RUNGS = (
    Rung(_plain, _plain, ""),
    Rung(composed, composed, OTHERWISE),
    Rung(_folded, _folded, CASE),
    Rung(_without, composed, SUFFIX),
    Rung(_without, _without, SUFFIX),
    Rung(_without_folded, _folded, SUFFIX),
    Rung(_without_folded, _without_folded, SUFFIX),
)
# Of texts that have no suffix by their nature.
_BARE = (
    Rung(path_stem, _plain, ""),
    Rung(_without, composed, OTHERWISE),
    Rung(_without_folded, _folded, CASE),
)


class GivenSplits:
    """Gives the split of an image by its place. `findings` are contradictions, `told` how names in lists were read, as
    (how, the text, what it means, how often, more of it)."""

    def __init__(self, said: Said, finder: Finder) -> None:
        self._said, self._finder = said, finder
        self.findings: list[Finding] = []
        self.told: list[tuple[str, str, Meant, int, str]] = []
        self._of_folder: dict[str, list[str]] = {}
        self._listed = self._by_list()

    def of(self, place: int, row: int) -> str | None:
        """The split of an image that a row is about, or none (-1)."""
        listed = self._listed.get(place)
        return listed if listed is not None else self._by_names(self._finder.images[place], row)

    def _by_names(self, name: str, row: int) -> str | None:
        folder, given = name.rpartition("/")[0], self._said.folders
        if given:
            fitting = [one for one in given if not one or f"{folder}/".startswith(f"{one}/")]
            return given[max(fitting, key=len)] if fitting else None
        file = None if row < 0 else self._said.files[self._said.file_of[row]]
        of_file = None if file is None else split_of_file(file)
        of_folders = self._splits_of(folder)
        if len({*of_folders, *([of_file] if of_file else [])}) > 1:
            told = [f"{' and of '.join(of_folders)} by its folders"]
            told += [f"{of_file} by {file}"] if of_file and not self._said.one_each else []
            why = "so it is not known which it is of; rename one of them, or draw by lot with --holdout 0.25"
            self.findings.append(Finding("one split", name, f"is of {' and of '.join(told)}", why))
        return of_file or split_in_folders(folder)

    def _splits_of(self, folder: str) -> list[str]:
        if folder not in self._of_folder:
            self._of_folder[folder] = splits_in_folders(folder)
        return self._of_folder[folder]

    def _by_list(self) -> dict[int, str]:
        """The split of each image by the lists of the source, by place."""
        found: dict[int, tuple[str, str]] = {}
        entries = self._said.listed
        meant = [self._in_list(text, file.rpartition("/")[0]) for text, _, file, _ in entries]
        lacking = [number for number, one in enumerate(meant) if not one.places]
        if lacking:
            moved, prefix = self._finder.with_prefix([entries[number][0] for number in lacking])
            for number, one in moved.items():
                meant[lacking[number]] = one
            if moved:
                first = min(moved)
                self.told.append((PREFIX, entries[lacking[first]][0], moved[first], len(moved), prefix))
        for (text, split, file, line), one in zip(entries, meant, strict=True):
            if not one.places:
                what = f"is listed ({file}, line {line}) but is not there"
                self.findings.append(Finding("complete", text, what, "add it, or remove its line"))
            images = self._finder.images
            if len({path_stem(images[place]) for place in one.places}) > 1:
                what = f"fits {images[one.places[0]]} and {images[one.places[1]]} ({file}, line {line})"
                self.findings.append(Finding("one image", text, what, "list the image by its path"))
                continue
            for place in one.places:
                before = found.setdefault(place, (split, file))
                if before[0] != split:
                    what = f"is listed in {before[1]} and in {file}, for {before[0]} and {split}"
                    self.findings.append(Finding("one split", images[place], what, "keep it in one list"))
        return {place: split for place, (split, _) in found.items()}

    def _in_list(self, text: str, folder: str) -> Meant:
        found = self._finder.meant(text, folder)
        if not found.places or found.how == SUFFIX:
            # Lists may name images without their suffix, which is nothing to be told.
            bare = self._finder.meant(text, folder, bare=True)
            found = bare if bare.places else found
        if found.how:
            self.told.append((found.how, text, found, 1, ""))
        return found
