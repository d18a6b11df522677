"""The certificate of a reproduction: identical, or the first recorded input that differs.

Light: it compares what is recorded and trains nothing. Certificates are kept as artifacts of the version's run; the
last reproduction also as tags of the version.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from resources.models.records import (
    ONNX_ARTIFACT,
    TAG_REPRODUCTION,
    TAG_REPRODUCTION_PAGE,
    TAG_REPRODUCTION_WHEN,
    WEIGHTS_ARTIFACT,
    ArtifactMissing,
    ModelVersion,
)
from visionops_assets.champions.registered_model import Registry
from visionops_assets.pages.html_page import to_html
from visionops_assets.pages.page import Block, Facts, Heading, Page, Paragraph, Table
from visionops_assets.reproduction.clean_process import ONNX, WEIGHTS, ReproductionFailed
from visionops_assets.training.provenance import Difference, Kind, Provenance, compare_provenance

UNVERIFIED = "not verified: registered before its digest was, it may have been altered since"
CERTIFICATES = "reproduction"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricPair(_Part):
    """One metric of the original and of the reproduction; `interval` is where the latter may lie."""

    name: str
    original: float
    reproduced: float | None
    interval: tuple[float, float] | None = None

    @property
    def within(self) -> bool | None:
        """Whether the reproduction lies in the interval; None without one."""
        if self.interval is None:
            return None
        low, high = self.interval
        return self.reproduced is not None and low <= self.reproduced <= high


class Certificate(_Part):
    """What a reproduction of one model found.

    `compared` says what `result` is about: the weights, or only the inputs where nothing was trained.
    `differences` are in the order in which they explain. `equivalent` is for recipes with `reproducibility:
    statistical`: different weights whose metrics all lie within their intervals. `verified` says that the record
    that was followed has the digest that was registered; without, somebody may have altered it.
    """

    format: Literal["1"] = "1"
    # False too for certificates from before versions had a digest of their record.
    verified: bool = False
    project: str
    version: int
    result: Literal["identical", "differs"]
    compared: Literal["weights", "inputs"]
    equivalent: bool
    original_weights_sha256: str
    reproduced_weights_sha256: str | None
    differences: tuple[Difference, ...]
    metrics: tuple[MetricPair, ...]

    @property
    def first_difference(self) -> Difference | None:
        """The input that explains a difference of weights best; None where none is recorded."""
        return self.differences[0] if self.differences else None

    @property
    def holds(self) -> bool:
        """Whether the version can be made again as its recipe promises."""
        return self.result == "identical" or self.equivalent

    @property
    def words(self) -> str:
        """The finding in one sentence."""
        if self.compared == "inputs":
            if self.first_difference is None:
                return "every recorded input is here, as it was when the model was made; nothing was trained"
            return f"nothing was trained: the first input that differs is {self.first_difference.words}"
        if self.result == "identical":
            besides = (
                f"; {len(self.differences)} recorded inputs differ all the same" if self.differences else ""
            )
            return f"identical: the same weights, bit for bit{besides}"
        if self.equivalent:
            return (
                "other weights, as the recipe's `reproducibility: statistical` allows; "
                "every judged metric lies in its interval"
            )
        if self.first_difference is None:
            return (
                "the weights differ though every recorded input is the same: the model draws on something that is "
                "not recorded (its own files, time, the network), or the processor differs in a way it does not tell"
            )
        return f"the weights differ; the first input that differs is {self.first_difference.words}"

    def to_json(self) -> str:
        """Return the certificate as stored beside the model."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises pydantic.ValidationError naming what is wrong."""
        return cls.model_validate_json(text)

    def to_page(self) -> Page:
        """Return the certificate as a page to read."""
        heading = self.result if self.compared == "weights" else f"inputs {self.result}"
        return Page(
            f"Reproduction of {self.project} version {self.version}: {heading}", tuple(self._blocks())
        )

    def _blocks(self) -> Iterator[Block]:
        yield Paragraph(f"{self.words[0].upper()}{self.words[1:]}.")
        yield Facts(
            (
                ("original weights", self.original_weights_sha256),
                ("reproduced weights", self.reproduced_weights_sha256 or "not trained"),
                ("record", "as it was registered" if self.verified else UNVERIFIED),
            )
        )
        if self.metrics:
            yield Heading("Metrics")
            yield Table(
                ("metric", "original", "reproduced", "allowed"), tuple(map(_metric_row, self.metrics))
            )
        yield Heading("Inputs that differ")
        if self.differences:
            rows = tuple((one.kind, one.name, one.before, one.after) for one in self.differences)
            yield Table(("kind", "input", "original", "now"), rows)
        else:
            yield Paragraph("None of the recorded data, recipe, code, versions and hardware.")


