"""Regions of Label Studio: results with one id, of which one draws, and others label it or choose for it.

The class of a region is its label, else what was chosen for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from visionops_assets.dataset.importing.formats.regions import around, ellipse, turned_box
from visionops_assets.dataset.importing.plain_text import stated_size
from visionops_assets.dataset.importing.source import SourceError

_NAMED = ("labels", "rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels")
# What is drawn without saying where it ends.
_POINTS, _MASKS = "keypoint", "rle"
# Results that say nothing of an image.
_NO_RESULT = frozenset({"relation"})
_SHOWN = 60

Sides = tuple[float, float, float, float]


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
        names = [name for key in _NAMED for name in _texts(value.get(key), key, where)]
        chosen = _texts(value.get("choices"), "choices", where)
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
    values = [_value(result, where) for result in results]
    drawn = {
        _identity(result, at)
        for at, (result, value) in enumerate(zip(results, values, strict=True))
        if _draws(value)
    }
    regions: dict[str, Region] = {}
    choices: list[str] = []
    for at, (result, value) in enumerate(zip(results, values, strict=True)):
        kind, identity = str(result.get("type") or "unknown")[:_SHOWN], _identity(result, at)
        if kind in _NO_RESULT:
            continue
        if "choices" in value and identity not in drawn:
            choices += _texts(value["choices"], "choices", where)
            continue
        if identity not in drawn:
            regions[f"{at} alone"] = Region(kind)
            continue
        regions.setdefault(identity, Region()).take(kind, value, result, where)
    for region in regions.values():
        region.settle()
    return list(regions.values()), choices


def _identity(result: dict[str, Any], at: int) -> str:
    identity = result.get("id")
    return f"{at} of none" if identity is None else f"id {identity}"


def _value(result: dict[str, Any], where: str) -> dict[str, Any]:
    value = result.get("value")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SourceError(
            f"{where}: a {result.get('type')} has the value {str(value)[:_SHOWN]!r}, which is no object"
        )
    return value


def _texts(value: Any, key: str, where: str) -> list[str]:
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
        return around([(float(x), float(y)) for x, y in value["points"]])
    degrees = float(value.get("rotation") or 0)
    if "radiusX" in value:
        x, y, rx, ry = (float(value[side]) for side in ("x", "y", "radiusX", "radiusY"))
        left, top, w, h = ellipse(x * across, y * down, rx * across, ry * down, degrees)
        return left / across, top / down, w / across, h / down
    x, y, w, h = (float(value[side]) for side in ("x", "y", "width", "height"))
    return turned_box(x, y, w, h, degrees, width, height) if degrees else (x, y, w, h)
