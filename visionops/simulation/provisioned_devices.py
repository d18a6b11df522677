"""A project's simulated devices, made of what it has: provisioned as real ones are, with images of its own data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.files import Files
from edge.settings import FILE, Settings
from resources import home
from resources.error_family import Invalid, NotFound
from resources.nearest import there_are
from visionops.edge_repository import changing, own_spool, repository_address
from visionops.simulation.declared_faults import Fault
from visionops.simulation.simulated_device import SimulatedDevice

if TYPE_CHECKING:
    from visionops_assets.config.project import Project
    from visionops_assets.dataset.versions.dataset_version import DatasetVersion

# Of a dataset version so many images are shown, drawn by this seed.
SHOWN_IMAGES, _SEED = 64, 20
# Bytes an agent writes before it answers: its state, its status, what it trusts.
_LEAST_DISK = 40_000


def folder_of(project: str) -> Path:
    """Where a project's simulated devices lie."""
    return home.home() / "fleet" / project


def names(groups: Sequence[str], devices: int) -> dict[str, list[str]]:
    """By group, the names of so many devices spread evenly: `line-1-sim-01`."""
    found: dict[str, list[str]] = {group: [] for group in groups}
    for number in range(devices):
        group = groups[number % len(groups)]
        found[group].append(f"{group}-sim-{number // len(groups) + 1:02d}")
    return {group: each for group, each in found.items() if each}


def require_folder() -> None:
    """Raise `Invalid` where agents here cannot reach the repository."""
    if "://" in home.edge():
        raise Invalid(
            f"simulated devices read the repository as a folder, and it lies in {home.edge()}: set VISIONOPS_EDGE to a "
            "folder, on a desk"
        )


def provisioned(
    project: Project,
    by_group: Mapping[str, Sequence[str]],
    *,
    every: float,
    faults: Sequence[tuple[str, Fault]] = (),
    who: str,
) -> list[SimulatedDevice]:
    """The devices, enrolled where they were not, with images of the newest dataset version.

    Raises `NotPublished` where there is no repository, `EmptyVersion` where there are no images, `NotFound` for a fault
    of what is not there.
    """
    _require_known(by_group, faults)
    _require_room(project.project, by_group, faults)
    folder, images = folder_of(project.project), _images(project)
    _provision(project, by_group, folder, who)
    return [
        SimulatedDevice(
            name=device,
            folder=folder / device,
            images=images,
            every=every,
            # Each camera sees something else.
            first=number * len(images) // sum(len(each) for each in by_group.values()),
            faults=tuple(fault for where, fault in faults if where in (group, device)),
        )
        for number, (group, device) in enumerate(
            (group, device) for group, devices in by_group.items() for device in devices
        )
    ]


def _require_known(by_group: Mapping[str, Sequence[str]], faults: Sequence[tuple[str, Fault]]) -> None:
    known = [*by_group, *(device for devices in by_group.values() for device in devices)]
    for where, fault in faults:
        if where not in known:
            raise NotFound(
                f"{where}:{fault.name} is a fault of a group or device that does not run; {there_are(where, known)}"
            )


def _require_room(
    project: str, by_group: Mapping[str, Sequence[str]], faults: Sequence[tuple[str, Fault]]
) -> None:
    """Raise `Invalid` for a disk on which an agent cannot start: it would be started again for ever."""
    for where, fault in faults:
        if fault.name != "disk":
            continue
        suffering = [
            device for group, devices in by_group.items() for device in devices if where in (group, device)
        ]
        least = _LEAST_DISK + max(_kept(folder_of(project) / device) for device in suffering)
        if fault.amount < least:
            raise Invalid(
                f"{where}:disk={fault.amount:.0f} is too small for an agent to start: at least "
                f"{where}:disk={-(-least // 1000)}k is needed (bytes; k is 1,000 of them, M and G are there, too)"
            )


def _kept(device: Path) -> int:
    """Bytes that a device has kept from before."""
    return sum(each.stat().st_size for each in (device / Settings.state).rglob("*") if each.is_file())


def _provision(project: Project, by_group: Mapping[str, Sequence[str]], folder: Path, who: str) -> None:
    from visionops import services
    from visionops_assets.delivery import enrolment

    store, spool = services.artifacts(), own_spool()
    # Who knows the project by an earlier name takes nothing signed for another.
    named = project.delivered_as
    with changing(project.project) as repository:
        root = repository.bootstrap()
        for group, devices in by_group.items():
            for device in devices:
                known = enrolment.enrolled(store, named, device)
                if known is not None and not known.revoked and (folder / device / FILE).is_file():
                    continue
                enrolment.provision(
                    store,
                    enrolment.NewDevice(
                        named,
                        group,
                        device,
                        folder / device,
                        root,
                        settings={
                            "repository": repository_address(project.project),
                            **({"reports": spool} if spool else {}),
                        },
                    ),
                    who=who,
                    when=datetime.now(UTC),
                    again=known is not None,
                )


def _images(project: Project) -> tuple[Path, ...]:
    """Files of images that are no holdout, which does not leave the house."""
    from visionops import services
    from visionops_assets.dataset.versions.dataset_version import named_version

    lakefs = services.lakefs()
    version = named_version(lakefs, services.artifacts(), project)
    paths = _drawn(version)
    if not paths:
        raise NotFound(f"{version.partition} of {project.project} has no images but those of its holdout")
    folder = Files(folder_of(project.project) / "images" / version.commit.id[:12])
    names = {path: f"{number:02d}{Path(path).suffix}" for number, path in enumerate(paths)}
    missing = [path for path, name in names.items() if folder.size(name) is None]
    for path, content in lakefs.read_many(project.repository, version.commit.id, missing):
        folder.write(names[path], content)
    return tuple(folder.path(name) for name in names.values())


def _drawn(version: DatasetVersion) -> list[str]:
    paths = version.split("train", "val")["path"].drop_duplicates().tolist()
    order = np.random.default_rng(_SEED).permutation(len(paths))[:SHOWN_IMAGES]
    return [str(paths[number]) for number in order]
