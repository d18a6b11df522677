"""The model card of a version: what it is for, what it was made of, how good it is and where it is not known to be.

After Mitchell et al. 2019, "Model Cards for Model Reporting". Written once, when the version is first promoted,
from what is stored with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from resources.models.records import MODEL_CARD_ARTIFACT
from visionops_assets.champions.registered_model import Registry
from visionops_assets.config.recipe import Recipe
from visionops_assets.evaluation.verdict import Comparison, SliceRow, Verdict
from visionops_assets.evaluation.verdict_wording import amount, percent, points, probability, verdict_summary
from visionops_assets.pages.page import Block, Bullets, Facts, Heading, Page, Paragraph, Table
from visionops_assets.promotion.version_evidence import Evidence, gather_evidence
from visionops_assets.tasks.task_registry import task
from visionops_assets.training.provenance import COMPUTING, Provenance

CONFIDENCE = 0.95
SLICES = 60
# With fewer groups, a slice's own number says little.
FEW = 30


@dataclass(frozen=True)
class About:
    """What only the project file says."""

    description: str = ""
    task: str = "classification"
    owners: tuple[str, ...] = ()
    licence: str = ""


def keep_model_card(registry: Registry, project: str, version: int, about: About) -> str:
    """The stored card of a version as Markdown; one that is missing is written first.

    Raises `ModelNotFound`, `RegistryUnavailable`.
    """
    run_id = registry.models.version(project, version).run_id
    if not registry.artifacts.exists(run_id, MODEL_CARD_ARTIFACT):
        card = model_card(gather_evidence(registry, project, version), about).to_markdown()
        registry.artifacts.put_bytes(run_id, MODEL_CARD_ARTIFACT, card.encode())
    return registry.artifacts.read_bytes(run_id, MODEL_CARD_ARTIFACT).decode()


def model_card(evidence: Evidence, about: About) -> Page:
    """The card of the version that `evidence` is of. What is not stored is left out, and said where it matters."""
    version, provenance = evidence.made.version, evidence.made.provenance
    blocks = (
        *_identity(evidence, about),
        *_data(evidence),
        *(_made_with(provenance) if provenance is not None else ()),
        *(_metrics(evidence.verdict) if evidence.verdict is not None else ()),
        *_limits(evidence),
        *_provenance(evidence),
    )
    return Page(f"Model card: {version.project} version {version.version}", blocks)


def wilson(share: float, trials: int) -> tuple[float, float]:
    """The 95% score interval (Wilson 1927) of a share of `trials` independent trials, to the nearest whole trial.

    Raises ValueError for no trials.
    """
    from scipy.stats import binomtest

    if trials < 1:
        raise ValueError("an interval needs at least one trial")
    found = binomtest(round(share * trials), trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def _identity(evidence: Evidence, about: About) -> Iterator[Block]:
    version, arrival = evidence.made.version, evidence.arrival
    if about.description:
        yield Paragraph(about.description)
    if arrival is not None:
        yield Paragraph(arrival.sentence())
    rows = [
        ("task", about.task),
        ("owners", ", ".join(about.owners) or "not declared"),
        ("licence", about.licence or "not declared in the project file"),
        ("weights (SHA-256)", version.weights_sha256 or "not recorded"),
        ("file that ships (SHA-256)", version.onnx_sha256 or "not recorded"),
    ]
    yield Facts(tuple(rows))


def _data(evidence: Evidence) -> Iterator[Block]:
    made, verdict = evidence.made, evidence.verdict
    yield Heading("Data")
    foreign = made.provenance.foreign if made.provenance is not None else None
    if foreign is not None and foreign.unseen_because is not None:
        yield Paragraph(
            f"Nobody knows what it was trained on. {foreign.said_by} says that the holdout is new to it: "
            f"{foreign.unseen_because}"
        )
    rows = [("dataset version", made.version.partition or "not recorded")]
    if made.provenance is not None and (foreign is None or foreign.unseen_because is None):
        data = made.provenance.data
        rows += [
            ("commit", f"lakefs://{data.repository}/{data.commit}/"),
            ("manifest", data.manifest_digest),
            ("classes", f"{len(data.classes)}: {', '.join(data.classes)}"),
            ("training images", f"{data.train_samples:,}"),
            ("validation images", f"{data.validation_samples:,}"),
        ]
    if made.manifest is not None:
        rows.append(("labelled images in all", f"{made.manifest.rows:,}"))
    if verdict is not None and verdict.evidence is not None:
        rows.append(
            (
                "holdout images",
                f"{verdict.evidence.rows:,} in {verdict.evidence.groups:,} groups, never trained on",
            )
        )
    yield Facts(tuple(rows))


def _made_with(provenance: Provenance) -> Iterator[Block]:
    if provenance.foreign is not None:
        yield Heading("Made elsewhere")
        yield Facts(
            tuple((name.replace("_", " "), str(value)) for name, value in provenance.made_with.items())
        )
        return
    if provenance.script is None:
        yield from _recipe(provenance.recipe)
        return
    stated = [(name, str(value)) for name, value in provenance.script.parameters.items()]
    yield Heading("Script")
    yield Facts((("file", provenance.script.name), ("model", provenance.recipe.model.shown), *stated))


def _recipe(recipe: Recipe) -> Iterator[Block]:
    yield Heading("Recipe")
    spec, start = recipe.input, recipe.model.init_weights
    arguments = ", ".join(f"{name}={value!r}" for name, value in recipe.model.init_args.items())
    steps = ", ".join(
        f"{each.name} ({', '.join(f'{name} {value:g}' for name, value in each if name != 'name')})"
        for each in recipe.augmentations
    )
    yield Facts(
        (
            ("model", f"{recipe.model.shown}({arguments})"),
            ("starts from", f"{start.uri}, licence {start.licence}" if start else "fresh weights"),
            (
                "input",
                f"{spec.height} x {spec.width} pixels, {spec.channels} channels, resized by {spec.resize}",
            ),
            ("optimiser", f"{recipe.optimiser.name}, learning rate {recipe.optimiser.lr:g}"),
            ("training", f"{recipe.epochs} epochs in batches of {recipe.batch_size}, seed {recipe.seed}"),
            ("augmentations", steps or "none"),
            ("precision", recipe.precision),
            ("reproducibility", recipe.reproducibility),
        )
    )


def _metrics(verdict: Verdict) -> Iterator[Block]:
    yield Heading("Metrics")
    yield Paragraph(verdict_summary(verdict))
    evidence = verdict.evidence
    if evidence is None:
        yield Paragraph("Nothing could be measured.")
        return
    compared = (evidence.primary, *evidence.guards)
    yield Table(
        ("metric", "this model", "95% interval", "before", "gain", "interval of the gain"),
        tuple(_metric(each, evidence.groups) for each in compared),
    )
    yield Paragraph(
        "Shares have the Wilson interval, counting each group of images once; gains the paired bootstrap over groups."
    )
    if evidence.slices:
        yield Heading("Slices")
        yield Table(
            ("slice", "images", "this model", "95% interval", "before", "p of worse", "finding"),
            tuple(_slice(row) for row in evidence.slices[:SLICES]),
        )
    if len(evidence.slices) > SLICES:
        yield Paragraph(f"{len(evidence.slices) - SLICES} more slices are in the stored verdict.")


def _metric(each: Comparison, groups: int) -> tuple[str, ...]:
    gain = "–"
    if each.lower is not None and each.upper is not None:
        gain = f"{points(each.lower.value, each.unit)} to {points(each.upper.value, each.unit)}"
    return (
        each.metric,
        amount(each.challenger, each.unit),
        _interval(each.challenger, groups) if each.metric == "accuracy" else "–",
        amount(each.champion, each.unit) if each.champion is not None else "–",
        points(each.difference, each.unit) if each.difference is not None else "–",
        gain,
    )


def _slice(row: SliceRow) -> tuple[str, ...]:
    finding = "regressed" if row.regressed else "below its floor" if row.below_floor else ""
    return (
        row.name(),
        f"{row.rows:,}",
        percent(row.challenger),
        _interval(row.challenger, row.groups) if row.metric == "accuracy" else "–",
        percent(row.champion) if row.champion is not None else "–",
        probability(row.p_worse_holm) if row.p_worse_holm is not None else "–",
        finding,
    )


def _interval(share: float, groups: int) -> str:
    if groups < 1 or not 0 <= share <= 1:
        return "–"
    low, high = wilson(share, groups)
    return f"{percent(low)} to {percent(high)}"


def _limits(evidence: Evidence) -> Iterator[Block]:
    yield Heading("Limits")
    yield Bullets(tuple(_known_limits(evidence)))


def _known_limits(evidence: Evidence) -> Iterator[str]:
    arrival, verdict, provenance = evidence.arrival, evidence.verdict, evidence.made.provenance
    if arrival is not None and arrival.kind == "override":
        yield f"Promoted against its verdict by {arrival.who}: {arrival.why}"
    if provenance is not None:
        known = ", ".join(provenance.data.classes)
        yield task(provenance.task).limits.format(classes=known)
    yield (
        "The numbers hold for images like those of the holdout; other cameras, light, parts or sizes were not measured."
    )
    if verdict is None or verdict.evidence is None:
        yield "No stored measurement: how good it is was not recorded."
        return
    measured = verdict.evidence
    if measured.absent_classes:
        yield f"Not judged, because the holdout has no image of it: {', '.join(measured.absent_classes)}."
    few = [row.name() for row in measured.slices if row.groups < FEW]
    if few:
        yield f"Fewer than {FEW} groups, so only large errors would show: {', '.join(few[:SLICES])}."
    poor = [row.name() for row in measured.slices if row.regressed or row.below_floor]
    if poor:
        yield f"Known to be poor on: {', '.join(poor)}."
    for suspect in measured.suspects:
        yield f"The labels of batch {suspect.batch} are in doubt, and it was trained on them."
    if measured.leak_count:
        yield f"{measured.leak_count} holdout images were trained on, so the numbers are too good."


def _provenance(evidence: Evidence) -> Iterator[Block]:
    version, provenance = evidence.made.version, evidence.made.provenance
    yield Heading("Provenance")
    if provenance is None:
        yield Paragraph("Not stored: this version cannot be reproduced.")
        return
    if provenance.foreign is not None:
        yield Paragraph(
            f"Not reproducible: a finished ONNX file that {provenance.foreign.said_by} submitted."
        )
        return
    yield Facts(tuple(_origin(provenance)))
    if provenance.script is not None:
        yield Paragraph(
            "One's own script made it: VisionOps reproduces recipes only, so running it again at this revision is the "
            "way."
        )
        return
    yield Paragraph(
        f"`visionops reproduce {version.project} --model-version {version.version}` makes it again and compares."
    )


def _origin(provenance: Provenance) -> Iterator[tuple[str, str]]:
    code = provenance.code
    changed = ", with an uncommitted change that is stored beside it" if code.uncommitted_sha256 else ""
    yield "code revision", f"{code.revision or 'not in git'}{changed}"
    yield "sources (SHA-256)", code.digest
    yield "recipe (SHA-256)", provenance.recipe_digest
    found = [f"{name} {provenance.packages[name]}" for name in COMPUTING if name in provenance.packages]
    yield "packages", ", ".join(found)
    yield "hardware", ", ".join(provenance.hardware.values())
    yield "training identity", provenance.identity
