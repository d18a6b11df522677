"""The project file that `visionops init` writes: commented, for people to edit."""

import datetime
import json

from visionops_assets.dataset.first_look import FirstLook

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
splits: {{train: 0.6, val: 0.15, holdout: 0.25, salt: {name}}}

drop:
  # A batch without a `_SUCCESS` marker is complete when its files stayed the same for so many seconds.
  quiet_for: 600

recipe:
  # The images looked at measure about {width} x {height} pixels{colours}.
  input: {{height: {input_height}, width: {input_width}, channels: {channels}}}
  epochs: 20
  batch_size: 32
  # One and two threads give other bits, so their number is part of the recipe.
  threads: 2
  # Say which changes leave an image's class what it is, for example:
  # augmentations:
  #   - {{name: shift, fraction: 0.1}}
  #   - {{name: horizontal_flip}}

gate:
  # Below this no model is promoted, whatever it is compared with; `batch` guards each batch's own holdout.
  floors: {{overall: {floor}, batch: {floor}}}
  # auto: what passes goes to production; manual: it waits for `visionops approve {name}`.
  approval: {approval}

production:
  # The first day on which a model of it may have run: each day from then on is a partition.
  since: {since}
"""


def project_file(
    name: str,
    look: FirstLook,
    *,
    description: str,
    owner: str,
    licence: str,
    floor: float,
    approval: str,
    since: datetime.date,
) -> str:
    """The YAML text of a new project. JSON's strings are YAML's, whatever a class is called."""
    height, width = look.input_size
    shown = [f"{label} {count:,}" for label, count in list(look.classes.items())[:10]]
    more = f" and {len(look.classes) - 10} more" if len(look.classes) > 10 else ""
    came = ", ".join(f"{split} {count:,}" for split, count in look.splits.items())
    return _TEMPLATE.format(
        name=name,
        description=json.dumps(description, ensure_ascii=False),
        owner=json.dumps(owner, ensure_ascii=False),
        licence=json.dumps(licence, ensure_ascii=False),
        task=look.task,
        repository=name.replace("_", "-"),
        counts=_one_line(", ".join(shown) + more),
        classes=json.dumps(list(look.classes), ensure_ascii=False),
        splits=f"\n# This source came with one: {came}." if came else "",
        width=look.width,
        height=look.height,
        colours=", all grey" if look.channels == 1 else "",
        input_height=height,
        input_width=width,
        channels=look.channels,
        floor=f"{floor:g}",
        approval=approval,
        since=since.isoformat(),
    )


def _one_line(text: str) -> str:
    """Text for a comment: a class name with a line break must not become YAML."""
    return " ".join(text.split())
