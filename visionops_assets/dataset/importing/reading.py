"""Reading a source: which format it has and why, what its files say, and what became of all of them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from resources.escaping import one_line
from resources.nearest import did_you_mean, there_are
from visionops_assets.common.arrow_columns import system_memory_pool
from visionops_assets.common.findings import ANY_ANNOTATED, WHOLE, Finding, findings_table
from visionops_assets.dataset.importing import archives
from visionops_assets.dataset.importing.class_names import named_as_stated, with_copies_as_groups
from visionops_assets.dataset.importing.file_listing import (
    Listing,
    is_image_name,
    is_no_part,
    list_files,
    sorted_names,
)
from visionops_assets.dataset.importing.formats import (
    cifar,
    coco,
    cvat,
    folders,
    label_studio,
    labels_table,
    mnist,
    own_batches,
    voc,
    yolo,
)
from visionops_assets.dataset.importing.image_columns import NO_SPLIT, Images, Recognised, Source
from visionops_assets.dataset.importing.image_source import SourceError, Sums, quoted
from visionops_assets.dataset.importing.resolving import Resolved, resolved
from visionops_assets.dataset.importing.source_files import Entry, Folder, image_suffix_of, suffix_of
from visionops_assets.dataset.importing.split_names import split_of
from visionops_assets.dataset.importing.statements import NOTHING_STATED, Made, Said, Stated

# The first that recognises a source reads it, so the more particular ones come first.
FORMATS: dict[str, ModuleType] = {
    module.NAME: module
    for module in (own_batches, coco, cvat, label_studio, voc, yolo, cifar, mnist, labels_table, folders)
}


_LONGEST_REFUSAL = 2000
_SETTINGS = (".yaml", ".yml", ".data", ".names")


@system_memory_pool()
def read_source(source: Path, stated: Stated = NOTHING_STATED, *, held_elsewhere: bool = False) -> Source:
    """Read a folder, table or archive in the format stated, or in the first that recognises it.

    Where neither the data nor, as `held_elsewhere` says, `main` has a holdout, val is it: without one nothing could be
    judged. Raises `SourceError`.
    """
    if stated.format is not None and stated.format not in FORMATS:
        raise SourceError(f"no format is called {stated.format!r}; {there_are(stated.format, list(FORMATS))}")
    if not source.exists():
        beside = [path.name for path in source.parent.iterdir()] if source.parent.is_dir() else []
        raise SourceError(f"{source}: does not exist{did_you_mean(source.name, beside)}")
    archives.check_known(source)
    with _as_strangers_have_it(source):
        unpacked = archives.Unpacked(source, stated.encoding) if archives.is_archive(source) else None
        place = _Place.of(unpacked.folder if unpacked else source, stated, said=unpacked is None)
        recognised = _recognised(place.listing, source, stated)
        return _read(place, recognised, stated, held_elsewhere, unpacked)


@contextmanager
def _as_strangers_have_it(source: Path) -> Iterator[None]:
    """Files in which anything may stand: what a reader chokes on is the source's fault, and named as such."""
    try:
        yield
    except SourceError as error:
        if len(str(error)) <= _LONGEST_REFUSAL:
            raise
        # Names and numbers of theirs, however many there are.
        raise type(error)(one_line(error, _LONGEST_REFUSAL)) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, UnicodeError) as error:
        raise SourceError(
            f"{source}: has something where its format has something else; --debug shows where"
        ) from error


@dataclass(frozen=True)
class _Place:
    """What is read: the files of a folder, or of the one folder that is in it."""

    listing: Listing
    findings: list[Finding]
    # Files around it, by kind, and images among them.
    around: Counter[str]
    images_around: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, source: Path, stated: Stated, *, said: bool) -> "_Place":
        if source.is_file() and source.suffix.lower() in _SETTINGS:
            # Settings of YOLO name what lies around them.
            source = source.parent
        if source.is_file():
            whole = list_files(Folder(str(source.parent), links=stated.links))
            return cls(replace(whole, others=sorted_names([source.name])), [], Counter())
        around, images_around = Counter[str](), list[str]()
        if stated.no_links:
            # Nor may the folder itself be one.
            inside = outer = Folder(str(source.absolute().parent), source.name, stated.links)
            try:
                with inside.entries():
                    pass
            except NotADirectoryError as error:
                raise SourceError(f"{source}: {error.strerror}; put the folder itself there") from error
        else:
            inside = outer = Folder(str(source), links=stated.links)
        listing = list_files(inside)
        # An archive is unwrapped once in any case; what a format fits as it lies keeps its names.
        wrapped = not said
        while (folder := _only_folder(inside)) is not None and (wrapped or not _fits(listing, stated)):
            with inside.entries() as (_, entries):
                for entry in entries:
                    if is_image_name(entry.name) and not is_no_part(entry.name):
                        images_around.append(entry.name)
                    elif entry.name != folder:
                        around[kind_of_file(entry.name)] += 1
            inside, wrapped = inside.within(folder), False
            listing = list_files(inside)
        findings = []
        if inside != outer and said:
            name = inside.path.relative_to(outer.path).as_posix()
            what = "is the only folder of the source"
            findings.append(Finding("read inside", f"{name}/", what, "what lies in it is read", "WARN"))
        findings += [
            Finding("annotated", name, "lies beside the only folder of the source", "it is left out", "WARN")
            for name in sorted(images_around)
        ]
        return cls(listing, findings, around, images_around)


