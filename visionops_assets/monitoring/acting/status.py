"""The actions of a project for `visionops status`: as parts of a page, and as JSON."""

from collections.abc import Sequence
from typing import Any

from visionops_assets.monitoring.acting.actions import Action, answers_to
from visionops_assets.pages.page import Block, Heading, Paragraph, Table

SHOWN = 10


def actions_blocks(project: str, actions: Sequence[Action]) -> tuple[Block, ...]:
    """What was done about production, newest first, and what waits for labels; nothing where nothing was done."""
    if not actions:
        return ()
    rows = [
        (f"{each.when:%Y-%m-%d %H:%M}", str(each.day), each.group, each.title(), f"{each.why}. {each.done}.")
        for each in reversed(actions[-SHOWN:])
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
