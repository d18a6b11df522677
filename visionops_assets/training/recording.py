"""What a training leaves in its MLflow run, alike for a challenger, an experiment and one's own script."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resources.model_records import (
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_ONNX,
    TAG_PROVENANCE,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
)
from resources.models.registry import ModelRegistry
from visionops_assets.dataset.versions.manifest import Manifest
from visionops_assets.training.challenger import (
    CURVES_ARTIFACT,
    MANIFEST_ARTIFACT,
    PARITY_ARTIFACT,
    PATCH_ARTIFACT,
)
from visionops_assets.training.code_digest import CodeState
from visionops_assets.training.curves import learning_curves
from visionops_assets.training.export import ParityReport
from visionops_assets.training.history import EpochReport
from visionops_assets.training.provenance import Provenance


def epoch_metrics(report: EpochReport) -> dict[str, float]:
    """The numbers of one epoch by name; what could not be measured is left out."""
    numbers = {
        "train_loss": report.train_loss,
        "validation_loss": report.validation_loss,
        f"validation_{report.score}": report.validation_score,
        "validation_F1": report.validation_f1,
        "min_score": report.min_score,
        "learning_rate": report.learning_rate,
        "epoch_seconds": report.seconds,
    }
    return {name: value for name, value in numbers.items() if value is not None}


def put_model(
    registry: ModelRegistry,
    run_id: str,
    *,
    weights: Path,
    onnx: Path,
    proof: ParityReport,
    provenance: Provenance,
    manifest: Manifest,
    checkout: CodeState | None,
    history: Sequence[EpochReport],
) -> None:
    """Write the files of a model: what the gate, promotion and reproduction read. Their digests are tags of the run."""
    files, record = registry.artifacts, provenance.to_json().encode()
    proven = {**asdict(proof), "passed": proof.passed, "summary": proof.summary}
    files.put_file(run_id, WEIGHTS_ARTIFACT, weights)
    files.put_file(run_id, ONNX_ARTIFACT, onnx)
    files.put_bytes(run_id, PROVENANCE_ARTIFACT, record)
    files.put_bytes(run_id, PARITY_ARTIFACT, json.dumps(proven, indent=1).encode())
    files.put_bytes(run_id, MANIFEST_ARTIFACT, json.dumps(manifest.to_json(), indent=1).encode())
    if history:
        files.put_bytes(run_id, CURVES_ARTIFACT, learning_curves(history, provenance.project))
    if checkout is not None and checkout.uncommitted:
        patch = checkout.uncommitted.encode(errors="surrogateescape")
        files.put_bytes(run_id, PATCH_ARTIFACT, patch)
    digests = {
        TAG_WEIGHTS: provenance.weights_sha256,
        TAG_ONNX: provenance.onnx_sha256 or "",
        TAG_PROVENANCE: hashlib.sha256(record).hexdigest(),
    }
    registry.runs.set_tags(run_id, digests)


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted path, as MLflow and W&B compare them side by side."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{path}."))
        else:
            flat[path] = json.dumps(value) if isinstance(value, list | tuple) else value
    return flat
