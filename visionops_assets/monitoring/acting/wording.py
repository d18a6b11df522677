"""What an action does, in words, with the command that undoes it or carries on."""

from collections.abc import Sequence

from resources.model_records import group_option
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.wording import verdict_summary
from visionops_assets.monitoring.acting.actions import Kind
from visionops_assets.monitoring.acting.standing import Champion


def done_in_words(
    project: str, kind: Kind, champion: Champion, days: Sequence[str] = (), images: int = 0
) -> str:
    """What follows from an action on a champion; of a request for labels, how many `images` of which `days`."""
    on = group_option(champion.group)
    version = champion.version.version
    if kind == "labels":
        named = " ".join(f"--day {day}" for day in days)
        return f"{images:,} images wait for labels: `visionops labels export {project} --to FOLDER {named}`"
    if kind == "rollback":
        return (
            f"Promotion is on hold: `visionops release {project}{on} --why TEXT` lifts it, "
            f"`visionops rollback {project} --to {version}{on} --why TEXT` goes back to version {version}"
        )
    back = (
        f"`visionops rollback {project} --leaving {version}{on} --why TEXT` goes back to version "
        f"{champion.before.version} at once"
        if champion.before is not None
        else f"version {version} has none before it to go back to"
    )
    if kind == "hold":
        return f"Challengers are judged, none is promoted until `visionops release {project}{on} --why TEXT`; {back}"
    return f"Look at `visionops status {project}`; {back}"


def comparison_in_words(champion: int, before: int, verdict: Verdict) -> str:
    """What came out of a comparison of a champion with the version before."""
    said = {
        "PASS": f"Version {before} does better than version {champion}",
        "FAIL": f"Version {before} is no way back from version {champion}",
        "INSUFFICIENT": f"Version {before} is not shown to do better than version {champion}",
    }[verdict.verdict]
    primary = verdict.evidence.primary if verdict.evidence is not None else None
    if primary is None or primary.champion is None:
        return f"{said}: {verdict_summary(verdict)}"
    chance = "" if primary.p_superior is None else f", p = {primary.p_superior:.2g} at {verdict.alpha_k:.3g}"
    return f"{said}: {primary.metric} {primary.challenger:.3f} against {primary.champion:.3f}{chance}"
