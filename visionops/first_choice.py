"""What `visionops init` starts a project with, chosen from a first look, and why: split, recipe, floor, sizes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from visionops.first_recipe import first_recipe
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.config.recipe import Recipe
from visionops_assets.dataset.importing.first_look import FirstLook
from visionops_assets.dataset.shares import with_holdout
from visionops_assets.project import Splits

_FEWEST = GateRules().min_holdout
# Room for images that the audit takes out.
_ASKED = _FEWEST + 2
_MOST_HELD_OUT = 0.5
# The worst that a first detector may be, trained from nothing on few boxes.
_DETECTED = 0.3
# Of a classifier: so much at least, and so much of what a guess at the commonest class leaves.
_CLASSIFIED, _OF_THE_REST = 0.5, 0.25


@dataclass(frozen=True)
class FirstChoice:
    """Recipe, share of each side, floor, and the sides that part small, medium and large boxes (None: the usual ones).

    `why` explains in a sentence or two `input`, `epochs`, `threads`, `augmentations`, `floor` and, where they are not
    the usual ones, `splits`.
    """

    recipe: Recipe
    shares: Mapping[str, float]
    floor: float
    object_sizes: tuple[int, int] | None
    why: Mapping[str, str]


def first_choice(look: FirstLook) -> FirstChoice:
    """Choose for a source as it looks. The same images give the same choice, on any machine."""
    shares, why_splits = _shares(look)
    without = look.images - sum(look.splits.values())
    training = look.splits.get("train", 0) + round(without * shares["train"])
    chosen = first_recipe(look, training)
    floor, why_floor = _floor(look)
    why = {**chosen.why, "floor": why_floor, **({"splits": why_splits} if why_splits else {})}
    return FirstChoice(chosen.recipe, shares, floor, _object_sizes(look), why)


def holding_out(choice: FirstChoice, holdout: float) -> FirstChoice:
    """The same choice with another share held out."""
    why = {field: text for field, text in choice.why.items() if field != "splits"}
    val = round(with_holdout(choice.shares, holdout)["val"], 2)
    shares = {"train": round(1 - holdout - val, 4), "val": val, "holdout": holdout}
    return replace(choice, shares=shares, why=why)


def _shares(look: FirstLook) -> tuple[dict[str, float], str]:
    """The share of each side, and what there is to say of it: nothing where the usual shares do.

    Of few images more are held out, so that the gate has those that it asks for.
    """
    shares = Splits().shares()
    without = look.images - sum(look.splits.values())
    few = without == look.images < _ASKED / shares["holdout"]
    if few:
        holdout = min(_MOST_HELD_OUT, math.ceil(100 * _ASKED / look.images) / 100)
        shares = {"train": round(0.9 - holdout, 2), "val": 0.1, "holdout": holdout}
    held = look.splits.get("holdout", 0) + round(without * shares["holdout"])
    if held < _FEWEST:
        more = math.ceil((_FEWEST - held) / shares["holdout"])
        return shares, (
            f"About {held} images are held out, and the gate asks for {_FEWEST}: the verdict will be INSUFFICIENT "
            f"until there are about {more} more labelled images."
        )
    share = f"{shares['holdout']:.0%}"
    why = f"Few images: {share} of them are held out, so that the gate has the {_FEWEST} that it asks for."
    return shares, why if few else ""


def _floor(look: FirstLook) -> tuple[float, str]:
    """A floor that a first model can reach and a guess cannot, and why."""
    if look.boxes is not None:
        return _DETECTED, (
            f"In mAP@0.5. {_DETECTED:g} is what a first detector of few images can reach, and one of shifted boxes "
            "cannot. Raise it to what production needs."
        )
    commonest = max(look.classes, key=lambda label: look.classes[label])
    share = look.classes[commonest] / sum(look.classes.values())
    floor = max(_CLASSIFIED, math.floor(100 * (share + (1 - share) * _OF_THE_REST)) / 100)
    return floor, (
        f"Always answering {commonest!r} is right on {share:.0%}; {floor:g} is what a first model should be above. "
        "Raise it to what production needs."
    )


def _object_sizes(look: FirstLook) -> tuple[int, int] | None:
    """The sides in pixels that part small, medium and large boxes; None where the boxes are too much alike."""
    if look.boxes is None:
        return None
    small, large = (round(side) for side in look.boxes.thirds)
    return (small, large) if 0 < small < large else None
