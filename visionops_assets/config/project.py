"""The project file: what is stated of one project, its batches included, checked as it is read."""

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self, overload

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from resources.error_family import Invalid
from resources.nearest import meant_field, there_are
from visionops_assets.config.device_group_rules import DeliveryRules
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.config.model_catalogue import catalogued, why_it_does_not_fit
from visionops_assets.config.production_rules import DriftRules, ProductionRules
from visionops_assets.config.recipe import Recipe
from visionops_assets.config.recipe_parts import why_not_learnt
from visionops_assets.config.section import NotYAML, Section, parse_yaml
from visionops_assets.tasks import task_registry as tasks

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
RepositoryName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{2,62}$")]
Owner = Annotated[str, StringConstraints(pattern=r"^(team:[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")]
Label = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class DropRules(Section):
    """Where batches arrive, and when one is complete."""

    address: str | None = Field(
        None,
        description="a folder or `s3://bucket/prefix` with a folder a batch; none: the project's in the drop of all",
    )
    quiet_for: datetime.timedelta = Field(
        datetime.timedelta(minutes=10),
        description="a batch without a `_SUCCESS` marker is complete when its files stayed the same for this long",
    )
    check_every: datetime.timedelta = Field(
        datetime.timedelta(seconds=30), description="how often the sensor looks at the drop"
    )
    attempts: int = Field(
        3, ge=1, le=20, description="how often an import that ended with an error (not a refusal) is tried"
    )
    format: str | None = Field(
        None,
        description="how batches keep their labels, as `visionops inspect` names it; none: it is recognised",
    )


class AuditRules(Section):
    """Limits of the audit of a batch. Sides in pixels; `max_aspect` is the longer side by the shorter."""

    min_side: int = Field(4, ge=1, description="the shortest side that an image may have, in pixels")
    max_side: int = Field(20_000, ge=1, description="the longest side that an image may have, in pixels")
    max_aspect: float = Field(
        50.0, ge=1, description="how many times its shorter side an image's longer one may be"
    )
    confidence: float = Field(
        0.9,
        gt=0,
        le=1,
        description="the champion disagrees confidently where it is at least this sure of another class than the label",
    )
    max_disagreement: float | None = Field(
        None,
        ge=0,
        le=1,
        description="the largest share of such images in a batch, or it is refused. None: they are only listed",
    )
    max_chain: float = Field(
        0.1,
        gt=0,
        le=1,
        description="the largest share of a batch that near duplicates of near duplicates may be, or it is refused",
    )
    daily_sample: int = Field(
        200, ge=1, description="how many images of the newest dataset version the daily check reads again"
    )


def _registered(task: str) -> str:
    if task not in tasks.names():
        raise ValueError(f"input should be {' or '.join(repr(name) for name in tasks.names())}")
    return task


TaskName = Annotated[str, AfterValidator(_registered)]


class ProjectError(Invalid):
    """A project file that cannot be used; the message names the file, the field and what was expected."""


