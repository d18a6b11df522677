"""Names of classes and groups as a source has them, brought to those that count."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from resources.error_family import Invalid
from visionops_assets.common.arrow_columns import TextColumn, decoded
from visionops_assets.common.findings import Finding, Severity
from visionops_assets.dataset.importing.image_columns import Images
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.plain_text import composed
from visionops_assets.dataset.importing.statements import Stated

# How people list several classes in one field.
_LISTED = re.compile(r"[,;|]")
# What Roboflow calls the copies of an image: `name_jpg.rf.<hash>.jpg`.
_COPY = re.compile(r"(.+)\.rf\.[0-9a-zA-Z]{8,}\.[a-zA-Z]+")


def named_as_stated(images: Images, stated: Stated) -> tuple[Images, Counter[str], Counter[str]]:
    """Labels in NFC, renamed and left out as stated; and why images and annotations were left out.

    Raises `SourceError` where a class that is stated is none of the source.
    """
    found = {composed(name.strip()) for name in class_names(images)}
    for name in (*stated.renamed, *stated.dropped):
        if composed(name) not in found:
            raise SourceError(
                f"no class of the source is called {name!r}; there are {', '.join(sorted(found)[:20])}"
            )
    renamed = {composed(old): composed(new) for old, new in stated.renamed.items()}

    def called(name: str) -> str:
        plain = composed(name.strip())
        return renamed.get(plain, plain)

    images = relabelled(images, called)
    dropped = {composed(name) for name in stated.dropped}
    if not dropped:
        return images, Counter(), Counter()
    return _without(images, dropped)


def relabelled(images: Images, called: Callable[[str], str]) -> Images:
    """Images with their classes called otherwise."""
    if all(called(name) == name for name in class_names(images)):
        return images
    if images.label is not None:
        label = images.label.dictionary_encode()
        names = TextColumn(called(decoded(name)) for name in label.dictionary.to_pylist()).array()
        images = replace(images, label=pa.DictionaryArray.from_arrays(label.indices, names).cast(pa.binary()))
    if images.boxes is not None:
        flat = images.boxes.flatten()
        label = flat.field("label").dictionary_encode()
        names = pa.array([called(name) for name in label.dictionary.to_pylist()], pa.string())
        labels = pa.DictionaryArray.from_arrays(label.indices, names).cast(pa.string())
        images = replace(images, boxes=_with(images.boxes, [*(flat.field(side) for side in "xywh"), labels]))
    return _own_called(images, called)


def _own_called(images: Images, called: Callable[[str], str | None]) -> Images:
    """Images with the classes of what another task learns from called otherwise, or left out."""
    if images.own is None:
        return images
    column, task = images.own
    truths, told = images.extra[column]
    changed = [None if truth is None else task.with_classes(truth, called) for truth in truths.to_pylist()]
    return replace(images, extra={**images.extra, column: (pa.array(changed, truths.type), told)})


def class_names(images: Images) -> list[str]:
    """The classes of images or of their boxes, each once."""
    names: list[str] = []
    if images.label is not None:
        names += [decoded(name) for name in pc.unique(images.label.drop_null()).to_pylist()]
    if images.boxes is not None:
        names += [name for name in pc.unique(images.boxes.flatten().field("label")).to_pylist() if name]
    if images.own is not None:
        column, task = images.own
        truths = images.extra[column][0].cast(task.kind)
        names += [name for name in pc.unique(task.named(truths)[0]).to_pylist() if name]
    return names


def as_the_project_calls_them(images: Images, classes: Sequence[str]) -> Images:
    """Labels that differ from a class of the project in how they are composed, as the project has them."""
    own = {composed(name): name for name in classes}
    return relabelled(images, lambda name: name if name in classes else own.get(composed(name), name))


def check_apart(classes: Iterable[str], source: str) -> None:
    """Raise `SourceError` where classes differ in case or white space only, or one is a list of others."""
    classes = list(classes)
    for finding in findings_on_names(classes):
        if finding.severity == "ERROR":
            raise SourceError(f"{finding.image} of this source ({source}) {finding.what}; {finding.why}")
    twins = _alike(classes)
    if twins:
        shown = "; ".join(" and ".join(repr(name) for name in names) for names in twins[:3])
        first = twins[0]
        raise SourceError(
            f"classes of this source ({source}) differ only in case or spaces: {shown}. Where they are one, say it "
            f"with --map {first[1]!r}={first[0]!r}"
        )


def findings_on_names(classes: Iterable[str]) -> list[Finding]:
    """Classes that differ in case or white space only (WARN), and such that are lists of others (ERROR where all of
    these are classes themselves)."""
    classes = sorted(classes)
    findings = []
    for names in _alike(classes):
        what = f"differs from {', '.join(map(repr, names[1:]))} in case or spaces only"
        why = f"where they are one, say it with --map {names[1]!r}={names[0]!r}"
        findings.append(Finding("classes apart", f"class {names[0]!r}", what, why, "WARN"))
    known = {composed(name) for name in classes}
    for name in classes:
        parts = [composed(part.strip()) for part in _LISTED.split(name) if part.strip()]
        there = [part for part in parts if part in known]
        if len(parts) > 1 and there:
            are = "is a class" if len(there) == 1 else "are classes"
            what = f"is a list, of which {', '.join(map(repr, there))} {are}"
            why = "an image has one label: keep one, leave it out with --drop-class, or call it otherwise with --map"
            severity: Severity = "ERROR" if len(there) == len(parts) else "WARN"
            findings.append(Finding("classes apart", f"class {name!r}", what, why, severity))
    return findings


def _alike(classes: Iterable[str]) -> list[list[str]]:
    """Classes that differ in case or white space only."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike["".join(name.split()).casefold()].append(name)
    return [names for names in alike.values() if len(names) > 1]


