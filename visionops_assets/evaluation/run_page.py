"""What MLflow's page of a run shows of its verdict: the holdout's numbers, the outcome, and the verdict in words.

MLflow decides nothing here: the verdict is the file that `verdicts.py` stores. A run that was judged again shows the
latest decision; a what-if never stands in the place of one.
"""

import re

from resources.escaping import markdown
from resources.model_records import TAG_DESCRIPTION, TAG_VERDICT
from resources.models.registry import ModelRegistry
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.wording import verdict_summary

_WHAT_IF = " (what-if)"
# Between the verdict and what the run said of itself before.
_RULE = "\n\n---\n\n"
_LONGEST = 4000


def show_verdict(registry: ModelRegistry, verdict: Verdict, run_id: str, partition: str) -> None:
    """Let a challenger's run show a stored verdict on a dataset version. Showing it again changes nothing.

    Raises `RunNotFound`, `RegistryUnavailable`.
    """
    tags = registry.runs.get(run_id).tags
    is_decided = TAG_VERDICT in tags and not tags[TAG_VERDICT].endswith(_WHAT_IF)
    if verdict.kind == "what_if" and is_decided:
        return
    registry.runs.log_points(run_id, {name: {0: value} for name, value in holdout_metrics(verdict).items()})
    registry.runs.set_tags(
        run_id,
        {
            TAG_VERDICT: verdict.verdict + (_WHAT_IF if verdict.kind == "what_if" else ""),
            TAG_DESCRIPTION: _described(verdict, partition, tags.get(TAG_DESCRIPTION, "")),
        },
    )


def holdout_metrics(verdict: Verdict) -> dict[str, float]:
    """The challenger's numbers on the holdout by MLflow's names, with its gains over the champion; none where nothing
    could be measured."""
    evidence = verdict.evidence
    if evidence is None:
        return {}
    found: dict[str, float] = {"holdout_images": evidence.rows}
    for compared in (evidence.primary, *evidence.guards):
        name = f"holdout_{re.sub(r'[^A-Za-z0-9]+', '_', compared.metric)}"
        found[name] = compared.challenger
        if compared.difference is not None:
            found[f"{name}_gain"] = compared.difference
    return found


def _described(verdict: Verdict, partition: str, before: str) -> str:
    of_the_run = before.rpartition(_RULE)[2]
    against = verdict.champion.name() if verdict.champion else "no champion"
    kind = (
        "what-if, which promotes nothing"
        if verdict.kind == "what_if"
        else f"decision {verdict.identity[:12]}"
    )
    judged = f"{kind[0].upper()}{kind[1:]}, on the holdout of dataset version {partition}, against {against}."
    return "".join(
        [f"{markdown(verdict_summary(verdict)[:_LONGEST])}\n\n{markdown(judged)}", _RULE, of_the_run]
    )