class Splits(Section):
    """The share of samples each side gets when a new group comes in without a split of its own."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    train: float = Field(0.6, gt=0, lt=1, description="what models learn from")
    val: float = Field(
        0.15, gt=0, lt=1, description="what each epoch is measured on, and nothing learns from"
    )
    holdout: float = Field(0.25, gt=0, lt=1, description="what verdicts are made on")
    salt: str = Field("", description="another salt gives other groups to other sides")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.val + self.holdout
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + holdout must be 1, not {total:g}")
        return self

    def shares(self) -> dict[str, float]:
        """Share by side."""
        return {"train": self.train, "val": self.val, "holdout": self.holdout}


class Trigger(Section):
    """When a commit on `main` starts a run."""

    min_new_samples: int = Field(
        1, ge=0, description="a commit starts a run where so many samples are new since the last decision"
    )
    quiet_for: datetime.timedelta = Field(datetime.timedelta(0), description="and it is this old")
    at_most_every: datetime.timedelta = Field(
        datetime.timedelta(0), description="and the last run was requested so long ago"
    )
    attempts: int = Field(3, ge=1, le=20, description="how often a run that ended with an error is tried")
    check_every: datetime.timedelta = Field(
        datetime.timedelta(seconds=30), description="how often the sensor looks at `main`"
    )


class Project(Section):
    """A project file. Every other part of the product reads what it needs from here."""

    # A name or a class may be a number.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    project: Name = Field(description="its name, in assets, jobs, models and commands")
    description: str = Field("", description="what the model is for, in one sentence")
    owners: tuple[Owner, ...] = Field(
        ("team:vision",), description="`team:NAME` or e-mail addresses, shown at each asset"
    )
    licence: str = Field("", description="licence of the images")
    task: TaskName = Field(tasks.CLASSIFICATION, description="what a label is: one class an image, or boxes")
    repository: RepositoryName = Field(description="the lakeFS repository with the images")
    annotations: Name = Field(description="which annotations of the repository this project reads")
    classes: tuple[Label, ...] = Field(
        min_length=1, description="every class, in the order in which the model answers"
    )
    source_is_immutable: bool = Field(
        False,
        description="true: nobody ever changes the drop, so images are not copied; lakeFS refers to them there",
    )
    drop: DropRules = Field(DropRules(), description="where batches arrive")
    audit: AuditRules = Field(AuditRules(), description="limits of the audit of a batch")
    splits: Splits = Field(Splits(), description="the shares of train, val and holdout")
    trigger: Trigger = Field(Trigger(), description="when a commit starts a run")
    recipe: Recipe = Field(description="how a challenger is trained")
    tracking: tuple[Literal["mlflow", "wandb"], ...] = Field(
        ("mlflow",),
        min_length=1,
        description="where trainings tell parameters and epochs; files, digests and the registry are MLflow's anyway",
    )
    gate: GateRules = Field(GateRules(), description="what is demanded of a new model")
    production: ProductionRules = Field(ProductionRules(), description="how the log of production comes in")
    drift: DriftRules = Field(DriftRules(), description="what is called drift and decay, and what follows")
    delivery: DeliveryRules = Field(
        DeliveryRules(), description="which device groups follow what is promoted"
    )

    @field_validator("classes")
    @classmethod
    def _classes_can_be_told_apart(cls, classes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        task = info.data.get("task", tasks.CLASSIFICATION)
        least = tasks.task(task).least_classes
        if len(classes) < least:
            raise ValueError(f"{task} needs at least {least} classes to tell apart")
        return classes

    @model_validator(mode="after")
    def _classes_are_distinct(self) -> Self:
        twice = sorted({label for label in self.classes if self.classes.count(label) > 1})
        if twice:
            raise ValueError(f"classes must be distinct; given twice: {', '.join(twice)}")
        self.gate.check_classes(self.classes)
        self.gate.check_task(self.task)
        return self

    @property
    def delivered_as(self) -> str:
        """What devices know the project as: a device takes nothing that is signed for another name than its own."""
        return self.delivery.known_as or self.project

    @model_validator(mode="after")
    def _recipe_is_of_the_task(self) -> Self:
        name, input = self.recipe.model.name, self.recipe.input
        if name is not None and (found := catalogued(name)).task != self.task:
            raise ValueError(
                f"recipe.model.name {name} is a model for {found.task}, and this project's task is {self.task}: "
                f"`visionops models --task {self.task}` lists those for it"
            )
        if name is not None and (
            why_not := why_it_does_not_fit(name, input.height, input.width, self.recipe.model.init_args)
        ):
            raise ValueError(why_not)
        weights = self.recipe.loss.class_weights
        if isinstance(weights, tuple) and len(weights) != len(self.classes):
            raise ValueError(
                f"recipe.loss.class_weights: {len(weights)} for {len(self.classes)} classes; give one a class, in "
                "their order"
            )
        learnt = tasks.task(self.task)
        if why_not := why_not_learnt(self.recipe, one_class=learnt.costs, boxes=learnt.sized):
            raise ValueError(f"recipe: {why_not}")
        return self

    def performance_floor(self) -> float:
        """The performance that production has to hold: what the project says of it, else the gate's overall floor."""
        return self.drift.floor if self.drift.floor is not None else self.gate.floors.overall


def load_project(path: Path) -> Project:
    """Read one project file. Raises `ProjectError` listing every wrong field."""
    try:
        content = parse_yaml(path.read_text())
    except OSError as error:
        raise ProjectError(f"{path}: cannot be read: {error.strerror}") from error
    except (NotYAML, UnicodeDecodeError) as error:
        raise ProjectError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise ProjectError(f"{path}: must be a mapping of fields, starting with `project: <name>`")
    try:
        return Project.model_validate(content)
    except ValidationError as error:
        raise ProjectError("\n".join(f"{path}: {_explain(found)}" for found in error.errors())) from error


@dataclass(frozen=True)
class UnusableFile:
    """A project file that nothing can be loaded from, the project that it is about, and why."""

    project: str
    path: Path
    why: str


