"""What a project demands of a new model: the `gate` section of its file."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from resources.nearest import there_are
from visionops_assets.common.error_levels import rows_for_no_loss
from visionops_assets.config.section import Section
from visionops_assets.tasks import task_registry as tasks

# The slices that projects have without declaring them, the last one in detection only.
CLASS_SLICE = "class"
BATCH_SLICE = "batch"
OBJECT_SIZE_SLICE = "object_size"
_RESERVED = frozenset(
    {"sha256", "path", "group", "label", "boxes", CLASS_SLICE, BATCH_SLICE, OBJECT_SIZE_SLICE}
)

Share = Annotated[float, Field(ge=0, le=1)]


class BatchFloor(Section):
    """A floor of its own for one batch; every verdict repeats the reason."""

    floor: Share = Field(description="the batch's floor")
    reason: str = Field(min_length=1, description="why it has one of its own")


class Floors(Section):
    """Accuracies (in detection, mAP@0.5) below which no model is promoted, whatever it is compared with.

    A floor on a slice binds from `min_samples` holdout rows in it.
    """

    overall: Share = Field(0.5, description="of all holdout rows")
    batch: Share = Field(0.5, description="of each batch's holdout rows")
    batches: dict[str, BatchFloor] = Field(default_factory=dict, description="by batch, a floor of its own")
    slices: dict[str, Share] = Field(
        default_factory=dict, description="by slice column, the floor of each of its values"
    )
    min_samples: int = Field(
        default=30, ge=1, description="so many holdout rows a slice needs for its floor to bind"
    )

    def of(self, column: str, value: str) -> tuple[float | None, str | None]:
        """The floor of the slice `column=value`, and the reason if it is an exception."""
        if column != BATCH_SLICE:
            return self.slices.get(column), None
        exception = self.batches.get(value)
        if exception is None:
            return self.batch, None
        return exception.floor, exception.reason


class Regressions(Section):
    """When a slice got worse: it lost more than `tolerance` (0.01, in detection 0.02), on at least `min_samples`
    holdout rows. The tolerance is a share of the images, in detection of average precision."""

    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="what a slice may lose; none: 0.01, in detection 0.02"
    )
    min_samples: int = Field(
        default=10, ge=1, description="so many holdout rows a slice needs to have got worse"
    )

    def tolerated(self, task: str) -> float:
        """What a slice may lose in this task."""
        return tasks.task(task).tolerance if self.tolerance is None else self.tolerance


class Costs(Section):
    """What one image costs, by true and predicted class, in one unit.

    A right answer costs nothing unless `matrix` says so; an error that `matrix` does not name costs
    `otherwise`.
    """

    unit: str = Field(min_length=1, description="what costs are counted in, for example EUR")
    matrix: dict[str, dict[str, float]] = Field(
        description="by true class, by predicted class: what one image costs"
    )
    otherwise: float = Field(description="the cost of an error that `matrix` does not name")

    @field_validator("otherwise")
    @classmethod
    def _otherwise_is_finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("a cost is a finite number")
        return value

    @model_validator(mode="after")
    def _something_costs(self) -> "Costs":
        if self.dearest == 0:
            raise ValueError("every answer costs the same: leave `costs` out, or say which error is dear")
        return self

    @field_validator("matrix")
    @classmethod
    def _costs_are_finite(cls, matrix: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for true, row in matrix.items():
            for predicted, cost in row.items():
                if not math.isfinite(cost):
                    raise ValueError(f"the cost of {true!r} taken for {predicted!r} is not a finite number")
        return matrix

    def of(self, true: str, predicted: str) -> float:
        """The cost of one image of class `true` that a model calls `predicted`."""
        listed = self.matrix.get(true, {}).get(predicted)
        if listed is not None:
            return listed
        return 0.0 if true == predicted else self.otherwise

    @property
    def dearest(self) -> float:
        """How far apart two answers for one image can be, in the unit."""
        prices = [0.0, self.otherwise, *(cost for row in self.matrix.values() for cost in row.values())]
        return max(prices) - min(prices)


class Bootstrap(Section):
    """How often, and from which seed, the holdout's groups are drawn again."""

    draws: int = Field(default=10_000, ge=1_000, description="how often the groups are drawn")
    seed: int = Field(default=0, ge=0, description="from which seed")


