"""A whole VisionOps in a temporary folder: embedded lakeFS, MLflow, artifacts, Dagster instance, projects."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lakefs_local import discovery
from resources.drop import Drop
from resources.lakefs.client import LakeFSResource
from resources.models.local_store import follow_folder
from resources.models.registry import ModelRegistry
from resources.service_clients import Services
from resources.storage import ArtifactStore, Scratch, Spool
from resources.webhooks import Webhooks
from sensors.drops import drop_sensor
from sensors.new_commits import commit_sensor, daily_sample_schedule
from tests import dagster_storage, databases
from visionops.tick import Tick, tick
from visionops_assets.common.keys import dataset_version
from visionops_assets.config.project import Project, Projects, neighbours_of
from visionops_assets.dataset.batch_publishing import Published, Publisher
from visionops_assets.graph import project_graph
from visionops_assets.shells.outputs import RecordIOManager, TableIOManager

CLASSES = ("bar", "ring", "cross")
RECIPE = {
    "input": {"height": 8, "width": 8, "channels": 1},
    "model": {"class_path": "visionops_assets.training.models.SmallConvNet"},
    "epochs": 6,
    "batch_size": 16,
    "threads": 1,
    "precision": "32-true",
}
GATE: dict[str, Any] = {
    "floors": {"overall": 0.4, "batch": 0.4, "min_samples": 10},
    "min_holdout": 10,
    "bootstrap": {"draws": 1000},
}


def shapes_project(**changes: Any) -> Project:
    """A small project of three shapes, learnt in seconds."""
    content = {
        "project": "shapes",
        "repository": "shapes",
        "annotations": "shapes",
        "classes": list(CLASSES),
        "recipe": RECIPE,
        "gate": GATE,
        **changes,
    }
    return Project.model_validate(content)


def draw(label: str, generator: np.random.Generator, size: int = 8, channels: int = 1) -> NDArray[np.uint8]:
    """A noisy picture of a class; no two are alike."""
    image = generator.integers(0, 60, (size, size, channels))
    middle, level = size // 2, int(generator.integers(170, 250))
    match CLASSES.index(label) if label in CLASSES else hash(label) % 3:
        case 0:
            image[:, middle - 1 : middle + 1] = level
        case 1:
            image[1:-1, 1:-1] = level
            image[2:-2, 2:-2] = 20
        case _:
            diagonal = np.arange(size)
            image[diagonal, diagonal] = level
            image[diagonal, diagonal[::-1]] = level
    noisy = image + generator.integers(-15, 15, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def write_batch(
    folder: Path,
    images: int,
    seed: int,
    *,
    wrong: float = 0.0,
    size: int = 8,
    channels: int = 1,
    classes: tuple[str, ...] = CLASSES,
    labels: Mapping[int, str] | None = None,
) -> Path:
    """A folder of PNG files with a labels.csv; `wrong` is the share of labels replaced by another class."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows = ["path,label"]
    for number in range(images):
        label = classes[number % len(classes)]
        pixels = draw(label, generator, size, channels)
        Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(folder / f"{number:04d}.png")
        if generator.random() < wrong:
            label = classes[(classes.index(label) + 1) % len(classes)]
        rows.append(f"{number:04d}.png,{(labels or {}).get(number, label)}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@dataclass
class World:
    """What a team has: services, projects and a Dagster instance."""

    root: Path
    lakefs: LakeFSResource
    registry: ModelRegistry
    instance: dg.DagsterInstance
    projects: list[Project] = field(default_factory=lambda: [shapes_project()])

    @property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(root=str(self.root / "artifacts"))

    @property
    def project(self) -> Project:
        return self.projects[0]

    @property
    def services(self) -> Services:
        """The clients of this world."""
        return Services(
            lakefs=self.lakefs,
            registry=self.registry,
            artifacts=self.artifacts,
            edge=ArtifactStore(root=str(self.root / "edge")),
            scratch=Scratch(root=str(self.root / "cache")),
            spool=Spool(root=str(self.root / "spool")),
            drop=Drop(root=str(self.root / "dropped"), staging=str(self.root / "staging")),
            webhooks=Webhooks(),
        )

    @property
    def resources(self) -> dict[str, Any]:
        """What definitions.py binds, on this world's services."""
        return {
            **vars(self.services),
            "tables": TableIOManager(store=self.artifacts),
            "records": RecordIOManager(store=self.artifacts),
        }

    @property
    def definitions(self) -> dg.Definitions:
        known = Projects(tuple(self.projects))
        graphs = [project_graph(project, neighbours_of(project, known)) for project in known]
        return dg.Definitions.merge(
            *(graph.definitions for graph in graphs),
            dg.Definitions(
                sensors=[sensor(graph) for graph in graphs for sensor in (drop_sensor, commit_sensor)],
                schedules=[daily_sample_schedule(graph) for graph in graphs],
                resources=self.resources,
            ),
        )

    def publish(
        self, batch: str, images: int, seed: int, project: Project | None = None, **options: Any
    ) -> Published:
        """Write a batch and publish it on main."""
        folder = write_batch(self.root / "drop" / f"{batch}-{seed}", images, seed, **options)
        return Publisher(project or self.project, self.lakefs, self.artifacts).publish(folder, batch)

    def tick(self, project: Project | None = None) -> Tick:
        """Evaluate one project's sensor and run what it asks."""
        (found,) = tick(self.definitions, self.instance, [project or self.project])
        return found

    def partitions(self, project: Project | None = None) -> list[str]:
        """Dataset versions, oldest first: by the log, since keys of one second are in no order."""
        chosen = project or self.project
        known = self.instance.get_dynamic_partitions(f"{chosen.project}_dataset_versions")
        log = [dataset_version(commit.id, commit.created_at) for commit in self.lakefs.log(chosen.repository)]
        return [key for key in reversed(log) if key in known]

    def run(self, *assets: str, partition: str, tags: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Materialise assets of the first project in this process, as the UI's button does."""
        keys = [dg.AssetKey([self.project.project, name]) for name in assets]
        job = dg.define_asset_job("by_hand", selection=dg.AssetSelection.assets(*keys))
        defs = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[job]))
        return defs.resolve_job_def("by_hand").execute_in_process(
            instance=self.instance,
            partition_key=partition,
            tags=dict(tags or {}),
            raise_on_error=False,
            **options,
        )

    def champion(self, project: Project | None = None) -> int | None:
        """The version that the alias names."""
        return self.registry.models.get((project or self.project).project).aliases.get("champion")

    def latest(self, asset: str, partition: str | None = None) -> dg.AssetMaterialization:
        """The newest materialisation of an asset."""
        key = dg.AssetKey([self.project.project, asset])
        partitions = [partition] if partition else None
        (record,) = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions), limit=1
        ).records
        found = record.asset_materialization
        assert found is not None
        return found