@dataclass(frozen=True)
class Projects(Sequence[Project]):
    """The projects that files declare, by name of file; what cannot be used stops no other one."""

    usable: tuple[Project, ...]
    unusable: tuple[UnusableFile, ...] = ()
    folder: Path | None = None

    @overload
    def __getitem__(self, index: int) -> Project: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Project, ...]: ...

    def __getitem__(self, index: int | slice) -> Project | tuple[Project, ...]:
        return self.usable[index]

    def __len__(self) -> int:
        return len(self.usable)


def load_projects(folder: Path) -> Projects:
    """What the `*.yaml` of a folder declare. Of two files that declare one project neither is used."""
    loaded: dict[Path, Project] = {}
    unusable: list[UnusableFile] = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            loaded[path] = load_project(path)
        except ProjectError as error:
            unusable.append(UnusableFile(_named(path), path, str(error)))
    declared = Counter(project.project for project in loaded.values())
    for path, project in loaded.items():
        if declared[project.project] > 1:
            others = ", ".join(
                str(other)
                for other, one in loaded.items()
                if one.project == project.project and other != path
            )
            why = f"{path}: project: {project.project} is declared in {others} too; keep one of them"
            unusable.append(UnusableFile(project.project, path, why))
    usable = {path: project for path, project in loaded.items() if declared[project.project] == 1}
    for path, project in list(usable.items()):
        other = _known_to_devices(project, loaded)
        if other is not None:
            why = (
                f"{path}: devices know {loaded[other].project} as {project.delivered_as} (delivery.known_as of "
                f"{other}): give {project.project} another name"
            )
            unusable.append(UnusableFile(project.project, path, why))
            del usable[path]
    return Projects(tuple(usable.values()), tuple(unusable), folder)


def _known_to_devices(project: Project, loaded: Mapping[Path, Project]) -> Path | None:
    """The file of another project that devices know by the name of this one."""
    for path, other in loaded.items():
        if other.project != project.project and other.delivery.known_as == project.delivered_as:
            return path
    return None


_BROKEN_SHOWN = 3


def find_project(projects: Sequence[Project], name: str) -> Project:
    """The project called `name`; `ProjectError` says why its file cannot be used, or lists those there are."""
    for project in projects:
        if project.project == name:
            return project
    unusable = projects.unusable if isinstance(projects, Projects) else ()
    for file in unusable:
        if file.project == name:
            raise ProjectError(file.why)
    known = there_are(name, [*(each.project for each in projects), *(each.project for each in unusable)])
    broken = "".join(f"; {file.path} cannot be used" for file in unusable[:_BROKEN_SHOWN])
    more = len(unusable) - _BROKEN_SHOWN
    broken += f"; nor can {more} more: `visionops project list`" if more > 0 else ""
    folder = projects.folder if isinstance(projects, Projects) else None
    read = f"; project files are read from {folder}" if folder else ""
    raise ProjectError(f"no project is called {name}; {known}{broken}{read}")


def _named(path: Path) -> str:
    """The project that a file is about, though it cannot be used: what it says, else its own name."""
    try:
        content = parse_yaml(path.read_text())
    except (OSError, NotYAML, UnicodeDecodeError):
        return path.stem
    said = content.get("project") if isinstance(content, Mapping) else None
    return said if isinstance(said, str) else path.stem


# The other projects of a repository by name; None for one whose file cannot be used: it may be of this repository.
Neighbours = Mapping[str, Project | None]


def neighbours_of(project: Project, projects: Projects) -> Neighbours:
    """Who may share a project's repository."""
    usable = {each.project: each for each in projects if each.repository == project.repository}
    unusable = dict.fromkeys(file.project for file in projects.unusable)
    return {name: each for name, each in {**unusable, **usable}.items() if name != project.project}


def of_one_dataset(one: Project, other: Project) -> bool:
    """Whether two projects may share annotations: the labels of one mean the same to the other."""
    return (one.task, sorted(one.classes)) == (other.task, sorted(other.classes))


def clashes(projects: Sequence[Project]) -> Iterator[tuple[Project, Project]]:
    """Projects that keep their labels under one name in one repository, and mean other things by them."""
    for one, other in combinations(projects, 2):
        shared = (one.repository, one.annotations) == (other.repository, other.annotations)
        if shared and not of_one_dataset(one, other):
            yield one, other


def _explain(found: Any) -> str:
    field = ".".join(str(part) for part in found["loc"]) or "the file"
    given = found.get("input")
    said = found["msg"].removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        meant = meant_field(Project, found["loc"], ": remove it or correct its spelling")
        return f"{field}: is not a field of a project file{meant}"
    if found["type"] == "missing":
        return f"{field}: is required"
    shown = f" (found {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    return f"{field}: {said[0].lower()}{said[1:]}{shown}"
