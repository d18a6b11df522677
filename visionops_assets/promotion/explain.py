"""Why a model is in production, in words and tables: how it was judged, trained on what, what changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from resources.models.records import EVERYWHERE, TAG_REPRODUCTION, TAG_REPRODUCTION_WHEN, ModelVersion
from visionops_assets.champions.disagreements import incomplete
from visionops_assets.champions.registered_model import Registry
from visionops_assets.config.gate_rules import GateRules, differences
from visionops_assets.dataset.versions.manifest import Store
from visionops_assets.dataset.versions.manifest_diff import ManifestDiff, diff_manifests
from visionops_assets.evaluation.verdict import Comparison, Verdict
from visionops_assets.evaluation.verdict_wording import amount, points, probability, verdict_summary
from visionops_assets.pages.page import Block, Bullets, Facts, Heading, Link, Page, Paragraph, Table
from visionops_assets.promotion.production_change import interval_end, intervals_table
from visionops_assets.promotion.version_differences import data_changes, input_changes
from visionops_assets.promotion.version_evidence import Evidence, gather_evidence
from visionops_assets.training.provenance import Difference, compare_provenance

REASONS = 12
INTERVALS = 20


def _nowhere(*_: object) -> str:
    return ""


@dataclass(frozen=True)
class Links:
    """How to make the addresses a page links to: `commit(repository, commit)`,
    `compare(repository, before, after)`, `run(run_id)`, `version(project, version)`."""

    commit: Callable[[str, str], str] = _nowhere
    compare: Callable[[str, str, str], str] = _nowhere
    run: Callable[[str], str] = _nowhere
    version: Callable[[str, int], str] = _nowhere


@dataclass(frozen=True)
class Explanation:
    """Why a version is in production, and what changed against the version it replaced.

    `data` is None where a manifest is missing or there was no predecessor, `inputs` where a provenance is.
    """

    evidence: Evidence
    data: ManifestDiff | None
    inputs: tuple[Difference, ...] | None
    page: Page

    def to_text(self) -> str:
        """For a terminal."""
        return self.page.to_text()

    def to_markdown(self) -> str:
        """For metadata and MLflow."""
        return self.page.to_markdown()


def why(
    registry: Registry,
    store: Store,
    project: str,
    version: int | None = None,
    group: str = EVERYWHERE,
    links: Links | None = None,
    rules: GateRules | None = None,
) -> Explanation:
    """Explain a version, by default the one in production. `store` holds the fragments of manifests, `rules` are those
    of the project file now.

    Raises `ModelNotFound`, `RegistryUnavailable`.
    """
    return explain(gather_evidence(registry, project, version, group), store, links or Links(), rules)


def explain(evidence: Evidence, store: Store, links: Links, rules: GateRules | None = None) -> Explanation:
    """Put evidence into words."""
    made, before = evidence.made, evidence.predecessor
    data, inputs = None, None
    if before is not None and before.manifest is not None and made.manifest is not None:
        data = diff_manifests(before.manifest, made.manifest, store)
    if before is not None and before.provenance is not None and made.provenance is not None:
        inputs = tuple(compare_provenance(before.provenance, made.provenance))
    blocks = (
        *_standing(evidence, links),
        *_verdict_blocks(evidence),
        *_rules(evidence, rules),
        *_origin(evidence, links),
        *_changes(evidence, data, inputs, links),
        *_intervals(evidence, links),
    )
    return Explanation(evidence, data, inputs, Page(_title(evidence), blocks))


def _title(evidence: Evidence) -> str:
    version = evidence.made.version
    name = f"{version.project}: version {version.version}"
    if evidence.in_production:
        where = "" if evidence.now.group == EVERYWHERE else f" on {evidence.now.group}"
        return f"{name} is in production{where}"
    times = [each for each in evidence.now.intervals if each.version == version.version]
    if evidence.now.foreign and version.version == evidence.now.named:
        return f"{name} is in production by the history, and not by MLflow"
    return (
        f"{name} was in production until {interval_end(times[-1])}"
        if times
        else f"{name} was never in production"
    )


def _standing(evidence: Evidence, links: Links) -> Iterator[Block]:
    version, now = evidence.made.version, evidence.now
    since = now.since if evidence.in_production else evidence.arrival
    if since is not None:
        yield Paragraph(since.sentence())
    if evidence.unclear:
        yield Paragraph(f"What runs is not clear: {evidence.unclear}")
    if now.incomplete is not None:
        yield Paragraph(
            f"Not completed: {now.incomplete.sentence()}. {incomplete(version.project, now.incomplete).way_back}."
        )
    if now.held_by is not None:
        yield Paragraph(f"Promotion is on hold. {now.held_by.sentence()}")
    yield Facts(
        (
            ("version", Link(str(version.version), links.version(version.project, version.version))),
            ("weights", version.weights_sha256 or "not recorded"),
            ("file that ships", version.onnx_sha256 or "not recorded"),
            ("trained in run", Link(version.run_id, links.run(version.run_id))),
            ("made again", _reproduction(version)),
        )
    )


def _reproduction(version: ModelVersion) -> str:
    result = version.tags.get(TAG_REPRODUCTION)
    if result is None:
        return f"not yet: `visionops reproduce {version.project} --model-version {version.version}` tries it"
    return f"{result}, {version.tags.get(TAG_REPRODUCTION_WHEN, '')[:16].replace('T', ' ')} UTC"


def _verdict_blocks(evidence: Evidence) -> Iterator[Block]:
    verdict, arrival = evidence.verdict, evidence.arrival
    yield Heading("Why this model")
    if arrival is not None and arrival.kind == "override":
        yield Paragraph(f"{arrival.who} promoted it against the verdict: {arrival.why}")
    if verdict is None:
        yield Paragraph(
            "No stored verdict says why: it was not promoted by a decision, or the verdict is gone."
        )
        return
    summary = verdict_summary(verdict)
    yield Paragraph(summary)
    reasons = [each.text for each in verdict.reasons if each.text.lower() not in summary.lower()]
    if reasons:
        yield Bullets(tuple(reasons[:REASONS]))
    if len(reasons) > REASONS:
        yield Paragraph(f"{len(reasons) - REASONS} more reasons are in the stored verdict.")
    if verdict.evidence is not None:
        yield _numbers(verdict)
    champion = verdict.champion
    against = (
        f"{champion.name()}, as challenger {verdict.k} of it" if champion else "no champion: it was the first"
    )
    yield Paragraph(
        f"Judged {verdict.created_at:%Y-%m-%d %H:%M} UTC against {against}. Verdict {verdict.identity[:12]}."
    )


def _rules(evidence: Evidence, now: GateRules | None) -> Iterator[Block]:
    """Under which rules of the gate each verdict on this model was made."""
    if not evidence.verdicts:
        return
    yield Heading("The gate's rules")
    rows = []
    for listed, verdict in reversed(evidence.verdicts):
        digest = verdict.rules_digest if verdict is not None else listed.rules
        against = listed.champion[:12] if listed.champion else "no champion"
        told = (f"{listed.when:%Y-%m-%d %H:%M}", listed.identity[:12], against, listed.outcome)
        rows.append((*told, (digest or "not recorded")[:12], _against_now(verdict, digest, now)))
    columns = ("judged (UTC)", "verdict", "against", "outcome", "rules", "beside the project file now")
    yield Table(columns, tuple(rows))


def _against_now(verdict: Verdict | None, digest: str | None, now: GateRules | None) -> str:
    if now is None or digest is None:
        return "–"
    if digest == now.digest():
        return "the same"
    if verdict is None or verdict.rules is None:
        return "others; an earlier release did not write them down"
    return "; ".join(differences(verdict.rules, now.bearing()))


def _numbers(verdict: Verdict) -> Table:
    assert verdict.evidence is not None
    compared = (verdict.evidence.primary, *verdict.evidence.guards)
    columns = ("metric", "this model", "before", "gain", "interval", "p of no gain")
    return Table(columns, tuple(_comparison(each) for each in compared))


def _comparison(each: Comparison) -> tuple[str, ...]:
    versus = each.champion is not None
    interval = "–"
    if each.lower is not None and each.upper is not None:
        interval = f"{points(each.lower.value, each.unit)} to {points(each.upper.value, each.unit)}"
    return (
        each.metric,
        amount(each.challenger, each.unit),
        amount(each.champion, each.unit) if versus else "–",
        points(each.difference, each.unit) if versus else "–",
        interval,
        probability(each.p_superior) if each.p_superior is not None else "–",
    )


def _origin(evidence: Evidence, links: Links) -> Iterator[Block]:
    made = evidence.made
    yield Heading("Trained on")
    rows: list[tuple[str, str | Link]] = [("dataset version", made.version.partition or "not recorded")]
    if made.manifest is not None:
        rows.append(("labelled images", f"{made.manifest.rows:,}"))
    if made.provenance is not None:
        data = made.provenance.data
        rows += [
            ("training images", f"{data.train_samples:,}"),
            ("validation images", f"{data.validation_samples:,}"),
        ]
    if evidence.verdict is not None and evidence.verdict.evidence is not None:
        rows.append(("holdout images", f"{evidence.verdict.evidence.rows:,}"))
    if made.provenance is not None:
        data, code = made.provenance.data, made.provenance.code
        revision = code.revision[:12] if code.revision else "unknown"
        changed = ", with uncommitted changes" if code.uncommitted_sha256 else ""
        rows += [
            ("classes", f"{len(data.classes)}: {', '.join(data.classes[:20])}"),
            ("commit", Link(f"{data.repository}/{data.commit}", links.commit(data.repository, data.commit))),
            ("model", made.provenance.recipe.model.shown),
            ("code revision", f"{revision}{changed}"),
        ]
    yield Facts(tuple(rows))


def _changes(
    evidence: Evidence, data: ManifestDiff | None, inputs: tuple[Difference, ...] | None, links: Links
) -> Iterator[Block]:
    before, arrival = evidence.predecessor, evidence.arrival
    if arrival is not None and arrival.from_version is None:
        yield Heading("What changed")
        yield Paragraph(
            "It is the first model of this project in production: there is nothing to compare with."
        )
    if arrival is None or arrival.from_version is None:
        return
    yield Heading(f"What changed against version {arrival.from_version}")
    if before is None:
        yield Paragraph("That version was deleted from the registry, so nothing can be compared.")
        return
    if before.provenance is not None and evidence.made.provenance is not None:
        old, new = before.provenance.data, evidence.made.provenance.data
        address = links.compare(new.repository, old.commit, new.commit)
        if address:
            yield Facts((("in lakeFS", Link(f"{old.commit[:12]} to {new.commit[:12]}", address)),))
    if data is not None:
        yield from data_changes(data)
    else:
        yield Paragraph("The manifest of one of them is missing, so the images cannot be compared.")
    if inputs is not None:
        yield from input_changes(inputs)
    else:
        yield Paragraph(
            "The provenance of one of them is missing: recipe, code and packages are not compared."
        )


def _intervals(evidence: Evidence, links: Links) -> Iterator[Block]:
    intervals = evidence.now.intervals
    if not intervals:
        return
    project = evidence.made.version.project
    yield Heading("In production so far")
    yield intervals_table(
        intervals[-INTERVALS:], lambda version: Link(str(version), links.version(project, version))
    )