def copy_registry(template: Path, folder: Path) -> None:
    """Put a copy of MLflow's database in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(folder / "mlflow.db")) as copy:
        source.backup(copy)


@contextmanager
def new_world(root: Path, mlflow_template: Path, **options: Any) -> Iterator[World]:
    """A fresh world in `root`; `mlflow_template` is a migrated MLflow database to copy."""
    copy_registry(mlflow_template, root / "mlflow")
    with _opened(root, **options) as world:
        yield world


@contextmanager
def copied_world(template: Path, root: Path) -> Iterator[World]:
    """A copy, in `root`, of a world that was closed: training again what every test starts from takes seconds."""
    shutil.copytree(template, root, dirs_exist_ok=True)
    # Told here, and not as news in the middle of a test.
    follow_folder(root / "mlflow" / "mlflow.db")
    with _opened(root) as world:
        yield world


@contextmanager
def _opened(root: Path, **options: Any) -> Iterator[World]:
    dagster_storage.keep_connections()
    folder = root / "instance"
    folder.mkdir(exist_ok=True)
    with ExitStack() as opened:
        server = opened.enter_context(discovery.serving(root / "lakefs"))
        opened.callback(databases.close_below, root)
        opened.callback(dagster_storage.close_connections, folder)
        instance = opened.enter_context(
            dg.instance_for_test(temp_dir=str(folder), overrides=dagster_storage.QUIET)
        )
        lakefs = LakeFSResource(
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
        registry = ModelRegistry(
            tracking_uri=f"sqlite:///{root / 'mlflow' / 'mlflow.db'}", memory=str(root / "artifacts")
        )
        yield World(root, lakefs, registry, instance, **options)


NewWorld = Callable[..., World]