def _fits(listing: Listing, stated: Stated) -> bool:
    """Whether a format fits that does not take folders for classes."""
    names = [stated.format] if stated.format else [name for name in FORMATS if name != folders.NAME]
    return any(FORMATS[name].recognises(listing) for name in names if name != folders.NAME)


def _only_folder(folder: Folder) -> str | None:
    """The one folder with everything in it. One with nothing but images is a class, one called after a split that."""
    only: Entry | None = None
    with folder.entries() as (_, entries):
        for entry in entries:
            if is_no_part(entry.name) or folders.is_document(entry.name):
                continue
            if entry.is_file and is_image_name(entry.name):
                # One or two pictures of the whole lie there, no class of its own.
                continue
            if only is not None:
                return None
            only = entry
    if only is None or not only.is_folder or split_of(only.name) is not None:
        return None
    try:
        with folder.entries(only.name) as (_, inside):
            images_only = all(is_image_name(entry.name) or is_no_part(entry.name) for entry in inside)
    except OSError:
        return None
    return None if images_only else only.name


def _recognised(listing: Listing, source: Path, stated: Stated) -> Recognised:
    if stated.format is not None:
        return Recognised(stated.format, "it is stated with --format", [])
    fitting = [
        (name, reason)
        for name, module in FORMATS.items()
        if (reason := module.recognises(listing)) is not None
    ]
    if (lacking := folders.is_lfs_pointer(listing)) is not None:
        raise SourceError(
            f"{source}: {lacking} is a pointer of Git LFS, not the file; fetch the files with `git lfs pull`"
        )
    known = [name for name, _ in fitting]
    general = set(known) <= {folders.NAME, labels_table.NAME}
    if general and (other := folders.foreign_format(listing, not fitting)) is not None:
        raise SourceError(f"{source}: {other}")
    if fitting:
        return Recognised(*fitting[0], fitting[1:])
    raise SourceError(
        f"{source}: is in none of the formats {', '.join(FORMATS)}{_instead(listing)}; expected for example a folder "
        "with images and a labels.csv (columns path, label), or one folder for each class"
    )


def _instead(listing: Listing) -> str:
    kinds = Counter(kind_of_file(name) for name in listing.others)
    if len(listing.images):
        kinds["images"] = len(listing.images)
    link = next(
        (f"; {quoted(each.image, plain=True)} {each.what}: {each.why}" for each in listing.link_findings()),
        "",
    )
    if not kinds:
        return f": it holds no files{link}"
    first = next((name for name in listing.others if kind_of_file(name) in folders.FILES_NOT_READ), None)
    reason = f" ({first} {folders.FILES_NOT_READ[kind_of_file(first)]})" if first else ""
    return (
        ": it holds " + ", ".join(f"{times:,} {kind}" for kind, times in kinds.most_common(5)) + reason + link
    )


