"""What a training left behind: ids and digests, as the `challenger` asset stores them under a partition."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from resources.model_records import (
    TAG_CODE,
    TAG_IDENTITY,
    TAG_MANIFEST,
    TAG_ONNX,
    TAG_RECIPE,
    TAG_WEIGHTS,
    Run,
)
from visionops_assets.project import Project
from visionops_assets.training.training_version import training_version_of

FORMAT = 1
CURVES_ARTIFACT = "plots/learning_curves.png"
PARITY_ARTIFACT = "model/parity.json"
PATCH_ARTIFACT = "model/uncommitted.patch"
MANIFEST_ARTIFACT = "data/manifest.json"


@dataclass(frozen=True)
class Challenger:
    """A trained model by its MLflow run. Digests are SHA-256 in hex."""

    run_id: str
    identity: str
    weights_sha256: str
    onnx_sha256: str
    manifest_digest: str
    recipe_digest: str
    code_digest: str
    training_version: str

    def to_record(self) -> dict[str, Any]:
        """The stored form."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Read the stored form; raises `ValueError` for another format."""
        if record.get("format") != FORMAT:
            raise ValueError(
                f"the challenger is stored in format {record.get('format')}, this VisionOps reads {FORMAT}: "
                "materialise challenger again"
            )
        return cls(**{name: value for name, value in record.items() if name != "format"})


def challenger_of(run: Run, project: Project) -> Challenger:
    """What a finished run of a project holds, by its tags. Raises `KeyError` where it is no training of ours."""
    return Challenger(
        run_id=run.id,
        identity=run.tags[TAG_IDENTITY],
        weights_sha256=run.tags[TAG_WEIGHTS],
        onnx_sha256=run.tags[TAG_ONNX],
        manifest_digest=run.tags[TAG_MANIFEST],
        recipe_digest=run.tags[TAG_RECIPE],
        code_digest=run.tags[TAG_CODE],
        training_version=training_version_of(project, run.tags[TAG_RECIPE], run.tags[TAG_CODE]),
    )
