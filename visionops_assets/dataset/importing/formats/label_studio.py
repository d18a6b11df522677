"""Label Studio's own JSON: a list of tasks with rectangles, polygons and choices.

Coordinates are hundredths of the image. Of several annotations of a task the last one that was not cancelled counts. A
task without a result shows no object where others have boxes, and is not labelled elsewhere.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from visionops_assets.dataset.importing.columns import SHARES
from visionops_assets.dataset.importing.formats.json_stream import JSONFile
from visionops_assets.dataset.importing.formats.regions import around, ellipse, turned_box
from visionops_assets.dataset.importing.listing import Listing
from visionops_assets.dataset.importing.options import Stated
from visionops_assets.dataset.importing.said import Said
from visionops_assets.dataset.importing.source import Box, SourceError
from visionops_assets.dataset.importing.source_files import SourceFile

NAME = "label-studio"

_HEAD = 1 << 14
_OUTLINES = ("rectanglelabels", "polygonlabels", "ellipselabels")
_NAMED = ("labels", *_OUTLINES)
_UPLOADED = "?d="


def recognises(listing: Listing) -> str | None:
    """Whether there is a JSON file with a list of tasks."""
    found = _files(listing)
    return f"{found[0]} has tasks of Label Studio" if found else None


def read(listing: Listing, stated: Stated) -> Said:
    """What the tasks say of their images. Raises `SourceError` naming file and task."""
    said = Said(kept_by="task", why_unlabelled="has no annotation")
    unlabelled = total = 0
    for name in _files(listing):
        said.read.add(name)
        tasks = [
            _Task(task, f"{listing.file(name)}: task {number}")
            for number, task in _tasks(listing.file(name), stated)
        ]
        classifies = any(task.choices for task in tasks) and not any(task.boxes for task in tasks)
        for number, task in enumerate(tasks):
            if not task.result:
                unlabelled += 1
            if (classifies and not task.choices) or (not classifies and not task.answered):
                continue
            if task.more:
                said.tell(
                    "annotated once",
                    f"has {task.more + 1} annotations ({name})",
                    "the last one counts",
                    "WARN",
                )
            for kind, times in task.not_read.items():
                said.left_out[f"of kind {kind}"] += times
                said.tell("all read", f"has {times} results of kind {kind}", "they are not read", "WARN")
            if classifies:
                chosen = sorted(set(task.choices))
                if len(chosen) > 1:
                    said.tell(
                        "one label an image", f"has the choices {', '.join(chosen)} ({name})", "keep one"
                    )
                said.left_out["other choices of the image"] += len(task.choices) - 1
                said.add(task.image, name, number, label=task.choices[0])
            else:
                if not task.boxes:
                    why = "it is taken for an image without objects"
                    said.tell("annotated", "has an empty annotation", why, "WARN")
                said.add(task.image, name, number, boxes=task.boxes, frame=SHARES)
        total += len(tasks)
    if total == unlabelled:
        said.none_labelled = f"{', '.join(sorted(said.read))}: {total:,} tasks, none labelled"
    said.left_out = +said.left_out
    return said


class _Task:
    """A task: its image, its boxes as shares and its choices."""

    def __init__(self, task: Any, where: str) -> None:
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict):
            raise SourceError(f"{where} has no data; expected Label Studio's tasks, exported as JSON")
        self.image = _image(data, where)
        given = [
            one
            for one in task.get("annotations") or task.get("completions") or ()
            if isinstance(one, dict) and not one.get("was_cancelled")
        ]
        self.answered, self.more = bool(given), max(0, len(given) - 1)
        self.result = given[-1].get("result") or [] if given else []
        self.boxes: list[Box] = []
        self.choices: list[str] = []
        self.not_read: dict[str, int] = {}
        for one in self.result:
            self._take(one, where)

    def _take(self, one: dict[str, Any], where: str) -> None:
        value, kind = one.get("value") or {}, str(one.get("type"))
        if "choices" in value:
            self.choices += [str(choice) for choice in value["choices"]]
            return
        labels = next((value[name] for name in _NAMED if value.get(name)), None)
        try:
            box = _outline(value, int(one.get("original_width") or 0), int(one.get("original_height") or 0))
        except (TypeError, ValueError, KeyError) as error:
            raise SourceError(f"{where}: a {kind} has no usable coordinates") from error
        if box is None or not labels:
            if one.get("type") in ("rectangle", "relation"):
                return
            self.not_read[kind] = self.not_read.get(kind, 0) + 1
            return
        x, y, w, h = (side / 100 for side in box)
        self.boxes += [{"x": x, "y": y, "w": w, "h": h, "label": str(label)} for label in labels]


def _outline(value: dict[str, Any], width: int, height: int) -> tuple[float, float, float, float] | None:
    """Left, top, width and height of what is drawn, in hundredths."""
    if "points" in value:
        return around([(float(x), float(y)) for x, y in value["points"]])
    if "radiusX" in value:
        x, y, rx, ry = (float(value[side]) for side in ("x", "y", "radiusX", "radiusY"))
        # In hundredths of the sides, which are not equally long.
        across, down = (width or 100) / 100, (height or 100) / 100
        left, top, w, h = ellipse(
            x * across, y * down, rx * across, ry * down, float(value.get("rotation") or 0)
        )
        return left / across, top / down, w / across, h / down
    if "width" not in value:
        return None
    x, y, w, h = (float(value[side]) for side in ("x", "y", "width", "height"))
    degrees = float(value.get("rotation") or 0)
    return turned_box(x, y, w, h, degrees, width, height) if degrees else (x, y, w, h)


def _image(data: dict[str, Any], where: str) -> str:
    names = ("image", "img", "image_url", "photo", "picture")
    text = next((data[name] for name in names if isinstance(data.get(name), str)), None)
    text = text or next((one for one in data.values() if isinstance(one, str)), None)
    if text is None:
        raise SourceError(f"{where} names no image in its data ({', '.join(data)})")
    # Of local files the path comes as a query.
    return unquote(text.partition(_UPLOADED)[2]) if _UPLOADED in text else text


def _files(listing: Listing) -> list[str]:
    return [name for name in listing.ending(".json") if _is_tasks(listing.file(name))]


def _is_tasks(path: SourceFile) -> bool:
    head = path.head(_HEAD).removeprefix(b"\xef\xbb\xbf")
    return (
        head.lstrip().startswith(b"[")
        and b'"data"' in head
        and (b'"annotations"' in head or b'"completions"' in head or b'"predictions"' in head)
    )


def _tasks(path: SourceFile, stated: Stated) -> Iterator[tuple[int, Any]]:
    yield from JSONFile(path, stated.encoding).items()
