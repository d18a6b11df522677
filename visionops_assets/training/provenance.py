"""What a training tells of itself: what each epoch achieved, and what is needed to make the same weights again,
stored with the model as `provenance.json`.

Light: whoever shows a training or compares two models need not load torch.
"""

import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from visionops_assets.config.recipe import Recipe
from visionops_assets.training.code_digest import CodeState

Kind = Literal["data", "recipe", "code", "versions", "hardware"]
# What can change the bits, named first among versions, before what merely surrounds it.
COMPUTING = (
    "python",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "pixeltable-yolox",
    "lightning",
    "pytorch-lightning",
    "numpy",
    "safetensors",
    "simplejpeg",
    "imagecodecs",
    "pillow",
)
_SHOWN = 40


@dataclass(frozen=True)
class EpochReport:
    """One epoch, counted from 1. Losses are means over samples; validation is None without such samples.

    `score` names what `validation_score` is: accuracy or mAP50.
    """

    epoch: int
    epochs: int
    train_loss: float
    validation_loss: float | None
    validation_score: float | None
    learning_rate: float
    seconds: float
    score: str = "accuracy"
    # Of a detector: from which score on its boxes are meant, and the F1 that this gives.
    min_score: float | None = None
    validation_f1: float | None = None
    restored: bool = False
    """True where an earlier, interrupted training ran this epoch."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataOrigin(_Part):
    """Which samples: a lakeFS commit, the annotations read there, and the digest of the manifest they give."""

    repository: str
    annotations: str
    commit: str
    manifest_digest: str
    classes: tuple[str, ...]
    train_samples: int
    validation_samples: int


class CodeOrigin(_Part):
    """Which code: digest of the sources that count, git revision, digest of the stored uncommitted change."""

    digest: str
    revision: str | None
    uncommitted_sha256: str | None

    @classmethod
    def of(cls, digest: str, checkout: CodeState | None) -> Self:
        """Of a digest of sources and the checkout that they were loaded from, if there is one."""
        if checkout is None:
            return cls(digest=digest, revision=None, uncommitted_sha256=None)
        return cls(digest=digest, revision=checkout.revision, uncommitted_sha256=checkout.uncommitted_sha256)


class ScriptOrigin(_Part):
    """One's own script, where no recipe made the model: its file, and the parameters that it stated."""

    name: str
    parameters: dict[str, Any]


class ForeignOrigin(_Part):
    """A finished ONNX file from elsewhere: what it is, and what `said_by` declares of it. Where nobody knows what it
    was trained on, `unseen_because` says why the holdout is new to it."""

    file: str
    file_sha256: str
    convention: str
    channel_order: str | None
    scale: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    padding: str | None
    class_order: tuple[str, ...]
    said_by: str
    unseen_because: str | None

    @property
    def stated(self) -> dict[str, Any]:
        """The file, and what is declared of it, by name."""
        return {name: value for name, value in self.model_dump(mode="json").items() if value is not None}


class Provenance(_Part):
    """Everything that went into a model, and what came out. `recipe` is resolved; `recipe_digest` is of the
    recipe as declared. Where a `script` made the model, only `input` and `model` of the recipe say something; where it
    is a `foreign` file, so do packages and code: they put it into the form that ships."""

    format: Literal["1"] = "1"
    project: str
    task: str
    identity: str
    data: DataOrigin
    recipe: Recipe
    recipe_digest: str
    code: CodeOrigin
    packages: dict[str, str]
    hardware: dict[str, str]
    weights_sha256: str
    onnx_sha256: str | None
    metrics: dict[str, float]
    script: ScriptOrigin | None = None
    foreign: ForeignOrigin | None = None

    @model_serializer(mode="wrap")
    def _without_absent_origins(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Recorded code reads what this code writes, and that of before knows no scripts and no foreign files.
        content: dict[str, Any] = serialise(self)
        return {
            name: value
            for name, value in content.items()
            if name not in ("script", "foreign") or value is not None
        }

    @property
    def made_with(self) -> dict[str, Any]:
        """The recipe, or the parameters of one's own script, or what is declared of a foreign file."""
        if self.foreign is not None:
            return self.foreign.stated
        if self.script is not None:
            return {"script": self.script.name, **self.script.parameters}
        return self.recipe.model_dump(mode="json")

    def to_json(self) -> str:
        """Return the text of `provenance.json`."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. Raises pydantic.ValidationError naming what is wrong."""
        return cls.model_validate_json(text)


class Difference(_Part):
    """One input in which two models differ."""

    kind: Kind
    name: str
    before: str
    after: str

    @property
    def words(self) -> str:
        """The difference as one line."""
        return f"{self.kind}: {self.name} {_short(self.before)} → {_short(self.after)}"


def installed_packages() -> dict[str, str]:
    """Return name -> version of Python and every installed distribution, sorted by normalised name."""
    return {"python": platform.python_version(), **dict(_distributions(tuple(sys.path)))}


@cache
def _distributions(path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What this process first found installed there: reading a file for each takes a fifth of a second."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions(path=list(path)):
        described = distribution.metadata
        # Of two of one name, the first on the path is the one that is imported.
        found.setdefault(described["Name"].lower().replace("_", "-"), described["Version"])
    return tuple(sorted(found.items()))


def compare_provenance(before: Provenance, after: Provenance) -> list[Difference]:
    """Return the inputs that differ, in the order in which they explain a difference of weights.

    Data, recipe, code, versions, hardware; inside each what computes comes first. Results are no inputs.
    """
    return [
        Difference(kind=kind, name=name, before=_text(old), after=_text(new))
        for kind, name, old, new in _pairs(before, after)
        if old != new
    ]


def _pairs(before: Provenance, after: Provenance) -> Iterator[tuple[Kind, str, object, object]]:
    for name, label in (
        ("manifest_digest", "manifest"),
        ("classes", "classes"),
        ("train_samples", "training samples"),
        ("validation_samples", "validation samples"),
        ("repository", "repository"),
        ("annotations", "annotations"),
        ("commit", "commit"),
    ):
        yield "data", label, getattr(before.data, name), getattr(after.data, name)
    yield "recipe", "task", before.task, after.task
    yield from _nested("recipe", "", before.made_with, after.made_with)
    if before.foreign is not None or after.foreign is not None:
        # Who made it, and with what, is not known of one of them.
        return
    for name, label in (
        ("digest", "sources"),
        ("uncommitted_sha256", "uncommitted change"),
        ("revision", "revision"),
    ):
        yield "code", label, getattr(before.code, name), getattr(after.code, name)
    names = [*COMPUTING, *sorted((before.packages.keys() | after.packages.keys()) - set(COMPUTING))]
    for name in names:
        yield "versions", name, before.packages.get(name), after.packages.get(name)
    for name in [*before.hardware, *sorted(after.hardware.keys() - before.hardware.keys())]:
        yield "hardware", name.replace("_", " "), before.hardware.get(name), after.hardware.get(name)


def _nested(
    kind: Kind, path: str, before: object, after: object
) -> Iterator[tuple[Kind, str, object, object]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{path}.{key}" if path else str(key)
            yield from _nested(kind, inner, before.get(key), after.get(key))
    else:
        yield kind, path, before, after


def _text(value: object) -> str:
    return "none" if value is None else str(value)


def _short(text: str) -> str:
    if len(text) == 64 and all(character in "0123456789abcdef" for character in text):
        return text[:12]
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
