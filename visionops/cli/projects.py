"""`visionops project`: what the project files declare, and a project under another name, under which what was made
goes on.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from resources.error_family import Refused
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.models.registry import ModelRegistry
from resources.nearest import there_are
from resources.safe_files import whole_file
from resources.storage import ArtifactStore
from visionops_assets.champions.history import production, read_history
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project, Projects
from visionops_assets.monitoring.inference_log import belongs_to, production_repository

if TYPE_CHECKING:
    import dagster as dg


project_app = typer.Typer(help="The projects there are, and renaming one.", no_args_is_help=True)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@project_app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the projects that files declare, those whose file cannot be used, and those that no file declares.

    Exit code 1 where a file cannot be used.
    """
    from resources import home
    from visionops import services
    from visionops_assets.config.project import load_projects

    projects = load_projects(home.projects_folder())
    behind = left_behind(services.registry(), projects)
    if as_json:
        listed = {
            "projects": [
                {"project": one.project, "task": one.task, "repository": one.repository} for one in projects
            ],
            "unusable": [{"project": one.project, "why": one.why} for one in projects.unusable],
            "undeclared": [{"project": one.project, "version": one.version} for one in behind],
        }
        typer.echo(json.dumps(listed, indent=1))
        raise typer.Exit(1 if projects.unusable else 0)
    for one in projects:
        typer.echo(f"{one.project}: {one.task} of {len(one.classes)} classes in {one.repository}")
    for file in projects.unusable:
        typer.echo(f"{file.project}: cannot be used: {file.why}")
    for each in behind:
        typer.echo(each.sentence())
    if not projects and not projects.unusable and not behind:
        typer.echo(no_project(home.projects_folder()))
    if projects.unusable:
        raise typer.Exit(1)


