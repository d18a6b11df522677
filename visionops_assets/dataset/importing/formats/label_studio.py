"""Label Studio's own JSON: a list of tasks with rectangles, polygons, ellipses and choices.

Coordinates are hundredths of the image as it is stored, also where it was shown turned (`image_rotation`). Of
several annotations of a task the last one that was not cancelled counts. A source with boxes is about objects: a
task without a result shows none then, and one with other results only is not annotated. Elsewhere choices label
whole images.

A region is made of results with one id, of which one draws, and others label it or choose for it. The class of a
region is its label, else what was chosen for it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.file_listing import Index, Listing
from visionops_assets.dataset.importing.formats.json_and_xml import JSONFile
from visionops_assets.dataset.importing.image_columns import SHARES, ImageRecord
from visionops_assets.dataset.importing.image_source import Box, SourceError, quoted
from visionops_assets.dataset.importing.plain_text import stated_size
from visionops_assets.dataset.importing.source_files import SourceFile
from visionops_assets.dataset.importing.statements import Said, Stated
from visionops_assets.images.box_geometry import box_around_ellipse, box_around_points, turned_box

_NAMED = ("labels", "rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels")
# What is drawn without saying where it ends.
_POINTS, _MASKS = "keypoint", "rle"
# Results that say nothing of an image.
_NO_RESULT = frozenset({"relation"})
_SHOWN = 60

Sides = tuple[float, float, float, float]
NAME = "label-studio"
_HEAD = 1 << 14
_LOCAL = "?d="
# What is put before the name of a file that is uploaded.
# Tasks as they are imported: whoever did so may give them back as they were.
_NOBODY_ANSWERED = re.compile(rb'\[\s*\{\s*"data"\s*:\s*\{\s*"(image|img|image_url|photo|picture)"\s*:')
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


@dataclass
class Region:
    """`box` is left, top, width and height in hundredths, None where it has none that is read; `names` are its classes;
    `size` the width and height in pixels of the image that it was drawn on, (0, 0) if unknown; `beside` the kinds of
    its results that are not read."""

    kind: str = ""
    box: Sides | None = None
    names: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    turned: bool = False
    beside: list[str] = field(default_factory=list)
    _chosen: list[str] = field(default_factory=list)

    def take(self, kind: str, value: dict[str, Any], result: dict[str, Any], where: str) -> None:
        """One result more of this region."""
        size = stated_size(result.get("original_width"), result.get("original_height"))
        self.size = self.size if self.size != (0, 0) else size
        self.turned |= result.get("image_rotation") not in (None, 0, "0")
        names = [name for key in _NAMED for name in _texts_of(value.get(key), key, where)]
        chosen = _texts_of(value.get("choices"), "choices", where)
        drawn = _draws(value)
        if drawn and not self.kind:
            self.kind = kind
            try:
                self.box = _outline(value, *size) if drawn not in (_POINTS, _MASKS) else None
            except (TypeError, ValueError, KeyError) as error:
                raise SourceError(f"{where}: a {kind} has no usable coordinates") from error
        elif not names and not chosen:
            self.beside.append(kind)
        self.names += [name for name in names if name not in self.names]
        self._chosen += chosen

    def settle(self) -> None:
        """Choices made for a region are its class where nothing else is; else they are told."""
        if self.names:
            self.beside += ["choices of a region"] * len(self._chosen)
        else:
            self.names = list(dict.fromkeys(self._chosen))


def regions_of(results: Sequence[dict[str, Any]], where: str) -> tuple[list[Region], list[str]]:
    """The regions of an annotation, and the choices made for the whole image; other results are regions that have
    no box. Raises `SourceError`."""
    values = [_result_value(result, where) for result in results]
    drawn = {
        _result_identity(result, at)
        for at, (result, value) in enumerate(zip(results, values, strict=True))
        if _draws(value)
    }
    regions: dict[str, Region] = {}
    choices: list[str] = []
    for at, (result, value) in enumerate(zip(results, values, strict=True)):
        kind, identity = str(result.get("type") or "unknown")[:_SHOWN], _result_identity(result, at)
        if kind in _NO_RESULT:
            continue
        if "choices" in value and identity not in drawn:
            choices += _texts_of(value["choices"], "choices", where)
            continue
        if identity not in drawn:
            regions[f"{at} alone"] = Region(kind)
            continue
        regions.setdefault(identity, Region()).take(kind, value, result, where)
    for region in regions.values():
        region.settle()
    return list(regions.values()), choices


def _result_identity(result: dict[str, Any], at: int) -> str:
    identity = result.get("id")
    return f"{at} of none" if identity is None else f"id {identity}"


def _result_value(result: dict[str, Any], where: str) -> dict[str, Any]:
    value = result.get("value")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SourceError(
            f"{where}: a {result.get('type')} has the value {str(value)[:_SHOWN]!r}, which is no object"
        )
    return value


def _texts_of(value: Any, key: str, where: str) -> list[str]:
    """One text or a list of them. Raises `SourceError`."""
    listed = [] if value is None else value if isinstance(value, list) else [value]
    # A taxonomy has paths.
    if any(isinstance(one, (dict, list)) or one is None for one in listed):
        raise SourceError(f"{where}: its {key} are {str(value)[:_SHOWN]!r}; expected a list of names")
    return [str(one) for one in listed]


def _draws(value: dict[str, Any]) -> str:
    """What a value draws, if it draws."""
    if "rle" in value or value.get("format") == "rle":
        return _MASKS
    if "points" in value or "radiusX" in value or ("width" in value and "height" in value):
        return "outline"
    return _POINTS if "x" in value and "y" in value else ""


def _outline(value: dict[str, Any], width: int, height: int) -> Sides:
    """Left, top, width and height of what is drawn, in hundredths."""
    # In hundredths of the sides, which are not equally long.
    across, down = (width or 100) / 100, (height or 100) / 100
    if "points" in value:
        return box_around_points([(float(x), float(y)) for x, y in value["points"]])
    degrees = float(value.get("rotation") or 0)
    if "radiusX" in value:
        x, y, rx, ry = (float(value[side]) for side in ("x", "y", "radiusX", "radiusY"))
        left, top, w, h = box_around_ellipse(x * across, y * down, rx * across, ry * down, degrees)
        return left / across, top / down, w / across, h / down
    x, y, w, h = (float(value[side]) for side in ("x", "y", "width", "height"))
    return turned_box(x, y, w, h, degrees, width, height) if degrees else (x, y, w, h)


def recognises(listing: Listing) -> str | None:
    """Whether there is a JSON file with a list of tasks."""
    found = _files(listing)
    return f"{found[0]} has tasks of Label Studio" if found else None


def read(listing: Listing, stated: Stated) -> Said:
    """What the tasks say of their images. Raises `SourceError` naming file and task."""
    said = Said(kept_by="task", empty_is_answer=True, why_unlabelled="has no annotation that is read")
    files = {name: [*_tasks(listing.file(name), stated)] for name in _files(listing)}
    tasks = [task for some in files.values() for task in some]
    _name_as_stored(tasks, listing, said)
    detects = any(task.boxes for task in tasks)
    classifies = not detects and any(task.choices for task in tasks)
    for name, some in files.items():
        said.read.add(name)
        passed, kinds = 0, Counter[str]()
        for number, task in enumerate(some):
            if task.problem is not None:
                said.refuse(task.image, name, number, task.problem)
                continue
            if not task.answered or (classifies and task.is_empty):
                continue
            if task.choices if classifies else task.boxes or task.is_empty:
                _add(said, task, name, number, classifies)
            else:
                passed += 1
                kinds += task.kinds()
        if passed:
            said.left_out.update({f"of kind {kind}": times for kind, times in kinds.items()})
            said.findings.append(_passed(name, passed, kinds, "choice" if classifies else "box"))
    said.none_labelled = _none_labelled(said, tasks)
    said.left_out = +said.left_out
    return said


def _add(said: Said, task: "_Task", file: str, number: int, classifies: bool) -> None:
    """A task whose image is taken, and what is told of it."""
    if task.more:
        said.tell(
            "annotated once", f"has {task.more + 1} annotations ({file})", "the last one counts", "WARN"
        )
    for kind, times in task.others.items():
        said.left_out[f"of kind {kind}"] += times
        said.tell("all read", f"has {times} results of kind {kind}", "they are not read", "WARN")
    if task.turned:
        what, why = (
            "was shown turned in Label Studio",
            "its boxes are taken as those of the image as it is stored",
        )
        said.tell("size as stated", f"{what} ({file})", why, "WARN")
    if classifies:
        chosen = sorted(set(task.choices))
        if len(chosen) > 1:
            said.tell(
                "one label an image",
                f"has the choices {', '.join(quoted(one, plain=True) for one in chosen[:12])} ({file})",
                "keep one",
            )
        said.left_out["other choices of the image"] += len(task.choices) - 1
        said.add(task.image, file, number, ImageRecord(task.choices[0]))
        return
    if not task.boxes:
        why = "it is taken for an image without objects"
        said.tell("annotated", "has an empty annotation", why, "WARN")
    said.left_out["choices of an image with boxes"] += len(task.choices)
    said.add(task.image, file, number, ImageRecord(boxes=task.boxes, frame=task.frame))


def _passed(file: str, times: int, kinds: Counter[str], lacking: str) -> Finding:
    found = ", ".join(f"{number:,} of kind {kind}" for kind, number in kinds.most_common(4))
    what = f"has {times:,} tasks with results but no {lacking} ({found})"
    return Finding("annotated", file, what, "their images are not annotated by them", "WARN")


def _none_labelled(said: Said, tasks: Sequence["_Task"]) -> str | None:
    if any(task.boxes or task.choices for task in tasks):
        return None
    kinds = sum((task.kinds() for task in tasks), Counter[str]())
    others = f" with a box or choice; there are results of kind {', '.join(sorted(kinds))}" if kinds else ""
    return f"{', '.join(sorted(said.read))}: {len(tasks):,} tasks, none labelled{others}"


class _Task:
    """A task: its image, its boxes in the frame that they say (or as shares), its choices, other results by kind."""

    def __init__(self, task: Any, where: str) -> None:
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict):
            raise SourceError(f"{where} has no data; expected Label Studio's tasks, exported as JSON")
        self.image, self._where = _image(data, where), where
        self.problem: SourceError | None = None
        self.forget(None)

    def forget(self, problem: SourceError | None) -> None:
        """Nothing was said of its image that can be read."""
        self.answered, self.more, self.turned, self.frame, self.problem = False, 0, False, SHARES, problem
        self.boxes: list[Box] = []
        self.choices: list[str] = []
        self.others = Counter[str]()

    def take_results(self, task: dict[str, Any]) -> None:
        """What its annotation says. Raises `SourceError`."""
        where = self._where
        given = [
            one
            for one in _listed(task.get("annotations") or task.get("completions"), "annotations", where)
            if not one.get("was_cancelled")
        ]
        self.answered, self.more = bool(given), max(0, len(given) - 1)
        results = _listed(given[-1].get("result"), "result", where) if given else []
        regions, self.choices = regions_of(results, where)
        self.turned = any(region.turned for region in regions)
        sizes = {region.size for region in regions}
        self.frame = sizes.pop() if len(sizes) == 1 and (0, 0) not in sizes else SHARES
        for region in regions:
            self._take(region)

    def _take(self, region: Region) -> None:
        for kind in region.beside:
            self.others[kind] += 1
        if region.box is None or not region.names:
            self.others[region.kind if region.box is None else f"{region.kind} without a label"] += 1
            return
        width, height = (1, 1) if self.frame == SHARES else self.frame
        x, y, w, h = (side / 100 * by for side, by in zip(region.box, (width, height) * 2, strict=True))
        self.boxes += [{"x": x, "y": y, "w": w, "h": h, "label": name} for name in region.names]

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was said of its image."""
        return not (self.boxes or self.choices or self.others)

    def kinds(self) -> Counter[str]:
        """Its results that are no boxes, by kind."""
        return self.others + Counter(choices=len(self.choices))


