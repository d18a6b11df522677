"""Which verdicts wait to be carried out: for a person's answer, or for the release of a hold.

The sensor takes a dataset version whose PASS waits for done, so whoever approves or releases promotes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from resources.model_records import EVERYWHERE, RegisteredModel
from visionops_assets import journal
from visionops_assets.champions.history import production
from visionops_assets.evaluation.approvals import Answer
from visionops_assets.evaluation.verdicts import ListedVerdict, listed
from visionops_assets.promotion.promote import Approval
from visionops_assets.refusals import VerdictMissing


@dataclass(frozen=True)
class Line:
    """Verdicts that could still promote, oldest first, and what was answered to them.

    They were made against the present champion and since it came: one from before a rollback is the verdict that
    was just found wrong, or one that was passed over.
    """

    project: str
    verdicts: tuple[ListedVerdict, ...]
    answers: Mapping[str, Answer]

    def unanswered(self) -> tuple[ListedVerdict, ...]:
        """The passes that nobody approved, rejected or overrode."""
        return tuple(each for each in self.verdicts if each.identity not in self.answers)

    def ready(self, approval: Approval) -> ListedVerdict | None:
        """The newest that needs no answer, or has one that lets it go to production."""
        ready = [each for each in self.verdicts if approval == "auto" or each.identity in self.answers]
        return ready[-1] if ready else None

    def why_none_is_ready(self, approval: Approval) -> str:
        """Why a release promotes nothing, in words."""
        unanswered = self.unanswered() if approval == "manual" else ()
        if not unanswered:
            return "no challenger that passed waits; the next PASS is promoted"
        names = ", ".join(f"{each.identity[:12]} ({each.partition})" for each in unanswered)
        return f"nobody approved what passed, {names}: `visionops approve {self.project}` promotes it"

    def only(self) -> ListedVerdict:
        """The one verdict to approve or reject. Raises `VerdictMissing` where none waits, or several do."""
        if len(self.verdicts) == 1:
            return self.verdicts[0]
        if not self.verdicts:
            raise VerdictMissing(
                f"no PASS of {self.project} waits for an answer: `visionops status {self.project}` lists all verdicts"
            )
        names = ", ".join(f"{each.identity[:12]} ({each.partition})" for each in self.verdicts)
        raise VerdictMissing(f"{len(self.verdicts)} verdicts of {self.project} wait, name one: {names}")


def line(model: RegisteredModel, champion_sha256: str | None) -> Line:
    """The verdicts of a project that wait. `champion_sha256` is of the present champion's weights, if any."""
    now = production(model, EVERYWHERE)
    answers = {entry.verdict: entry for entry in journal.read(model.tags, journal.ANSWERS, Answer).entries}
    carried_out = {each.entry.verdict for each in now.intervals}

    def waits(each: ListedVerdict) -> bool:
        answer = answers.get(each.identity)
        lets_it = answer.kind != "reject" if answer is not None else each.outcome == "PASS"
        last_word = max(each.when, answer.when) if answer is not None else each.when
        return (
            lets_it
            and each.champion == champion_sha256 != each.challenger
            and each.identity not in carried_out
            and (now.since is None or last_word >= now.since.when)
        )

    verdicts = tuple(each for each in listed(model.tags).values() if waits(each))
    return Line(model.project, verdicts, answers)


def newest_decision(model: RegisteredModel, champion_sha256: str | None) -> ListedVerdict:
    """The newest decision against the present champion, whatever it says. Raises `VerdictMissing`."""
    against = [
        each
        for each in listed(model.tags).values()
        if each.champion == champion_sha256 and each.challenger != champion_sha256
    ]
    if not against:
        raise VerdictMissing(f"{model.project} has no decision against the present champion: name one")
    return against[-1]