@project_app.command("rename")
def rename_command(
    old: Annotated[str, typer.Argument(help="The name until now.")],
    new: Annotated[str, typer.Argument(help="The name from now on.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Give a project another name: champion, history, runs, tables, production log and project file go with it.

    Devices go on under the name that they know: the project file says it. It does not matter whether the file has the
    new name already. Asked again, it goes on where it was killed.
    """
    from resources import home
    from resources.storage import ArtifactStore
    from visionops import interruption, services
    from visionops_assets.config.project import load_projects

    with services.dagster() as instance:
        renaming = Renaming(
            services.registry(),
            services.lakefs(),
            services.artifacts(),
            instance,
            [ArtifactStore(root=home.spool()), ArtifactStore(root=home.drop())],
            ArtifactStore(root=home.edge()),
            partial(typer.echo, err=as_json),
        )
        interruption.keep("what is renamed stays so, and the rest follows", "project", "rename", old, new)
        renaming.rename(old, new, load_projects(home.projects_folder()), home.projects_folder())
    if as_json:
        typer.echo(json.dumps({"project": new, "before": old}, indent=1))
        return
    typer.echo(f"{old} is called {new} now: `visionops status {new}` shows it")


def no_project(folder: Path) -> str:
    """That nothing is declared in a folder, and what declares something."""
    return f"there is no project in {folder} yet: `visionops init NAME --from FOLDER` makes one"


class RenameRefused(Refused, ValueError):
    """A rename that would mix two projects; nothing has changed."""


@dataclass(frozen=True)
class LeftBehind:
    """A project that has a history of promotions and that no file declares; `version` is what it says is running."""

    project: str
    version: int | None
    changes: int

    def sentence(self) -> str:
        """What there is, and how it is taken over."""
        running = f"version {self.version} is in production" if self.version is not None else "nothing runs"
        return (
            f"no project file declares {self.project}, of which {running} after {self.changes} changes; if it has a "
            f"new name: `visionops project rename {self.project} NEW`"
        )


def left_behind(registry: ModelRegistry, projects: Projects) -> list[LeftBehind]:
    """Projects with a history that no file declares, one that cannot be used included. Raises what MLflow raises."""
    declared = {project.project for project in projects} | {file.project for file in projects.unusable}
    found = []
    for name in registry.models.projects():
        if name not in declared:
            model = registry.models.get(name)
            history = read_history(model.tags)
            if history.entries:
                found.append(LeftBehind(name, production(model).version, len(history.entries)))
    return found


@dataclass(frozen=True)
class Renaming:
    """Where what a project made lies. `say` gets a line for each step."""

    registry: ModelRegistry
    lakefs: LakeFSResource
    artifacts: ArtifactStore
    instance: "dg.DagsterInstance"
    folders: Sequence[ArtifactStore]
    edge: ArtifactStore
    say: Callable[[str], None]

    def rename(self, old: str, new: str, projects: Projects, files: Path) -> None:
        """Rename a project. Raises `RenameRefused`, and what lakeFS and MLflow raise."""
        file = _file_of(files, old) or _file_of(files, new)
        self._check(old, new, projects, file)
        project = next((one for one in projects if one.project in (old, new)), None)
        with self.registry.lock(old), self.registry.lock(new):
            if project is not None and file is not None:
                self._devices(project, file, old, new)
            self._tables(old, new)
            if project is not None:
                self._production(production_repository(project.repository), old, new)
            for root in self.folders:
                if _move_file(root, old, new):
                    self.say(f"{root.root}: the folder is {new} now")
            self._runs(old, new)
            known = self.registry.models.projects()
            if old in known or new in known:
                self.registry.models.rename(old, new)
            if old in known:
                self.say(f"registered model: versions, history and champion are {new}'s")
        if file is not None and _declare(file, old, new):
            self.say(f"{file} declares {new}")

    def _check(self, old: str, new: str, projects: Projects, file: Path | None) -> None:
        known = self.registry.models.projects()
        if not _NAME.fullmatch(new):
            raise RenameRefused(
                f"{new}: a project's name has lower-case letters, digits and `_`, a letter first"
            )
        if old == new:
            raise RenameRefused(f"{old} is called so already")
        declared = {project.project for project in projects}
        if {old, new} <= declared:
            raise RenameRefused(
                f"{old} and {new} are two projects, each with a file of its own; remove one of them"
            )
        if new in known and old in known and read_history(self.registry.models.get(new).tags).entries:
            raise RenameRefused(f"{new} has a history of its own already: `visionops status {new}` shows it")
        if old not in known and old not in declared and new not in known:
            raise RenameRefused(f"nothing was ever made under the name {old}; {there_are(old, known)}")
        if file is None:
            raise RenameRefused(
                f"no file declares {old} or {new}: restore the project file first, under either name"
            )
        unfinished = [run.run_id for run in self._runs_of(old) if not run.is_finished]
        if unfinished:
            raise RenameRefused(
                f"run {unfinished[0]} of {old} is in progress: wait for it, or end it, then rename"
            )

    def _devices(self, project: Project, file: Path, old: str, new: str) -> None:
        """Have the file say what devices know the project as, before anything is looked for under its new name."""
        if project.delivery.known_as is not None or not self._delivers(old):
            return
        if self._delivers(new):
            self.say(
                f"devices: {old} and {new} have a repository each, and those of {old} get nothing new; `known_as: "
                f"{old}` under `delivery` in {file} publishes to them, and not to those of {new}"
            )
            return
        with whole_file(file) as unfinished:
            unfinished.write_text(_known_as(file, old))
        self.say(f"devices: they know {new} as {old} and go on under that name, as {file} says now")

    def _delivers(self, project: str) -> bool:
        """Whether devices follow, or were given, something of this name."""
        from visionops_assets.delivery.tuf_files import TIMESTAMP

        devices = self.artifacts.path(f"fleet/{project}/devices")
        return self.edge.exists(f"{project}/{TIMESTAMP}") or (devices.exists() and any(devices.iterdir()))

    def _tables(self, old: str, new: str) -> None:
        """Copies: what the old name holds is what a killed rename begins with again."""
        copied = 0
        for kind in ("assets", "decisions", "what_ifs", "actions"):
            for key in _files(self.artifacts, f"{kind}/{old}"):
                self.artifacts.write(f"{kind}/{new}/{key}", self.artifacts.read(f"{kind}/{old}/{key}"))
                copied += 1
        if copied:
            self.say(f"artifacts: {copied} tables and addresses")

    def _production(self, repository: str, old: str, new: str) -> None:
        try:
            # Of a rename that was killed, which may have deleted what it had not committed under the new name.
            if any(self.lakefs.uncommitted(repository, MAIN)):
                self.lakefs.reset(repository, MAIN)
            entries = [one.path for one in self.lakefs.objects(repository, MAIN) if belongs_to(one.path, old)]
        except LakeFSNotFound:
            return
        if not entries:
            return
        contents = self.lakefs.read_many(repository, f"{MAIN}@", entries)
        renamed = ((_renamed(path, old, new), partial(bytes, content)) for path, content in contents)
        self.lakefs.write_many(repository, MAIN, renamed)
        self.lakefs.delete_many(repository, MAIN, entries)
        self.lakefs.save(repository, MAIN, f"{old} is called {new} now", {"visionops.project": new})
        self.say(f"{repository}: {len(entries):,} files of the log")

    def _runs(self, old: str, new: str) -> None:
        partitions = {
            f"{name}_{kind}": self.instance.get_dynamic_partitions(f"{old}_{kind}")
            for name, kind in ((new, "dataset_versions"), (new, "batches"))
        }
        for name, keys in partitions.items():
            if keys:
                self.instance.add_dynamic_partitions(name, list(keys))
        runs = list(self._runs_of(old))
        for run in runs:
            self.instance.add_run_tags(run.run_id, {run_tags.PROJECT: new})
        trained = self.registry.runs.rename(old, new)
        if runs or trained:
            self.say(f"runs: {len(runs)} in Dagster, {trained} in MLflow")

    def _runs_of(self, project: str) -> "Iterator[dg.DagsterRun]":
        import dagster as dg

        yield from self.instance.get_runs(dg.RunsFilter(tags={run_tags.PROJECT: project}))


def _renamed(path: str, old: str, new: str) -> str:
    if path.startswith(f"project={old}/"):
        return f"project={new}/{path.removeprefix(f'project={old}/')}"
    pure = PurePosixPath(path)
    return str(pure.with_name(f"{new}.{pure.name.removeprefix(f'{old}.')}"))


def _files(store: ArtifactStore, folder: str) -> list[str]:
    root = store.path(folder)
    if not root.exists():
        return []
    return sorted(
        found.path.removeprefix(root.path).lstrip("/") for found in root.rglob("*") if found.is_file()
    )


def _move_file(store: ArtifactStore, old: str, new: str) -> bool:
    """What lies under the old name lies under the new one; the names of its files tell what was moved before."""
    keys = _files(store, old)
    for key in keys:
        store.write(f"{new}/{key}", store.read(f"{old}/{key}"))
        store.path(f"{old}/{key}").unlink(missing_ok=True)
    return bool(keys)


def _file_of(folder: Path, project: str) -> Path | None:
    """The one file that declares a project."""
    declares = re.compile(rf"^project:\s*[\"']?{re.escape(project)}[\"']?\s*(#.*)?$", re.MULTILINE)
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        if declares.search(path.read_text()):
            return path
    return None


def _known_as(path: Path, name: str) -> str:
    """The text of a project file with what devices know the project as, all else as it is. Raises `RenameRefused`."""
    text = path.read_text()
    block = re.search(r"^delivery:[ \t]*(#.*)?$", text, re.MULTILINE)
    flow = re.search(r"^delivery:[ \t]*\{", text, re.MULTILINE)
    if block is not None:
        below = re.match(r"(?:\s*(?:#.*)?\n)*([ ]+)\S", text[block.end() :])
        indent = below.group(1) if below is not None else "  "
        changed = f"{text[: block.end()]}\n{indent}known_as: {name}{text[block.end() :]}"
    elif flow is not None:
        rest = text[flow.end() :]
        comma = "" if rest.lstrip().startswith("}") else ", "
        changed = f"{text[: flow.end()]}known_as: {name}{comma}{rest}"
    else:
        changed = f"{text.rstrip()}\ndelivery:\n  known_as: {name}\n"
    before, after = yaml.safe_load(text), _parsed(changed)
    if after != {**before, "delivery": {**(before.get("delivery") or {}), "known_as": name}}:
        raise RenameRefused(
            f"write `known_as: {name}` under `delivery` in {path}, then the same command again"
        )
    return changed


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _declare(path: Path, old: str, new: str) -> bool:
    """Have a file declare the new name, its comments as they are. A file of the old name gets the new one."""
    text = path.read_text()
    changed = re.sub(
        rf"^(project:\s*[\"']?){re.escape(old)}\b", rf"\g<1>{new}", text, count=1, flags=re.MULTILINE
    )
    if changed != text:
        with whole_file(path) as unfinished:
            unfinished.write_text(changed)
    renamed = path.stem == old and not path.with_stem(new).exists()
    if renamed:
        path.rename(path.with_stem(new))
    return renamed or changed != text
