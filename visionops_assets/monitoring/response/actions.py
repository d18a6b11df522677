"""What was done about production, each action once: entries `visionops.action.<6 digits>` of the registered model.

Whoever wants the list needs MLflow alone: `read_actions(registry.models.get(project).tags).entries`, oldest first.
The evidence of an action is the JSON under `evidence_key` in the artifact store, written before the entry.
`visionops status` shows them as parts of a page, and as JSON.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

from visionops_assets.champions import registered_model
from visionops_assets.champions.registered_model import Entry, Journal, Registry
from visionops_assets.pages.page import Block, Heading, Paragraph, Table

ACTIONS = "visionops.action."
# `labels`: images are to be labelled. `labelled`: a batch has some that were asked for. `comparison`: two versions were
# compared on labelled captures, whatever came out. The others are what a project declares in `drift.on_decay`.
Kind = Literal["labels", "labelled", "comparison", "alert", "hold", "rollback"]
Signal = Literal["drift", "estimated", "realised"]
SHORT = 12
# How an action says what was done, by its kind: done, or what a dry run says.
_DONE: dict[Kind, tuple[str, str]] = {
    "labels": ("labels were asked for", "would ask for labels"),
    "labelled": ("labels came", "labels came"),
    "comparison": ("versions were compared", "versions were compared"),
    "alert": ("alert", "would alert"),
    "hold": ("promotion was put on hold", "would put promotion on hold"),
    "rollback": ("rolled back", "would roll back"),
}
ACTIONS_SHOWN = 10


class Action(Entry):
    """Format 1. `day` is the production day that asked for it, `identity` what it is known by: the same is done once.

    `group` is the device group whose champion is concerned, `model_sha256` and `version` that champion. `why` says what
    was noticed and `done` what follows, with the command that undoes it or carries on. `images` counts those asked
    for, come, or compared. `about` is the identity of the request that labels answer, or of the verdict that a
    comparison or rollback rests on, `page` where MLflow shows that.
    """

    format: Literal[1] = 1
    number: int = 0
    identity: str
    kind: Kind
    signal: Signal
    group: str
    model_sha256: str | None = None
    version: int | None = None
    day: date
    when: datetime
    who: str
    why: str
    done: str
    images: int | None = None
    about: str | None = None
    commit: str | None = None
    page: str | None = None
    dry_run: bool = False

    def sentence(self) -> str:
        """The action in words."""
        return f"{self.when:%Y-%m-%d %H:%M} UTC: {self.title()}, for {self.day}: {self.why}. {self.done}"

    def title(self) -> str:
        """What was done, or would have been."""
        return _DONE[self.kind][self.dry_run]


def read_actions(tags: Mapping[str, str]) -> Journal[Action]:
    """All actions of a project, oldest first, from the registered model's tags."""
    return registered_model.read_entries(tags, ACTIONS, Action)


def identity_of(*parts: object) -> str:
    """SHA-256 of what makes an action this one."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


def evidence_key(project: str, identity: str) -> str:
    """Where the artifact store has the evidence of an action."""
    return f"actions/{project}/{identity}.json"


def record_once(registry: Registry, project: str, action: Action) -> Action:
    """The recorded action with this identity, or else this one, recorded under the next number.

    Raises `HistoryUnreadable` where an entry cannot be read: it may be this one.
    """
    with registry.lock(project):
        found = read_actions(registry.models.get(project).tags)
        registered_model.require_readable(found, project)
        same = [each for each in found.entries if each.identity == action.identity]
        if same:
            return same[0]
        numbered = action.model_copy(update={"number": found.next_number})
        registry.models.set_tag(
            project, registered_model.tag_name(ACTIONS, numbered.number), numbered.to_json()
        )
        return numbered


def answers_to(actions: Iterable[Action], request: Action) -> list[Action]:
    """The batches that answered a request, oldest first."""
    return [each for each in actions if each.kind == "labelled" and each.about == request.identity]


def actions_blocks(project: str, actions: Sequence[Action]) -> tuple[Block, ...]:
    """What was done about production, newest first, and what waits for labels; nothing where nothing was done."""
    if not actions:
        return ()
    rows = [
        (f"{each.when:%Y-%m-%d %H:%M}", str(each.day), each.group, each.title(), f"{each.why}. {each.done}.")
        for each in reversed(actions[-ACTIONS_SHOWN:])
    ]
    waiting = [
        Paragraph(
            f"LABELS ASKED FOR. {each.images or 0:,} images since {each.when:%Y-%m-%d}, of version {each.version} on "
            f"{each.group}: `visionops labels export {project} --to FOLDER`, then `visionops import {project} FOLDER "
            "--batch NAME`."
        )
        for each in actions
        if each.kind == "labels" and not each.dry_run and not answers_to(actions, each)
    ]
    heading = Heading("What was done about production, newest first")
    return (heading, *waiting[-1:], Table(("when (UTC)", "for", "group", "what", "why"), tuple(rows)))


def actions_json(actions: Sequence[Action]) -> list[dict[str, Any]]:
    """Every action, oldest first; a request for labels with the identities of the batches' answers."""
    return [
        {
            **each.model_dump(mode="json", exclude={"format"}),
            "answered_by": [answer.commit for answer in answers_to(actions, each)],
        }
        for each in actions
    ]
