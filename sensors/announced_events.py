"""What people are told: how runs ended, and what the system did by itself, as Slack's incoming webhooks take it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resources.escaping import LONGEST_NAME, message, one_line
from resources.models.records import EVERYWHERE
from resources.webhooks import Channel
from visionops_assets.common import run_tags
from visionops_assets.monitoring.response.actions import Action
from visionops_assets.rollout.rollouts import Entry, override_or_abort

REASON_LENGTH = 1000
# Outcomes that nobody is told of stand in neither.
CHANNELS: Mapping[str, Channel] = {
    run_tags.ERROR: "errors",
    run_tags.PROMOTED: "verdicts",
    run_tags.REFUSED: "verdicts",
    run_tags.INSUFFICIENT: "verdicts",
    run_tags.AWAITING_APPROVAL: "verdicts",
}
# What changed production, or wants somebody to look, is no quiet matter.
_LOUD = frozenset({"rollback", "hold", "alert"})
_IN_WORDS = {
    run_tags.ERROR: "ended with an error",
    run_tags.PROMOTED: "promoted",
    run_tags.REFUSED: "refused",
    run_tags.INSUFFICIENT: "undecided, more labels are needed",
    run_tags.AWAITING_APPROVAL: "passed, and waits for a person",
}


@dataclass(frozen=True)
class Event:
    """Something to tell. `what` it concerns (a dataset version, batch, day or job), `happened` in words, `why`, and
    `identity`, by which whoever is told twice knows it. `link` is a page about it."""

    channel: Channel
    project: str
    kind: str
    what: str
    happened: str
    why: str
    identity: str
    link: str | None = None


def run_event(
    project: str, job: str, run_id: str, outcome: str, tags: Mapping[str, str], why: str, link: str
) -> Event:
    """What to tell of a run that ended with this outcome, one of `CHANNELS`."""
    what = tags.get(run_tags.PARTITION) or tags.get(run_tags.BATCH) or tags.get(run_tags.DAY) or job
    channel = CHANNELS[outcome]
    return Event(channel, project, outcome, what, _IN_WORDS[outcome], why, run_id, link)


def action_event(project: str, action: Action) -> Event:
    """What to tell of something that the system did about production."""
    loud = action.kind in _LOUD and not action.dry_run
    where = "" if action.group == EVERYWHERE else f" on {action.group}"
    return Event(
        channel="errors" if loud else "verdicts",
        project=project,
        kind=action.kind,
        what=f"{action.day}{where}",
        happened=action.title(),
        why=f"{action.why}. {action.done}",
        identity=action.identity,
    )


# The steps of rollouts that people are told of: in words, and whether loudly.
_STEPS: Mapping[str, tuple[str, bool]] = {
    "fail": ("failed, and its devices go back", True),
    "moved": ("ended, since its base moved", False),
    "hold": ("is undecided beyond its time, and waits for a person", True),
    "complete": ("is complete", False),
}


def rollout_events(project: str, entries: Sequence[Entry]) -> list[Event | None]:
    """What to tell of each step of the rollouts of a project; None of what nobody is told of."""
    versions = {each.rollout: each.version for each in entries if each.kind == "start"}
    found: list[Event | None] = []
    for each in entries:
        said, loud = _STEPS.get(each.kind, ("", False))
        if not said:
            found.append(None)
            continue
        group_of = f"{project} --group {each.group}"
        undo = {
            "fail": f"undo: `visionops release {group_of} --why TEXT`",
            "hold": override_or_abort(project, each.group),
            "complete": f"undo: `visionops rollback {group_of} --why TEXT`",
        }.get(each.kind)
        found.append(
            Event(
                channel="errors" if loud else "verdicts",
                project=project,
                kind=f"rollout_{each.kind}",
                what=each.group,
                happened=f"rollout of version {versions.get(each.rollout, 0)} {said}",
                why=f"{each.why}{f'; {undo}' if undo else ''}",
                identity=f"{each.rollout}/{each.kind}/{each.wave}",
            )
        )
    return found


def announcement_payload(event: Event) -> dict[str, Any]:
    """The JSON of an event, as Slack's incoming webhooks take it: `text` for people, `attachments[0].fields` for
    programs."""
    why = event.why if len(event.why) <= REASON_LENGTH else f"{event.why[: REASON_LENGTH - 1]}…"
    what = one_line(event.what, LONGEST_NAME)
    lines = [f"{event.project}, {what}: {one_line(event.happened, LONGEST_NAME)}", why, event.link or ""]
    named = {
        "project": event.project,
        "kind": event.kind,
        "concerns": what,
        "identity": one_line(event.identity, LONGEST_NAME),
    }
    return {
        "text": "\n".join(message(each) for each in lines if each),
        "attachments": [
            {
                "color": _color(event),
                "fallback": message(lines[0]),
                "fields": [
                    {"title": title, "value": message(value), "short": True} for title, value in named.items()
                ],
            }
        ],
    }


def _color(event: Event) -> str:
    if event.channel == "errors":
        return "danger"
    return "good" if event.kind == run_tags.PROMOTED else "warning"