def with_copies_as_groups(images: Images) -> Images:
    """Copies that Roboflow made of one image as one group, where images have no group: on two sides they would leak."""
    may_be = pc.match_substring(images.name, ".rf.")
    if images.group is not None:
        may_be = pc.and_(may_be, images.group.is_null())
    if not pc.any(may_be).as_py():
        return images
    groups = TextColumn()
    own: Sequence[bytes | None] = [None] * len(images) if images.group is None else images.group.to_pylist()
    for name, before in zip(images.names, own, strict=True):
        copy = _COPY.fullmatch(name.rpartition("/")[2])
        groups.add(copy[1] if before is None and copy else None if before is None else decoded(before))
    return replace(images, group=groups.array())


def _without(images: Images, dropped: Iterable[str]) -> tuple[Images, Counter[str], Counter[str]]:
    left_out, annotations = Counter[str](), Counter[str]()
    if images.label is not None:
        out = pc.is_in(images.label, value_set=TextColumn(dropped).array()).to_numpy(zero_copy_only=False)
        left_out["of a class that is left out"] = annotations["of a class that is left out"] = int(out.sum())
        images = images.take(np.flatnonzero(~out))
    if images.boxes is not None:
        flat = images.boxes.flatten()
        kept = pc.invert(pc.is_in(flat.field("label"), value_set=pa.array(sorted(dropped), pa.string())))
        kept = kept.to_numpy(zero_copy_only=False)
        annotations["of a class that is left out"] += int((~kept).sum())
        parents = pc.list_parent_indices(images.boxes).to_numpy()
        counts = np.bincount(parents[kept], minlength=len(images))
        ends = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        missing = images.boxes.is_null() if images.boxes.null_count else None
        boxes = pa.ListArray.from_arrays(ends, flat.take(pa.array(np.flatnonzero(kept))), mask=missing)
        images = replace(images, boxes=boxes)
    images = _own_called(images, lambda name: None if name in dropped else name)
    return images, +left_out, +annotations


def _with(boxes: pa.Array, columns: Sequence[pa.Array]) -> pa.Array:
    """Lists of boxes as long as these, of other columns."""
    counts = pc.list_value_length(boxes).fill_null(0).to_numpy(zero_copy_only=False)
    ends = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    flat = pa.StructArray.from_arrays(list(columns), ["x", "y", "w", "h", "label"])
    return pa.ListArray.from_arrays(ends, flat, mask=boxes.is_null() if boxes.null_count else None)


def renames(texts: Iterable[str]) -> Mapping[str, str]:
    """What `old=new` on the command line says. Raises ValueError."""
    pairs = [text.partition("=") for text in texts]
    wrong = next((old + is_ + new for old, is_, new in pairs if not (old and is_ and new)), None)
    if wrong is not None:
        raise Invalid(f"--map {wrong}: expected OLD=NEW, for example --map Three=three")
    return {old.strip("'\""): new.strip("'\"") for old, _, new in pairs}
