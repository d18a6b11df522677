"""The models that a recipe may name: `models.csv`, made from the installed libraries by `docs/model_table.py`, and
which adapter makes each.

Light: it is read wherever a project file names a model, and none of the libraries is loaded for it.
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from resources.error_family import NotFound
from resources.nearest import did_you_mean

TABLE = Path(__file__).with_name("models.csv")
_ROOM = "visionops_assets.training.catalogue"
# By what stands before the slash of a name: the class that makes it.
ADAPTERS = {
    "timm": f"{_ROOM}.timm_classifier.TimmClassifier",
    "torchvision": f"{_ROOM}.torchvision_detector.TorchvisionDetector",
    "transformers": f"{_ROOM}.transformers_detector.TransformersDetector",
    "yolox": f"{_ROOM}.yolox_detector.YoloxDetector",
}

# What the strides of a family's networks divide, and which `init_args` it takes besides; others pass theirs on.
_DIVISORS = {"transformers": 32, "yolox": 32}
_ARGUMENTS = {
    "torchvision": ("detections", "overlap", "smallest_anchor"),
    "yolox": ("detections", "overlap"),
}


class UnknownModel(NotFound, ValueError):
    """A name that is in no table; the message has the nearest that are."""


@dataclass(frozen=True)
class CataloguedModel:
    """A model by its name. Licences are SPDX identifiers, or what the library calls them; empty where it says none.

    `parameters` counts those of the model as its library makes it, head included; None where nobody counted yet.
    `weights` is where its published weights are, a repository of Hugging Face's hub or an address; `side` the height
    and width of the images that these were made for, in pixels. `needs` is the extra to install. `tested` says that a
    test trains it and exports it.
    """

    name: str
    task: str
    parameters: int | None
    licence: str
    weights_licence: str
    weights: str
    side: int
    needs: str
    tested: bool


@cache
def catalogue() -> dict[str, CataloguedModel]:
    """Every model that a recipe may name, by name."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["name"]: _read(row) for row in csv.DictReader(file)}


def _read(row: dict[str, str]) -> CataloguedModel:
    texts = {key: row[key] for key in ("name", "task", "licence", "weights_licence", "weights", "needs")}
    counted = int(row["parameters"]) if row["parameters"] else None
    return CataloguedModel(**texts, parameters=counted, side=int(row["side"]), tested=bool(row["tested"]))


def catalogued(name: str) -> CataloguedModel:
    """The model of a name. Raises `UnknownModel` with the nearest names."""
    found = catalogue().get(name)
    if found is None:
        meant = did_you_mean(name, catalogue(), "; `visionops models` lists them")
        raise UnknownModel(f"no model is called {name}{meant}")
    return found


def adapter_of(name: str) -> str:
    """The class path of the adapter that makes a model. Raises `UnknownModel` for a family that has none."""
    family, slash, _ = name.partition("/")
    if not slash or family not in ADAPTERS:
        catalogued(name)
    return ADAPTERS[family]


def why_it_does_not_fit(name: str, height: int, width: int, init_args: Iterable[str]) -> str | None:
    """What a model cannot take of a recipe, in words that name the field; None where nothing is known against it."""
    family = name.partition("/")[0]
    divisor, takes = _DIVISORS.get(family, 1), _ARGUMENTS.get(family)
    if height % divisor or width % divisor:
        return f"recipe.input: {name} takes sides that {divisor} divides, got {height} × {width}"
    wrong = [argument for argument in init_args if takes is not None and argument not in takes]
    if takes is not None and wrong:
        return (
            f"recipe.model.init_args: {name} takes no {wrong[0]}{did_you_mean(wrong[0], takes)}; it takes "
            f"{', '.join(takes)}"
        )
    return None
