"""What a project file says about devices: which groups there are, what each follows, and how it is given a model."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from edge.formats import check_group
from edge.machine import in_window
from visionops_assets.config.production_rules import CaptureRules
from visionops_assets.config.rollout_rules import RolloutRules
from visionops_assets.config.section import Section

GroupName = Annotated[str, AfterValidator(check_group)]
ProviderName = Annotated[str, StringConstraints(pattern=r"^\w+ExecutionProvider$")]
# A device that sees few images keeps a model after this long with at least one right answer.
OBSERVE_SECONDS = 86_400
# Seconds between two reports of a device, where nothing is said.
REPORT_EVERY = 300.0


class Budget(Section):
    """The most an image may take on a device of a group; a device's self-test refuses a model that takes more."""

    cpu_ms: float | None = Field(None, gt=0, description="milliseconds of processor time an image")
    memory_mb: float | None = Field(None, ge=1, description="MB of memory of the process")


class DeliveredGroup(Section):
    """What one device group is given, and how. What is not said stays as the group's last assignment has it."""

    follow: Literal["all", "own"] = Field(
        "all",
        description="all: its own champion where it has one, else the champion of all. own: its own champion only",
    )
    budget: Budget = Field(Budget(), description="the most an image may take")
    tolerance: dict[ProviderName, Annotated[float, Field(ge=0, lt=1)]] = Field(
        {}, description="by provider of ONNX Runtime, the most that an answer may differ on a device"
    )
    observe: int | None = Field(None, ge=1, description="right answers until a device keeps a new model")
    poll_every: float | None = Field(
        None, ge=1, le=86400, description="seconds between two looks of a device"
    )
    report_every: float | None = Field(
        None, ge=1, le=86400, description="seconds between two reports of a device, 300 where nothing is said"
    )
    window: str | None = Field(
        None, description='when devices may change models: "22:00-05:00 Europe/Berlin"; "always" lifts it'
    )
    max_kbps: float | None = Field(None, ge=1, description="the most a device downloads, in kbit/s")
    log_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="devices log this share of what they answer, chosen by the digest of the image; all is counted",
    )
    rollout: RolloutRules | None = Field(
        None,
        description="the waves in which it gets what all are promoted to; none: all its devices get it at once",
    )

    @model_validator(mode="after")
    def _rollout_is_seen_in_reports(self) -> Self:
        if self.rollout is not None:
            self.rollout.check_interval(self.report_every or REPORT_EVERY)
        return self

    @field_validator("window")
    @classmethod
    def _window_can_be_read(cls, window: str | None) -> str | None:
        if window is not None:
            window_of(window)
        return window

    def options(self, captures: CaptureRules) -> dict[str, Any]:
        """Its part of an assignment; None where the file does not say. `captures` are the project's."""
        return {
            "observe": {"frames": self.observe, "seconds": OBSERVE_SECONDS} if self.observe else None,
            "poll_every": self.poll_every,
            "report_every": self.report_every,
            "block": self.rollout.block.total_seconds() if self.rollout is not None else None,
            "window": window_of(self.window) if self.window is not None else None,
            "max_kbps": self.max_kbps,
            "log": what_is_logged(captures, self.log_share),
        }


class DeliveryRules(Section):
    """The device groups that follow what is promoted. Those that are not named are published to by hand."""

    groups: dict[GroupName, DeliveredGroup] = Field(
        {}, description="by device group, what it is given and how"
    )
    known_as: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")] | None = Field(
        None,
        description="what devices know the project as, where it was renamed: their repository and what is signed for "
        "them have this name; none: its own",
    )
    check_every: int = Field(30, ge=5, description="seconds between two looks of the sensor")
    attempts: int = Field(
        3, ge=1, le=20, description="how often a publication that ended with an error is tried"
    )

    @property
    def following(self) -> list[str]:
        """The groups that run what all run where they have no champion of their own."""
        return [name for name, rules in self.groups.items() if rules.follow == "all"]

    @field_validator("groups", mode="before")
    @classmethod
    def _nothing_said_is_all_default(cls, groups: Any) -> Any:
        """`line-1:` with nothing behind it is a group, too."""
        if not isinstance(groups, Mapping):
            return groups
        return {name: {} if said is None else said for name, said in groups.items()}


def what_is_logged(captures: CaptureRules, share: float = 1.0) -> dict[str, Any]:
    """What devices log of what they answer, and which frames they keep, as an assignment has it. How far an image is
    from those before no device measures."""
    return {
        "share": share,
        "captured": captures.share,
        "unsure": captures.below_confidence,
        "bytes_per_day": captures.bytes_per_day,
    }


def window_of(text: str) -> dict[str, Any]:
    """A window as an assignment has it, from words; `always` is `{}`. Raises ValueError."""
    if text == "always":
        return {}
    hours, _, zone = text.strip().partition(" ")
    first, _, last = hours.partition("-")
    found = {"from": first, "to": last, "zone": zone.strip() or "UTC"}
    try:
        in_window(found, datetime.now(UTC))
    except ValueError as error:
        raise ValueError(f'{text!r} is no window such as "22:00-05:00 Europe/Berlin": {error}') from error
    return found