def _read(
    place: _Place, recognised: Recognised, stated: Stated, held_elsewhere: bool, unpacked: object
) -> Source:
    listing = place.listing
    module = FORMATS[recognised.format]
    found: Said | Made = module.read(listing, stated)
    findings = list(place.findings)
    keeps: tuple[object, ...] = (unpacked,)
    none_labelled, supposed = None, 0
    if isinstance(found, Said):
        none_labelled = found.none_labelled
        within, beside = listing, 0
        if found.unpacked is not None:
            within, beside = list_files(found.unpacked.folder), len(listing.images)
            keeps = (unpacked, found.unpacked)
        one = resolved(found, within, within.folder, stated)
        supposed = one.supposed
        images, seen = one.images, len(within.images) + beside
        images_left, annotations, left_out = one.images_left_out, one.annotations, one.annotations_left_out
        if beside:
            images_left["beside a table with the images in it"] += beside
            what = f"{beside:,} images lie beside a table with images in it"
            findings.append(Finding("annotated", listing.images[0], what, "they are left out", "WARN"))
        findings += listing.link_findings() + one.findings
        findings += _nothing_annotated(one, stated, found.empty_is_answer)
        read, not_read = found.read, found.not_read
    else:
        images, images_left, read, not_read = found.images, found.left_out, found.read, dict[str, str]()
        seen = len(images) + images_left.total()
        if found.images_in_files and len(listing.images):
            seen += len(listing.images)
            images_left["beside files with the images in them"] += len(listing.images)
            what = f"{len(listing.images):,} images lie beside files with images in them"
            findings.append(Finding("annotated", listing.images[0], what, "they are left out", "WARN"))
        annotations = found.annotations or len(images)
        left_out = found.annotations_left_out
        findings += found.findings
    images, without, dropped = named_as_stated(images, stated)
    images_left, left_out = images_left + without, left_out + dropped
    files_left = Counter(not_read.values())
    for name, reason in _special(listing, read | not_read.keys()):
        files_left[reason.partition(";")[0]] += 1
        findings.append(Finding("images read", name, reason, "it is left out", "WARN"))
        not_read = {**not_read, name: reason}
    rest = Counter(kind_of_file(name) for name in listing.others if name not in read and name not in not_read)
    if listing.passed:
        rest["hidden or of the system"] += listing.passed
    rest += place.around
    if place.images_around:
        seen += len(place.images_around)
        images_left["beside the only folder"] += len(place.images_around)
    links = len(listing.links) + len(listing.broken)
    for why, times in (
        ("is a link that is not followed", links),
        ("is a pipe, socket or device", len(listing.special)),
        ("is a link to a file that counts already", len(listing.again)),
    ):
        if times:
            files_left[why] += times
    sums = Sums(
        len(listing.images)
        + len(listing.others)
        + listing.passed
        + place.around.total()
        + len(place.images_around)
        + listing.not_followed(),
        len(listing.images) + len(place.images_around),
        len(read),
        rest,
        files_left,
        seen,
        len(images),
        images_left,
        annotations,
        annotations - left_out.total(),
        left_out,
    )
    # Batches of ours have their sides and groups for good.
    if module is not own_batches:
        if stated.holdout is not None:
            images = replace(images, split=np.full(len(images), NO_SPLIT, np.int8))
        images = _with_holdout(with_copies_as_groups(images), held_elsewhere)
    findings += _hidden(listing)
    told = findings_table(findings)
    return Source(
        recognised.format,
        images,
        told,
        keeps,
        sums,
        recognised,
        none_labelled,
        not_read,
        supposed,
        listing.linked or listing.not_followed() > 0,
    )


def _nothing_annotated(one: Resolved, stated: Stated, empty_is_answer: bool) -> Iterator[Finding]:
    """A source of boxes without a single one is a template that nobody filled in, unless a person says otherwise."""
    images = len(one.images) + one.images_left_out["without annotation"]
    said = one.annotations or stated.unlabelled == "background"
    if said or not images or (len(one.images) and (empty_is_answer or not one.images.detects)):
        return
    what = f"has no annotation on any of its {images:,} images"
    why = "label them, or say --unlabelled background where all of them are scenes without an object"
    yield Finding(ANY_ANNOTATED, WHOLE, what, why)


def _hidden(listing: Listing) -> Iterator[Finding]:
    """Images in folders that systems and tools hide: they may be meant."""
    for folder, times in sorted(listing.hidden.items()):
        what = f"is a hidden folder with {times:,} images"
        yield Finding(
            "images read", f"{folder}/", what, "they are not read; rename it where they are meant", "WARN"
        )


def _special(listing: Listing, known: set[str]) -> Iterator[tuple[str, str]]:
    """Files that may be images, and are not read as such."""
    for name in listing.others:
        if name in known:
            continue
        reason = folders.FILES_NOT_READ.get(kind_of_file(name))
        if reason is not None:
            yield name, reason
        elif suffix_of(name) is None:
            kind = image_suffix_of(listing.file(name).head(16))
            if kind is not None:
                yield name, f"has no suffix; it is an image, rename it to {name.rpartition('/')[2]}{kind}"


def kind_of_file(name: str) -> str:
    """What a file is by its name: its suffix."""
    return suffix_of(name) or "no suffix"


def _with_holdout(images: Images, held_elsewhere: bool) -> Images:
    if held_elsewhere or "holdout" in images.splits() or None in images.splits():
        return images
    return images.with_splits({"val": "holdout"})