def _listed(value: Any, what: str, where: str) -> list[dict[str, Any]]:
    """A list of objects; empty where there is none. Raises `SourceError`."""
    if value in (None, []):
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise SourceError(f"{where}: its {what} is no list of objects ({str(value)[:60]!r})")
    return value


def _name_as_stored(tasks: Sequence[_Task], listing: Listing, said: Said) -> None:
    """Take off what Label Studio puts before the names of uploads, where the images do not have it."""
    if not any(_UPLOADED.match(task.image.rpartition("/")[2]) for task in tasks):
        return
    there, first, times = Index(listing.images, lambda name: name.rpartition("/")[2]), "", 0
    for task in tasks:
        last = task.image.rpartition("/")[2]
        own = _UPLOADED.sub("", last, count=1) if _UPLOADED.match(last) else last
        if own != last and there.first(last) is None and there.first(own) is not None:
            first, times, task.image = first or last, times + 1, own
    if times:
        what = f"is called {first!r} there: {times:,} names of images begin with what Label Studio puts before uploads"
        name = _UPLOADED.sub("", first, count=1)
        said.findings.append(Finding("named as written", name, what, "they are read without it", "WARN"))


def _image(data: dict[str, Any], where: str) -> str:
    names = ("image", "img", "image_url", "photo", "picture")
    text = next((data[name] for name in names if isinstance(data.get(name), str)), None)
    text = text or next((one for one in data.values() if isinstance(one, str)), None)
    if text is None:
        raise SourceError(f"{where} names no image in its data ({', '.join(data)[:200]})")
    # Of local files the path comes as a query; a signed address has one that says nothing of it.
    if _LOCAL in text:
        return unquote(text.partition(_LOCAL)[2])
    return text.partition("?")[0] if text.startswith(("http://", "https://")) else text


def _files(listing: Listing) -> list[str]:
    return [name for name in listing.ending(".json") if _is_tasks(listing.file(name))]


def _is_tasks(path: SourceFile) -> bool:
    head = path.head(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()
    if _NOBODY_ANSWERED.match(head):
        return True
    return (
        head.startswith(b"[")
        and b'"data"' in head
        and (b'"annotations"' in head or b'"completions"' in head or b'"predictions"' in head)
    )


def _tasks(path: SourceFile, stated: Stated) -> Iterator[_Task]:
    for number, content in JSONFile(path, stated.encoding).items():
        task = _Task(content, f"{path}: task {number}")
        try:
            task.take_results(content)
        except SourceError as error:
            if not stated.leave_out_errors:
                raise
            task.forget(error)
        yield task
