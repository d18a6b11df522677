"""The verdict as stored data: what was decided, from which numbers, in words.

Format 1: one JSON object, the fields of `Verdict`. A number that does not exist is null, never NaN.
"""

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from resources.error_family import Altered
from visionops_assets.champions.registered_model import Outcome

Kind = Literal["decision", "what_if"]
# How a bound was found: bootstrap, the normal approximation on group sums, or no difference to resample.
Method = Literal["bca", "normal", "constant"]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelReference(_Stored):
    """A model by its identity (SHA-256 of the weights), and where to find it."""

    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    onnx_sha256: str | None = None
    run_id: str | None = None
    version: int | None = None

    def name(self) -> str:
        """How a sentence calls it."""
        short = self.weights_sha256[:12]
        return f"version {self.version} ({short})" if self.version is not None else short


class Bound(_Stored):
    """A one-sided confidence bound of a difference; `level` is the chance that it errs."""

    value: float
    level: float
    method: Method


class Comparison(_Stored):
    """Champion and challenger by one metric; a positive `difference` means that the challenger is better."""

    metric: str
    unit: str
    challenger: float
    champion: float | None = None
    difference: float | None = None
    lower: Bound | None = None
    upper: Bound | None = None
    wins: int | None = None
    losses: int | None = None
    p_superior: float | None = None
    p_inferior: float | None = None
    # The lower bound at the level left to this challenger, where the claim rests on one.
    claim: Bound | None = None
    # Chance of so few net losses, were the challenger worse by the margin (`significance.least_losses`).
    p_margin: float | None = None


class SliceRow(_Stored):
    """One slice of the holdout. `column` is null for the whole; `outside` names batches that it leaves out."""

    column: str | None
    value: str
    outside: str | None = None
    rows: int
    groups: int
    challenger: float
    champion: float | None = None
    metric: str = "accuracy"
    # Images that one of the models alone gets right; null where a metric counts none.
    wins: int | None = 0
    losses: int | None = 0
    # Of the null that at most `tolerance` was lost (in verdicts of earlier releases: nothing); null where the slice has
    # too few rows to be tested.
    p_worse: float | None = None
    p_worse_holm: float | None = None
    tolerance: float | None = None
    # The smallest true loss that is found with 80% power.
    loss_found: float | None = None
    regressed: bool = False
    critical: bool = False
    lower: Bound | None = None
    floor: float | None = None
    floor_reason: str | None = None
    below_floor: bool = False
    rows_needed: int | None = None
    labels_to_collect: int | None = None

    def name(self) -> str:
        """`column=value`, or `overall`."""
        if self.column is None:
            return "overall"
        where = f" outside batch {self.outside}" if self.outside else ""
        return f"{self.column}={self.value}{where}"


class LabelsNeeded(_Stored):
    """How many holdout rows would show an improvement of `improvement` with 80% power at `level`.

    `rows_needed` is null where the models never differ: no number of labels would tell them apart.
    `labels_to_collect` counts all labels, of which the holdout gets its share.
    """

    improvement: float
    level: float
    spread: float
    rows_now: int
    rows_needed: int | None
    labels_to_collect: int | None


class Leak(_Stored):
    """A holdout image that was trained on, as the same bytes or as a near duplicate."""

    holdout_sha256: str
    training_sha256: str
    kind: Literal["checksum", "perceptual"]
    distance: int | None = None
    correlation: float | None = None
    holdout_path: str | None = None
    training_path: str | None = None


class Suspect(_Stored):
    """A batch whose labels part from the champion's answers far more than those of the other batches."""

    batch: str
    rows: int
    agreement: float
    elsewhere: float
    confusion: str | None = None


class BatchBetween(_Stored):
    """Training and validation images of one batch that differ between champion and challenger, by what happened.

    `published`: `visionops retract` can take the batch back.
    """

    batch: str
    added: int = 0
    removed: int = 0
    relabelled: int = 0
    published: bool = True


class Between(_Stored):
    """What came between the trainings of champion and challenger: batches, and recipe, code and packages in words."""

    batches: list[BatchBetween]
    inputs: list[str]


class Evidence(_Stored):
    """All numbers a verdict rests on."""

    rows: int
    groups: int
    primary: Comparison
    guards: list[Comparison] = Field(default_factory=list)
    slices: list[SliceRow] = Field(default_factory=list)
    labels: LabelsNeeded | None = None
    leak_count: int = 0
    leaks: list[Leak] = Field(default_factory=list)
    suspects: list[Suspect] = Field(default_factory=list)
    between: Between | None = None
    absent_classes: list[str] = Field(default_factory=list)
    present_classes: int
    constant_prediction: str | None = None


class Reason(_Stored):
    """One sentence of a verdict: what it leads to, which rule says so, about what."""

    effect: Outcome | Literal["NOTE"]
    rule: str
    subject: str
    text: str


class Verdict(_Stored):
    """PASS, FAIL or INSUFFICIENT for one challenger, with its evidence.

    `rules` is what `rules_digest` is of; verdicts of earlier releases have the digest alone. `training` identifies what
    somebody says that a challenger from elsewhere was trained on.
    """

    format: Literal[1] = 1
    verdict: Outcome
    kind: Kind
    project: str
    challenger: ModelReference
    champion: ModelReference | None
    holdout_digest: str
    rules_digest: str
    rules: dict[str, Any] | None = None
    k: int
    alpha: float
    alpha_k: float
    claimed_against: str
    reasons: list[Reason]
    evidence: Evidence | None
    created_at: datetime
    dagster_run_id: str | None = None
    # Absent, not null, where there is none: earlier releases read it then.
    training: str | None = Field(None, exclude_if=lambda training: training is None)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def identity(self) -> str:
        """Digest of (challenger, champion, holdout, gate rules); see `verdict_identity`."""
        champion = self.champion.weights_sha256 if self.champion else None
        return verdict_identity(
            self.challenger.weights_sha256, champion, self.holdout_digest, self.rules_digest, self.training
        )

    def may_promote(self) -> bool:
        """Whether this verdict alone can make the challenger champion: a decision, with PASS."""
        return self.verdict == "PASS" and self.kind == "decision"

    def to_json(self) -> str:
        """The stored form."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Verdict":
        """Read the stored form.

        Raises ValueError where the text is no verdict, is of another format, or its identity is not that of
        its contents.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != 1:
            found = content.get("format") if isinstance(content, dict) else None
            raise Altered(f"this is no verdict of format 1 (format is {found!r}); judge the model again")
        stored = content.pop("identity", None)
        verdict = cls.model_validate(content)
        if stored != verdict.identity:
            raise Altered(f"the verdict was altered: it says {stored}, its contents {verdict.identity}")
        return verdict


def verdict_identity(
    challenger_sha256: str,
    champion_sha256: str | None,
    holdout_digest: str,
    rules_digest: str,
    training: str | None = None,
) -> str:
    """What a verdict is filed under: the same inputs always give the same verdict. Of a file from elsewhere the weights
    do not tell the `training`: said otherwise, it is another question."""
    said = [] if training is None else [training]
    content = json.dumps([challenger_sha256, champion_sha256, holdout_digest, rules_digest, *said])
    return hashlib.sha256(content.encode()).hexdigest()
