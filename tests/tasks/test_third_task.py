"""A task that the product does not know is registered from one file, and walks from a table of labels to a verdict."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge.images.decode import decode_whole
from tests.tasks import tagging
from tests.world import World, write_batch
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.config.project import Project
from visionops_assets.dataset.batch_publishing import BatchRefused, Published, Publisher
from visionops_assets.dataset.versions.annotations import read_annotations, write_annotations
from visionops_assets.dataset.versions.dataset_version import DatasetVersion, named_version
from visionops_assets.dataset.versions.manifest import manifest_rows
from visionops_assets.dataset.versions.manifest_diff import diff_manifests
from visionops_assets.evaluation.context import LEAK_COLUMNS, GateContext
from visionops_assets.evaluation.evaluation_task import evaluation_task
from visionops_assets.evaluation.gate import gate_verdict
from visionops_assets.evaluation.turned import won_and_lost
from visionops_assets.evaluation.verdict import ModelReference
from visionops_assets.inference.predictions import holdout_digest
from visionops_assets.inference.shipped_model import open_model
from visionops_assets.tasks.task_registry import (
    CLASSIFICATION,
    DETECTION,
    Task,
    UnknownTask,
    facet,
    names,
    register,
    task_taught_by,
    unregister,
)
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.code_digest import code_digest
from visionops_assets.training.model_files import export_onnx, parity
from visionops_assets.training.train import TrainingRequest, train
from visionops_assets.training.training_task import training_task

CLASSES, SIDE = ("left", "right"), 8
SPLITS = {"train": 64, "val": 16, "holdout": 120}
MODEL = f"{tagging.__name__}.TaggingNet"


@pytest.fixture
def registered() -> Iterator[Task]:
    register(tagging.TASK)
    yield tagging.TASK
    unregister(tagging.NAME)


def write_source(folder: Path, lines: Mapping[str, str] | None = None) -> Path:
    """Images and a table as people keep them: a line an image, its tags in one cell; `lines` are others by image.

    Grey noise of 8×8 pixels, brighter on each side that is tagged.
    """
    random = np.random.default_rng(0)
    table = ["image,split,tags"]
    folder.mkdir(parents=True)
    for split, count in SPLITS.items():
        for number in range(count):
            tags = [name for name in CLASSES if random.random() < 0.5]
            pixels = random.integers(0, 60, (SIDE, SIDE)).astype(np.uint8)
            pixels[:, :4] += 150 * np.uint8("left" in tags)
            pixels[:, 4:] += 150 * np.uint8("right" in tags)
            name = f"{split}-{number}.png"
            Image.fromarray(pixels).save(folder / name)
            table.append(f"{name},{split},{(lines or {}).get(name, ' '.join(tags))}")
    (folder / "labels.csv").write_text("\n".join(table))
    return folder


def published(world: World, source: Path, batch: str = "week-01") -> Published:
    return Publisher(project(), world.lakefs, world.artifacts).publish(source, batch)


class Decoded:
    """The images of a dataset version, uint8 [N, 8, 8, 1]."""

    def __init__(self, world: World, version: DatasetVersion) -> None:
        found = dict(world.lakefs.read_many("sides", version.commit.id, version.samples["path"].tolist()))
        self.pixels = np.stack([decode_whole(found[path], path, 1) for path in version.samples["path"]])

    def gather(self, rows: NDArray[np.integer], /) -> NDArray[np.uint8]:
        return self.pixels[rows]


def project() -> Project:
    return Project.model_validate(
        {
            "project": "sides",
            "task": tagging.NAME,
            "repository": "sides",
            "annotations": "sides",
            "classes": CLASSES,
            "recipe": {
                "input": {"height": SIDE, "width": SIDE, "channels": 1},
                "model": {"class_path": MODEL},
                "optimiser": {"lr": 0.05},
                "epochs": 8,
                "batch_size": 8,
                "threads": 1,
                "precision": "32-true",
            },
            "gate": {"floors": {"overall": 0.8}, "bootstrap": {"draws": 1000}},
        }
    )


def test_a_third_task_goes_from_a_table_of_labels_to_a_verdict(
    registered: Task, world: World, tmp_path: Path
) -> None:
    declared = project()
    assert published(world, write_source(tmp_path / "source")).images == sum(SPLITS.values())
    version = named_version(world.lakefs, world.artifacts, declared)
    rows = version.samples
    assert rows["split"].value_counts().to_dict() == SPLITS
    task, source = training_task(declared.task), Decoded(world, version)
    targets = task.targets(rows, declared.classes, declared.recipe.input)

    def side(name: str) -> LabelledImages:
        places = np.flatnonzero(rows["split"] == name)
        return LabelledImages(source, places, targets[places])

    trained = train(
        TrainingRequest(
            declared.recipe, declared.classes, side("train"), side("val"), "test", task, checkpoint_seconds=0
        ),
        tmp_path,
    )
    assert trained.metrics["validation_exact_match"] >= 0.9
    file = tmp_path / "model.onnx"
    onnx_sha256 = export_onnx(trained.shipped, file)
    assert parity(file, trained.shipped, source.pixels[:8]).passed

    holdout = rows[rows["split"] == "holdout"]
    judged = evaluation_task(declared.task)
    pixels = source.pixels[np.flatnonzero(rows["split"] == "holdout")]
    answers = judged.answers(open_model(file), [pixels])
    nothing: list[list[str]] = [[] for _ in answers]
    predictions = judged.table(holdout, challenger=answers, champion=nothing)
    context = GateContext(
        project=declared.project,
        classes=declared.classes,
        challenger=ModelReference(
            weights_sha256=trained.weights_sha256, onnx_sha256=onnx_sha256, run_id="new"
        ),
        champion=ModelReference(weights_sha256="0" * 64, onnx_sha256="0" * 64, run_id="old", version=1),
        holdout_digest=holdout_digest(holdout),
        holdout_share=0.6,
        leaks=pd.DataFrame(columns=list(LEAK_COLUMNS)),
        kind="decision",
        k=1,
        created_at=datetime(2026, 1, 5, tzinfo=UTC),
        task=declared.task,
    )
    verdict = gate_verdict(predictions, declared.gate, context=context)
    assert verdict.verdict == "PASS", [reason.text for reason in verdict.reasons]
    assert verdict.evidence is not None and verdict.evidence.primary.metric == tagging.METRIC
    found = won_and_lost(predictions)
    assert len(found.won) == verdict.evidence.primary.wins
    worse = judged.table(holdout, challenger=nothing, champion=answers)
    assert gate_verdict(worse, declared.gate, context=context).verdict == "FAIL"
    unread = judged.table(holdout, challenger=answers)
    assert gate_verdict(unread, declared.gate, context=context).reasons[0].rule == "unfit"


def test_the_digest_of_the_code_covers_the_one_file(registered: Task) -> None:
    digests = {code_digest(MODEL, name) for name in names()}
    assert len(digests) == len(names())


def test_an_import_finds_what_is_wrong_with_tags_as_with_labels(
    registered: Task, world: World, tmp_path: Path
) -> None:
    wrong = write_source(tmp_path / "wrong", {"train-0.png": "left middle"})
    copied = (wrong / "train-1.png").read_bytes()
    (wrong / "train-2.png").write_bytes(copied)
    table = (wrong / "labels.csv").read_text().splitlines()
    table[2], table[3] = "train-1.png,train,left", "train-2.png,train,right"
    (wrong / "labels.csv").write_text("\n".join(table))
    with pytest.raises(BatchRefused) as refused:
        published(world, wrong)
    findings = refused.value.findings.query("severity == 'ERROR'")
    assert set(findings["check"]) == {"labels known", "one label an image"}
    assert findings["what"].str.contains("unknown label 'middle'").any()
    assert findings["what"].str.contains("labelled left, not right").any()
    labels = write_batch(tmp_path / "labels", 12, 1, classes=CLASSES)
    with pytest.raises(BatchRefused, match="the project learns from several tags an image"):
        published(world, labels)


def test_tags_that_changed_are_told_between_versions(registered: Task, world: World, tmp_path: Path) -> None:
    declared = project()
    published(world, write_source(tmp_path / "one"))
    before = named_version(world.lakefs, world.artifacts, declared)
    again = published(world, write_source(tmp_path / "same"))
    assert again.outcome == "unchanged"
    published(world, write_source(tmp_path / "two", {"train-0.png": "left right", "train-1.png": ""}))
    after = named_version(world.lakefs, world.artifacts, declared)
    found = diff_manifests(before.manifest, after.manifest, world.artifacts)
    assert 1 <= len(found.relabelled) <= 2 and found.added.empty and found.removed.empty
    assert {"tags", "old_tags"} <= {*found.relabelled.columns}


def test_the_holdout_is_the_same_in_whatever_order_tags_come(registered: Task) -> None:
    tags = [("left", "right"), ("right",), ()]
    names = ["a", "b", "c"]
    rows = pd.DataFrame({"path": names, "sha256": names, "group": names, "batch": "week-01", "tags": tags})
    turned = rows.assign(tags=rows["tags"].map(lambda tags: tags[::-1]))
    fewer = rows.assign(tags=rows["tags"].map(lambda tags: tags[:1]))
    assert holdout_digest(turned) == holdout_digest(rows) != holdout_digest(fewer)


def test_annotations_of_before_keep_a_column_that_a_later_task_learns_from() -> None:
    file = "batches/week-01/annotations/sides.parquet"
    names = ["a", "b"]
    own = pd.DataFrame(
        {
            "path": [f"batches/week-01/images/{name}.png" for name in names],
            "sha256": [name * 64 for name in names],
            "phash": [name * 16 for name in names],
            "width": 8,
            "height": 8,
            "split": "train",
            "label": ["left", "right"],
            "tags": ["night", "rain"],
        }
    )
    written = write_annotations(own, file)
    before = read_annotations(written, file)
    register(tagging.TASK)
    try:
        assert read_annotations(written, file).equals(before)
        assert write_annotations(own, file) == written
        rows = manifest_rows(before, file).to_pandas()
        assert task_taught_by(rows.columns).name == CLASSIFICATION
        boxed = [name for name in rows.columns if name != "label"] + ["boxes"]
        assert task_taught_by(boxed).name == DETECTION
        with pytest.raises(UnknownTask):
            task_taught_by([*boxed, "label"])
    finally:
        unregister(tagging.NAME)


def test_what_no_task_is_called_is_refused_by_name(registered: Task) -> None:
    with pytest.raises(UnknownTask, match="no task is called taging; did you mean tagging"):
        facet("taging", "training")
    with pytest.raises(UnknownTask, match="tagging has no facet for monitoring"):
        facet(tagging.NAME, "monitoring")
    with pytest.raises(ValueError, match="a task detection is registered already"):
        register(Task(DETECTION, "outlines", "outlines"))
    with pytest.raises(ValueError, match="classification learns from the column 'label'"):
        register(Task("grading", "label", "grades"))


def test_rules_that_mean_nothing_in_a_task_are_refused(registered: Task) -> None:
    costs = {"unit": "EUR", "matrix": {}, "otherwise": 1}
    for name in (DETECTION, tagging.NAME):
        with pytest.raises(ValueError, match=r"gate\.costs are for classification"):
            GateRules.model_validate({"costs": costs}).check_task(name)
    GateRules.model_validate({"costs": costs}).check_task(CLASSIFICATION)
    sized = GateRules.model_validate({"critical_slices": ["object_size=small"]})
    with pytest.raises(ValueError, match="which only detection has"):
        sized.check_task(tagging.NAME)
    sized.check_task(DETECTION)


def test_a_project_names_a_task_that_is_registered() -> None:
    with pytest.raises(ValueError, match="input should be 'classification' or 'detection'"):
        project()
