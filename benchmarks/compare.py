"""`visionops compare` on 10,000 holdout images: the whole command less its start-up, and its parts.

    python benchmarks/compare.py

Budget: 2 s beyond start-up. Start-up is that of `visionops status`, which opens the same and computes nothing.
The baseline is a loop over draws for the interval of one accuracy difference, nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import yaml
from gate import BATCHES, CAMERAS, CLASSES, answers, holdout, naive_interval
from timing import seconds

from resources.lakefs.client import LakeFSResource
from resources.models.records import PROVENANCE_ARTIFACT, TAG_MANIFEST, TAG_ONNX, TAG_PARTITION, TAG_WEIGHTS
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore, Scratch
from visionops.comparing.comparison import Comparing
from visionops.comparing.comparison_report import comparison_page
from visionops_assets.common.tables import to_parquet, write_table
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import Recipe, recipe_digest
from visionops_assets.dataset.versions.manifest import Manifest
from visionops_assets.evaluation import verdict_store
from visionops_assets.evaluation.context import LEAK_COLUMNS
from visionops_assets.evaluation.gate import GateContext, gate_verdict
from visionops_assets.evaluation.verdict import ModelReference
from visionops_assets.inference.predictions import holdout_digest, predictions_table
from visionops_assets.training.challenger import MANIFEST_ARTIFACT
from visionops_assets.training.provenance import CodeOrigin, DataOrigin, Provenance, installed_packages

PARTITION = "20260302T080000-{:012x}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        project = _project(home)
        registry = ModelRegistry(tracking_uri=f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
        artifacts = ArtifactStore(root=str(home / "artifacts"))
        right, before = _two_versions(project, registry, artifacts, arguments.images)
        comparing = Comparing(
            project, registry, LakeFSResource(), artifacts, Scratch(root=str(home / "cache"))
        )

        def work() -> None:
            # The other way round than they were judged, so that everything is measured anew.
            comparison_page(comparing.named("1", "2")).to_text()

        measured = comparing.named("1", "2").measured
        assert measured is not None and measured.source == "stored"
        wall, cpu = seconds(work, arguments.repeats)
        draws, rng = project.gate.bootstrap.draws, np.random.default_rng(0)
        _, naive = seconds(partial(naive_interval, right - before, draws, rng))
        whole, start = (
            _command(home, arguments.repeats, *words)
            for words in (("compare", "parts", "1", "2"), ("status", "parts"))
        )
    slices = len(CLASSES) + BATCHES + CAMERAS
    print(
        f"{arguments.images:,} holdout images of {4 * arguments.images:,}, {slices} slices, {draws:,} draws"
    )
    print(
        f"  in one process  {wall:5.2f} s, of CPU {cpu:5.2f} s: {cpu / naive:4.2f}× one naive interval ({naive:.2f} s)"
    )
    print(
        f"  as a command    {whole:5.2f} s, less the {start:.2f} s of `visionops status`: {whole - start:.2f} s"
    )


def _project(home: Path) -> Project:
    project = Project.model_validate(
        {
            "project": "parts",
            "repository": "parts",
            "annotations": "parts",
            "classes": list(CLASSES),
            "recipe": {"input": {"height": 32, "width": 32}},
            "gate": {"slices": ["camera"]},
        }
    )
    (home / "projects").mkdir()
    declared = project.model_dump(mode="json", exclude_none=True)
    (home / "projects" / "parts.yaml").write_text(yaml.safe_dump(declared))
    return project


def _two_versions(
    project: Project, registry: ModelRegistry, artifacts: ArtifactStore, images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Register a champion and the challenger that was judged against it; which of its images each got right."""
    rng = np.random.default_rng(0)
    rows = _samples(4 * images, rng)
    held = rows[rows["split"] == "holdout"].reset_index(drop=True)
    table = predictions_table(
        held,
        challenger=answers(held["label"], 0.05, rng),
        champion=answers(held["label"], 0.06, rng),
        slices=("camera",),
    )
    manifests = [Manifest.from_json(write_table(artifacts, part)) for part in (rows.iloc[: 3 * images], rows)]
    first, second = (_version(project, registry, number, manifests[number - 1]) for number in (1, 2))
    registry.models.set_alias(project.project, "champion", 1)
    context = GateContext(
        project=project.project,
        classes=project.classes,
        challenger=second,
        champion=first,
        holdout_digest=holdout_digest(held, project.gate.slices),
        holdout_share=0.25,
        leaks=pd.DataFrame(columns=list(LEAK_COLUMNS)),
        kind="decision",
        k=1,
        created_at=datetime.now(UTC),
    )
    verdict = gate_verdict(table, project.gate, context=context)
    assert second.run_id is not None
    registry.artifacts.put_bytes(
        second.run_id, verdict_store.predictions_path(verdict.identity), to_parquet(table)
    )
    verdict_store.store(registry, verdict, run_id=second.run_id, partition=PARTITION.format(2))
    right, before = (
        (table[f"{who}_prediction"] == table["label"]).to_numpy(np.float64)
        for who in ("challenger", "champion")
    )
    return right, before


def _samples(size: int, rng: np.random.Generator) -> pd.DataFrame:
    rows = holdout(size, 1, rng)
    split = np.where(np.arange(size) % 4 == 0, "holdout", "train")
    return rows.assign(split=split, excluded=False, phash="0" * 16, width=32, height=32, size=3000)


def _version(project: Project, registry: ModelRegistry, number: int, manifest: Manifest) -> ModelReference:
    weights, onnx = f"{number:064x}", f"{number + 10:064x}"
    recipe = Recipe(input=project.recipe.input, epochs=10 * number)
    digests = {TAG_WEIGHTS: weights, TAG_ONNX: onnx, TAG_PARTITION: PARTITION.format(number)}
    run = registry.runs.start(project.project, f"parts {number}", {**digests, TAG_MANIFEST: manifest.digest})
    provenance = Provenance(
        project=project.project,
        task="classification",
        identity=weights,
        data=DataOrigin(
            repository="parts",
            annotations="parts",
            commit=weights,
            manifest_digest=manifest.digest,
            classes=CLASSES,
            train_samples=manifest.rows,
            validation_samples=0,
        ),
        recipe=recipe,
        recipe_digest=recipe_digest(recipe),
        code=CodeOrigin(digest=weights, revision=None, uncommitted_sha256=None),
        packages=installed_packages(),
        hardware={},
        weights_sha256=weights,
        onnx_sha256=onnx,
        metrics={},
    )
    registry.artifacts.put_bytes(run.id, PROVENANCE_ARTIFACT, provenance.to_json().encode())
    registry.artifacts.put_bytes(run.id, MANIFEST_ARTIFACT, json.dumps(manifest.to_json()).encode())
    registry.runs.end(run.id)
    registry.models.create_version(project.project, run.id, digests)
    return ModelReference(weights_sha256=weights, onnx_sha256=onnx, run_id=run.id, version=number)


def _command(home: Path, repeats: int, *words: str) -> float:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LAKEFS_", "MLFLOW_"))},
        "VISIONOPS_HOME": str(home),
        "VISIONOPS_PROJECTS": str(home / "projects"),
    }
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "visionops", *words],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        times.append(time.perf_counter() - started)
    return median(times)


if __name__ == "__main__":
    main()