def certify(
    version: int,
    original: Provenance,
    reproduced: Provenance,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Certificate:
    """Compare a model with its reproduction.

    `intervals` gives, by metric, the range in which a statistical reproduction must lie (the 95% interval of the
    original); without any, different weights are never equivalent.
    """
    allowed = intervals or {}
    pairs = tuple(
        MetricPair(
            name=name, original=value, reproduced=reproduced.metrics.get(name), interval=allowed.get(name)
        )
        for name, value in sorted(original.metrics.items())
    )
    identical = original.weights_sha256 == reproduced.weights_sha256
    within = [pair.within for pair in pairs if pair.within is not None]
    statistical = original.recipe.reproducibility == "statistical"
    return Certificate(
        project=original.project,
        version=version,
        result="identical" if identical else "differs",
        compared="weights",
        equivalent=not identical and statistical and len(within) == len(allowed) > 0 and all(within),
        original_weights_sha256=original.weights_sha256,
        reproduced_weights_sha256=reproduced.weights_sha256,
        differences=tuple(compare_provenance(original, reproduced)),
        metrics=pairs,
    )


def compare_inputs(version: int, original: Provenance, present: Provenance) -> Certificate:
    """Compare the recorded inputs with those that a reproduction finds, without training.

    The weights and metrics of `present` are not looked at.
    """
    return _without_training(version, original, tuple(compare_provenance(original, present)))


def certify_missing(
    version: int, original: Provenance, kind: Kind, name: str, expected: str, found: str = "missing"
) -> Certificate:
    """Certify that a model cannot be made again because an input is gone, such as a deleted commit."""
    return _without_training(
        version, original, (Difference(kind=kind, name=name, before=expected, after=found),)
    )


def _without_training(version: int, original: Provenance, differences: tuple[Difference, ...]) -> Certificate:
    return Certificate(
        project=original.project,
        version=version,
        result="differs" if differences else "identical",
        compared="inputs",
        equivalent=False,
        original_weights_sha256=original.weights_sha256,
        reproduced_weights_sha256=None,
        differences=differences,
        metrics=(),
    )


def _metric_row(pair: MetricPair) -> tuple[str, ...]:
    reproduced = "missing" if pair.reproduced is None else f"{pair.reproduced:.6g}"
    allowed = "" if pair.interval is None else f"{pair.interval[0]:.6g} to {pair.interval[1]:.6g}"
    return (pair.name, f"{pair.original:.6g}", reproduced, allowed)


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


def keep_certificate(
    registry: Registry, made: ModelVersion, certificate: Certificate, when: datetime
) -> Reproduced:
    """Store a certificate with its version. One that only compared inputs leaves the version's tags as they are."""
    name = f"{CERTIFICATES}/{when.astimezone(UTC):%Y%m%dT%H%M%S%f}"
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


def restore_certificate(registry: Registry, made: ModelVersion, trained: Path) -> tuple[str, ...]:
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
                f"was made; the weights are the same, so `visionops train {made.project}` and `visionops submit "
                f"{made.project} RUN` make a version of it"
            )
        registry.artifacts.put_bytes(made.run_id, artifact, file.read_bytes())
        restored.append(artifact)
    return tuple(restored)
