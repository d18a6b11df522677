"""One vision project's life, declared in one YAML file under `projects/`."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from visionops_assets.dataset.rules import AuditRules, DropRules
from visionops_assets.evaluation.rules import GateRules
from visionops_assets.monitoring.drift_rules import DriftRules
from visionops_assets.monitoring.rules import ProductionRules
from visionops_assets.training.recipe import Recipe

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
RepositoryName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{2,62}$")]
Owner = Annotated[str, StringConstraints(pattern=r"^(team:[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")]
Label = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class ProjectError(ValueError):
    """A project file that cannot be used; the message names the file, the field and what was expected."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Splits(_Section):
    """The share of samples each side gets when a new group comes in without a split of its own."""

    train: float = Field(0.6, gt=0, lt=1)
    val: float = Field(0.15, gt=0, lt=1)
    holdout: float = Field(0.25, gt=0, lt=1)
    salt: str = ""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.val + self.holdout
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + holdout must be 1, not {total:g}")
        return self

    def shares(self) -> dict[str, float]:
        """Share by side."""
        return {"train": self.train, "val": self.val, "holdout": self.holdout}


class Trigger(_Section):
    """When a commit on `main` starts a run."""

    min_new_samples: int = Field(1, ge=0)
    quiet_for: datetime.timedelta = datetime.timedelta(0)
    at_most_every: datetime.timedelta = datetime.timedelta(0)
    attempts: int = Field(3, ge=1, le=20)
    check_every: datetime.timedelta = datetime.timedelta(seconds=30)


class Project(_Section):
    """A project file. Every other part of the product reads what it needs from here."""

    project: Name
    description: str = ""
    owners: tuple[Owner, ...] = ("team:vision",)
    licence: str = ""
    task: Literal["classification", "detection"] = "classification"
    repository: RepositoryName
    annotations: Name
    classes: tuple[Label, ...] = Field(min_length=1)
    # True: nobody ever empties or changes the drop, so images are not copied; lakeFS refers to them there.
    source_is_immutable: bool = False
    drop: DropRules = DropRules()
    audit: AuditRules = AuditRules()
    splits: Splits = Splits()
    trigger: Trigger = Trigger()
    recipe: Recipe
    # Where trainings tell their parameters and epochs. Files, digests and the registry are MLflow's in any case.
    tracking: tuple[Literal["mlflow", "wandb"], ...] = Field(("mlflow",), min_length=1)
    gate: GateRules = GateRules()
    production: ProductionRules = ProductionRules()
    drift: DriftRules = DriftRules()

    @field_validator("classes")
    @classmethod
    def _classes_can_be_told_apart(cls, classes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if len(classes) < 2 and info.data.get("task") != "detection":
            raise ValueError("classification needs at least 2 classes to tell apart")
        return classes

    @model_validator(mode="after")
    def _classes_are_distinct(self) -> Self:
        twice = sorted({label for label in self.classes if self.classes.count(label) > 1})
        if twice:
            raise ValueError(f"classes must be distinct; given twice: {', '.join(twice)}")
        self.gate.check_classes(self.classes)
        self.gate.check_task(self.task)
        return self

    def performance_floor(self) -> float:
        """The performance that production has to hold: what the project says of it, else the gate's overall floor."""
        return self.drift.floor if self.drift.floor is not None else self.gate.floors.overall


def load_project(path: Path) -> Project:
    """Read one project file. Raises `ProjectError` listing every wrong field."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ProjectError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProjectError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise ProjectError(f"{path}: must be a mapping of fields, starting with `project: <name>`")
    try:
        return Project.model_validate(content)
    except ValidationError as error:
        raise ProjectError("\n".join(f"{path}: {_explain(found)}" for found in error.errors())) from error


def load_projects(folder: Path) -> list[Project]:
    """Every `*.yaml` of a folder, by name. Raises `ProjectError` on a bad file or a name used twice."""
    paths = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    projects: dict[str, tuple[Path, Project]] = {}
    for path in paths:
        project = load_project(path)
        if project.project in projects:
            first = projects[project.project][0]
            raise ProjectError(f"{path}: project: {project.project} is already declared in {first}")
        projects[project.project] = (path, project)
    return [project for _, project in projects.values()]


def find_project(projects: Sequence[Project], name: str) -> Project:
    """The project called `name`; `ProjectError` lists those there are."""
    for project in projects:
        if project.project == name:
            return project
    known = ", ".join(project.project for project in projects) or "none"
    raise ProjectError(f"no project is called {name}; there are: {known}")


def _explain(found: Any) -> str:
    field = ".".join(str(part) for part in found["loc"]) or "the file"
    given = found.get("input")
    said = found["msg"].removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        return f"{field}: is not a field of a project file; remove it or correct its spelling"
    if found["type"] == "missing":
        return f"{field}: is required"
    shown = f" (found {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return f"{field}: {said[0].lower()}{said[1:]}{shown}"
