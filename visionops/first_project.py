"""The project that `visionops init` starts with, chosen from a first look, and why: split, floor, sizes; and its
file, commented, for people to edit.
"""

import datetime
import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace

from visionops.first_recipe import first_recipe
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.config.project import Splits
from visionops_assets.config.recipe import Recipe
from visionops_assets.dataset.importing.first_look import FirstLook
from visionops_assets.dataset.splits import with_holdout

_FEWEST = GateRules().min_holdout
# Room for images that the audit takes out.
_ASKED = _FEWEST + 2
_MOST_HELD_OUT = 0.5
# The worst that a first detector may be, trained from nothing on few boxes.
_DETECTED = 0.3
# Of a classifier: so much at least, and so much of what a guess at the commonest class leaves.
_CLASSIFIED, _OF_THE_REST = 0.5, 0.25
_EXPLAINED = ("input", "epochs", "threads", "augmentations", "floor")
_TEMPLATE = """\
project: {name}
description: {description}
# Who is asked about it: team:<name> or an e-mail address.
owners: [{owner}]
# Of the images and of what is trained on them.
licence: {licence}
task: {task}

# Where the images are: a lakeFS repository, and which annotations of it this project reads.
repository: {repository}
annotations: {name}
# As found: {counts}. A label that is not listed here refuses its batch.
classes: {classes}

# The share of new images that each side gets; a split that came with the data wins.{splits}
# Images of one camera, session or part must not be split: give them a `group` (docs/data.md).
splits: {{train: {shares[train]:g}, val: {shares[val]:g}, holdout: {shares[holdout]:g}, salt: {name}}}

drop:
  # A batch without a `_SUCCESS` marker is complete when its files stayed the same for so many seconds.
  quiet_for: 600

recipe:
{why_input}
  input: {{height: {input.height}, width: {input.width}, channels: {input.channels}}}
  model:
    class_path: {recipe.model.class_path}
    init_args: {init_args}
  optimiser: {{lr: {recipe.optimiser.lr:g}}}
{why_epochs}
  epochs: {recipe.epochs}
  batch_size: {recipe.batch_size}
{why_threads}
  threads: {recipe.threads}
{why_augmentations}
  augmentations:
{augmentations}

gate:
  # Below these no model is promoted, whatever it is compared with; `batch` guards each batch's own holdout.
{why_floor}
  floors: {{overall: {floor}, batch: {floor}}}{objects}
  # auto: what passes goes to production; manual: it waits for `visionops approve {name}`.
  approval: {approval}

production:
  # The first day on which a model of it may have run: each day from then on is a partition.
  since: {since}
"""


@dataclass(frozen=True)
class FirstAnswers:
    """What only people know of a new project."""

    description: str
    owner: str
    licence: str
    floor: float
    approval: str


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


def project_file(
    name: str,
    look: FirstLook,
    choice: FirstChoice,
    answers: FirstAnswers,
    since: datetime.date,
) -> str:
    """The YAML text of a new project. JSON's strings are YAML's, whatever a class is called."""
    recipe, why = choice.recipe, choice.why
    shown = [f"{label} {count:,}" for label, count in list(look.classes.items())[:10]]
    more = f" and {len(look.classes) - 10} more" if len(look.classes) > 10 else ""
    came = ", ".join(f"{split} {count:,}" for split, count in look.splits.items())
    splits = [f"This source came with one: {came}."] if came else []
    splits += [why["splits"]] if "splits" in why else []
    declared = [one.model_dump(mode="json", exclude_defaults=True) for one in recipe.augmentations]
    return _TEMPLATE.format(
        name=name,
        description=json.dumps(answers.description, ensure_ascii=False),
        owner=json.dumps(answers.owner, ensure_ascii=False),
        licence=json.dumps(answers.licence, ensure_ascii=False),
        task=look.task,
        repository=name.replace("_", "-"),
        counts=_one_line(", ".join(shown) + more),
        classes=json.dumps(list(look.classes), ensure_ascii=False),
        splits="".join("\n" + _comment(text, "") for text in splits),
        shares=choice.shares,
        recipe=recipe,
        input=recipe.input,
        init_args=_flow(recipe.model.init_args),
        augmentations="\n".join(f"    - {_flow(one)}" for one in declared),
        floor=f"{answers.floor:g}",
        objects=_objects(choice.object_sizes),
        approval=answers.approval,
        since=since.isoformat(),
        **{f"why_{field}": _comment(why[field], "  ") for field in _EXPLAINED},
    )


def _objects(sizes: tuple[int, int] | None) -> str:
    if sizes is None:
        return ""
    return (
        "\n  # The sides in pixels that part small, medium and large boxes: each a third of them."
        f"\n  object_sizes: [{sizes[0]}, {sizes[1]}]"
    )


def _flow(values: Mapping[str, object]) -> str:
    """A mapping on one line; what stands in it are names and numbers of ours."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in values.items()) + "}"


def _comment(text: str, indent: str) -> str:
    return textwrap.fill(
        _one_line(text),
        110,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
    )


def _one_line(text: str) -> str:
    """Text for a comment: a class name with a line break must not become YAML."""
    return " ".join(text.split())
