"""Where certificates are kept: artifacts of the version's run; the last reproduction also as tags of the version."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resources.model_errors import ArtifactMissing
from resources.model_records import (
    ONNX_ARTIFACT,
    TAG_REPRODUCTION,
    TAG_REPRODUCTION_PAGE,
    TAG_REPRODUCTION_WHEN,
    WEIGHTS_ARTIFACT,
    ModelVersion,
)
from visionops_assets.pages.html_page import to_html
from visionops_assets.registry import Registry
from visionops_assets.reproduction.certificate import Certificate
from visionops_assets.reproduction.clean_process import ReproductionFailed
from visionops_assets.reproduction.exchange import ONNX, WEIGHTS

FOLDER = "reproduction"


@dataclass(frozen=True)
class Reproduced:
    """A certificate and where it is kept: `file` (JSON) and `page` (HTML) are artifacts of run `run_id`.

    `restored` are the artifacts of the version that were gone or altered and are what they were again.
    """

    certificate: Certificate
    run_id: str
    file: str
    page: str
    restored: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `visionops reproduce --json` prints."""
        first = self.certificate.first_difference
        return {
            **self.certificate.model_dump(mode="json"),
            "first_difference": None if first is None else first.model_dump(mode="json"),
            "words": self.certificate.words,
            "run_id": self.run_id,
            "file": self.file,
            "page": self.page,
            "restored": list(self.restored),
        }


def keep(registry: Registry, made: ModelVersion, certificate: Certificate, when: datetime) -> Reproduced:
    """Store a certificate with its version. One that only compared inputs leaves the version's tags as they are."""
    name = f"{FOLDER}/{when.astimezone(UTC):%Y%m%dT%H%M%S%f}"
    kept = Reproduced(certificate, made.run_id, f"{name}.json", f"{name}.html")
    registry.artifacts.put_bytes(made.run_id, kept.file, certificate.to_json().encode())
    registry.artifacts.put_bytes(made.run_id, kept.page, to_html(certificate.to_page()).encode())
    if certificate.compared == "weights" or not certificate.holds:
        found = "equivalent" if certificate.equivalent else certificate.result
        tags = {
            TAG_REPRODUCTION: f"{found}{'' if certificate.verified else ', by a record that was not verified'}",
            TAG_REPRODUCTION_WHEN: when.astimezone(UTC).isoformat(timespec="seconds"),
            TAG_REPRODUCTION_PAGE: kept.page,
        }
        registry.models.set_version_tags(made.project, made.version, tags)
    return kept


def restore(registry: Registry, made: ModelVersion, trained: Path) -> tuple[str, ...]:
    """Put back the files of a version that are gone or altered, from the folder where it was made again.

    Only what has the registered digest is put back. Raises `ReproductionFailed` where a file that is missing was made
    with another one, or not at all.
    """
    restored = []
    for artifact, name, digest in (
        (WEIGHTS_ARTIFACT, WEIGHTS, made.weights_sha256),
        (ONNX_ARTIFACT, ONNX, made.onnx_sha256),
    ):
        with suppress(ArtifactMissing):
            if registry.artifacts.sha256(made.run_id, artifact) == digest:
                continue
        file = trained / name
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "nothing"
        if found != digest:
            raise ReproductionFailed(
                f"{artifact} of version {made.version} cannot be put back: {digest[:12]} is registered, {found[:12]} "
                "was made; the weights are the same, so `visionops train` and `visionops submit` make a version of it"
            )
        registry.artifacts.put_bytes(made.run_id, artifact, file.read_bytes())
        restored.append(artifact)
    return tuple(restored)
