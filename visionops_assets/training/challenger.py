"""What a training left behind: ids and digests, as the `challenger` asset stores them under a partition."""

from dataclasses import asdict, dataclass
from typing import Any, Self

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
