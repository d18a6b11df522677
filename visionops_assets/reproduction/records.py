"""Where certificates are kept: artifacts of the version's run; the last reproduction also as tags of the version."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resources.model_records import (
    TAG_REPRODUCTION,
    TAG_REPRODUCTION_PAGE,
    TAG_REPRODUCTION_WHEN,
    ModelVersion,
)
from visionops_assets.promotion.report import to_html
from visionops_assets.registry import Registry
from visionops_assets.reproduction.certificate import Certificate

FOLDER = "reproduction"


@dataclass(frozen=True)
class Reproduced:
    """A certificate and where it is kept: `file` (JSON) and `page` (HTML) are artifacts of run `run_id`."""

    certificate: Certificate
    run_id: str
    file: str
    page: str

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
        }


def keep(registry: Registry, made: ModelVersion, certificate: Certificate, when: datetime) -> Reproduced:
    """Store a certificate with its version. One that only compared inputs leaves the version's tags as they are."""
    name = f"{FOLDER}/{when.astimezone(UTC):%Y%m%dT%H%M%S%f}"
    kept = Reproduced(certificate, made.run_id, f"{name}.json", f"{name}.html")
    registry.artifacts.put_bytes(made.run_id, kept.file, certificate.to_json().encode())
    registry.artifacts.put_bytes(made.run_id, kept.page, to_html(certificate.to_page()).encode())
    if certificate.compared == "weights" or not certificate.holds:
        tags = {
            TAG_REPRODUCTION: "equivalent" if certificate.equivalent else certificate.result,
            TAG_REPRODUCTION_WHEN: when.astimezone(UTC).isoformat(timespec="seconds"),
            TAG_REPRODUCTION_PAGE: kept.page,
        }
        registry.models.set_version_tags(made.project, made.version, tags)
    return kept