class GateRules(Section):
    """The gate of one project.

    `min_improvement` is the δ of the formulas: a share of the images, or, where `costs` are declared, their
    unit per image. `slices` are columns of the predictions table, judged beside class and batch; a critical
    slice is written `column=value`, for example `class=9` or `camera=left`. In detection, where δ is a difference
    of mean average precision, `object_sizes` are the sides in pixels of a square as large as the first medium and the
    first large object (COCO's by default).
    """

    alpha: float = Field(
        default=0.05, gt=0, lt=0.5, description="the level of significance of a project's whole life"
    )
    min_improvement: float = Field(default=0.01, gt=0, description="the least improvement that counts (δ)")
    require: Literal["superior", "non_inferior"] = Field(
        "superior",
        description="whether a challenger has to be shown better, or only not worse by `min_improvement`",
    )
    approval: Literal["auto", "manual"] = Field(
        "auto", description="auto: what passes goes to production; manual: it waits for a person"
    )
    min_holdout: int = Field(default=30, ge=2, description="so many holdout rows a verdict needs")
    floors: Floors = Field(default_factory=Floors, description="what no model may stay below")
    regressions: Regressions = Field(default_factory=Regressions, description="when a slice got worse")
    slices: tuple[str, ...] = Field(
        (), description="columns of the predictions table, judged beside class and batch"
    )
    critical_slices: tuple[str, ...] = Field(
        (), description="`column=value`: slices that have to be shown to be no worse"
    )
    costs: Costs | None = Field(None, description="what errors cost; none: all the same")
    object_sizes: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        (32.0, 96.0),
        description="sides in pixels of a square as large as the first medium and the first large object",
    )
    bootstrap: Bootstrap = Field(default_factory=Bootstrap, description="how intervals are drawn")
    foreign_models: Literal["refuse", "allow"] = Field(
        "refuse",
        description="allow: a submitted ONNX file of which nobody knows what it was trained on may pass, on a "
        "person's word that the holdout is new to it",
    )

    @field_validator("slices")
    @classmethod
    def _slices_are_columns_of_their_own(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        for column in slices:
            if column in _RESERVED:
                raise ValueError(f"{column!r} is not a column to declare: class and batch are always judged")
        if len(set(slices)) != len(slices):
            raise ValueError("a column is named twice")
        return slices

    @model_validator(mode="after")
    def _names_point_somewhere(self) -> "GateRules":
        known = (CLASS_SLICE, BATCH_SLICE, OBJECT_SIZE_SLICE, *self.slices)
        if self.object_sizes[0] >= self.object_sizes[1]:
            raise ValueError(
                f"object_sizes: expected the smaller side first, found {list(self.object_sizes)}"
            )
        for name in self.critical_slices:
            column, equals, value = name.partition("=")
            if not equals or not value or column not in known:
                raise ValueError(
                    f"critical_slices: {name!r} should be 'column=value' with a column of {', '.join(known)}"
                )
        for column in self.floors.slices:
            if column == BATCH_SLICE or column not in known:
                raise ValueError(
                    f"floors.slices: {column!r} should be {CLASS_SLICE!r} or a column of `slices`; "
                    "batches have floors.batch"
                )
        if self.costs is None and self.min_improvement >= 1:
            raise ValueError("min_improvement is a share of the images, below 1, unless costs are declared")
        return self

    @property
    def slice_columns(self) -> tuple[str, ...]:
        """The slice columns of images, by the names that rules use."""
        return (CLASS_SLICE, BATCH_SLICE, *self.slices)

    @property
    def least_groups(self) -> int:
        """On how many groups of holdout images a first challenger can pass at all.

        All groups in its favour are as likely as 2^−groups; to be shown no worse, none of them may show a loss.
        """
        level = self.alpha / 2
        if self.require == "superior":
            return math.ceil(-math.log2(level))
        dearest = self.costs.dearest if self.costs else 1.0
        return rows_for_no_loss(self.min_improvement / dearest, level)

    def digest(self) -> str:
        """SHA-256 of what bears on a verdict; who approves a promotion does not.

        A rule that came with a later release counts from when a project says other than its default: a new release
        alone must not ask every old question again.
        """
        content = self.bearing()
        for name, default in _ADDED.items():
            if content[name] == default:
                del content[name]
        return _digest(content)

    def bearing(self) -> dict[str, Any]:
        """What bears on a verdict, as JSON."""
        return self.model_dump(mode="json", exclude={"approval"})

    def claim(self, holdout_sha256: str) -> str:
        """SHA-256 of what is claimed of a challenger: the test that a wrong promotion has to survive.

        Floors, slices and the least size of the holdout only refuse, and a level that is raised gives the same p
        another limit: under those the same claim is asked again. Another metric, null or draw of the bootstrap is
        another claim, and so are other images: asked on a holdout again and again while it grows, a model that is no
        better would pass one day at any one level (Robbins 1952).
        """
        names = ["require", "costs", "bootstrap"]
        if self.require == "non_inferior":
            names.append("min_improvement")
        return _digest({"holdout": holdout_sha256, **{name: self.bearing()[name] for name in names}})

    def check_task(self, task: str) -> None:
        """Raise ValueError if a rule means nothing in the project's task."""
        learnt = tasks.task(task)
        if not learnt.costs and self.costs is not None:
            raise ValueError(f"gate.costs are for classification: in {task} an image has no single answer")
        sizes = any(name.partition("=")[0] == OBJECT_SIZE_SLICE for name in self.critical_slices)
        if not learnt.sized and (sizes or OBJECT_SIZE_SLICE in self.floors.slices):
            raise ValueError(f"the gate names {OBJECT_SIZE_SLICE}, which only detection has")

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise ValueError if a rule names a class that the project does not have."""
        named: set[str] = set()
        if self.costs is not None:
            named |= set(self.costs.matrix)
            named |= {predicted for row in self.costs.matrix.values() for predicted in row}
        named |= {
            value
            for column, _, value in (name.partition("=") for name in self.critical_slices)
            if column == CLASS_SLICE
        }
        unknown = sorted(named - set(classes))
        if unknown:
            raise ValueError(
                f"the gate names {unknown[0]!r}, which is no class; {there_are(unknown[0], list(classes))}"
            )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two gates' rules (`GateRules.bearing`), in words: `floors.overall 0.999, now 0.85`."""
    then, since = _flat(before), _flat(now)
    return [
        f"{name} {_value(then, name)}, now {_value(since, name)}"
        for name in sorted({*then, *since})
        if then.get(name) != since.get(name)
    ]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _value(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    return "none" if value is None or value in ({}, []) else json.dumps(value, ensure_ascii=False)


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


# Fields that the first release's verdicts were made without, at their defaults.
_ADDED = {"regressions": Regressions().model_dump(mode="json"), "foreign_models": "refuse"}
