"""The project file that `visionops init` writes: commented, for people to edit."""

import datetime
import json
import textwrap
from collections.abc import Mapping

from visionops.first_choice import FirstChoice
from visionops_assets.dataset.importing.first_look import FirstLook

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


def project_file(
    name: str,
    look: FirstLook,
    choice: FirstChoice,
    *,
    description: str,
    owner: str,
    licence: str,
    floor: float,
    approval: str,
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
        description=json.dumps(description, ensure_ascii=False),
        owner=json.dumps(owner, ensure_ascii=False),
        licence=json.dumps(licence, ensure_ascii=False),
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
        floor=f"{floor:g}",
        objects=_objects(choice.object_sizes),
        approval=approval,
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
