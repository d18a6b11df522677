"""A dataset version as a DVC repository that trains by `dvc repro`. Format 1:

    batches/<batch>/images/…, batches/<batch>/annotations/<name>.parquet    as they lie in lakeFS, tracked by DVC
    dvc.yaml        the stage `train` (`dvc_train.py`): batches and params.yaml in, model/ and metrics.json out
    params.yaml     project, task, annotations, classes and recipe, as the project file declares them
    metrics.json    what VisionOps measured of the model it trained by this recipe on this version, if it did
    visionops.json  which version this is; a folder that has it is an export

A new folder appears whole, by a rename. An earlier export gets the new version as its next git commit; until that is
made, the commit before it is whole, and an update that broke off is completed by the next one.
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from visionops.dvc.source_address import DVCError
from visionops_assets.dataset.versions.layout import BATCHES

FORMAT = 1
DATA = BATCHES.rstrip("/")
MARK = "visionops.json"
STAGES = {
    "stages": {
        "train": {
            "cmd": "python -m visionops.dvc_train",
            "deps": [DATA],
            "params": ["project", "task", "annotations", "classes", "recipe"],
            "outs": ["model"],
            "metrics": [{"metrics.json": {"cache": False}}],
        }
    }
}
_DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n"
_COMMITTED = (
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"),
    *(f"{DATA}.dvc", "dvc.yaml", "params.yaml", "metrics.json", MARK),
)
_NOBODY = ("-c", "user.name=VisionOps", "-c", "user.email=visionops@localhost")
Images = Callable[[list[str]], Iterable[tuple[str, bytes]]]


@dataclass(frozen=True)
class ExportedVersion:
    """`images` is SHA-256 by path, `annotations` the Parquet files by path, `source` what MARK says."""

    source: Mapping[str, str]
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    images: Mapping[str, str]
    annotations: Mapping[str, bytes]


def write_folder(
    target: Path, version: ExportedVersion, read_images: Images, progress: Callable[[int, int], None]
) -> str:
    """Write a version to a new folder, or as the next commit of an earlier export; returns the git commit.

    Raises `DVCError`: a folder that is something else, changes there that are not committed, an image that is not what
    was audited; and what `read_images` raises.
    """
    _quieten_dvc()
    target = target.absolute()
    with _alone(target):
        if (target / MARK).is_file():
            return _update(target, version, read_images, progress)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DVCError(f"{target}: is there already and no export of VisionOps: name a new folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.visionops-export")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            _write(unfinished, version, read_images, progress, None)
            commit = _begin(unfinished, version)
            if target.exists():
                target.rmdir()
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return commit


def _quieten_dvc() -> None:
    """It tells what to do next, which is done here, and of each file that failed, where the error that it raises is
    told. Imported first, since its import sets the level."""
    import dvc.repo  # noqa: F401

    for name in ("dvc", "dvc_data", "dvc_objects"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    from resources import home

    name = hashlib.sha256(str(target).encode()).hexdigest()[:16]
    locks = home.cache() / "dvc"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"export-{name}.lock", timeout=0)
    try:
        held = lock.acquire()
    except Timeout as error:
        raise DVCError(f"{target}: another process exports to it just now") from error
    with held:
        yield


def _write(
    folder: Path,
    version: ExportedVersion,
    read_images: Images,
    progress: Callable[[int, int], None],
    earlier: Path | None,
) -> None:
    """All files of a version; images that an earlier export has need not be fetched."""
    missing = []
    for path, sha256 in version.images.items():
        known = earlier / path if earlier is not None else None
        if known is not None and known.is_file() and _sha256(known.read_bytes()) == sha256:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(known, folder / path)
        else:
            missing.append(path)
    done = len(version.images) - len(missing)
    for path, data in read_images(missing) if missing else ():
        if _sha256(data) != version.images[path]:
            raise DVCError(
                f"{path} was altered: its SHA-256 is not the audited one; `visionops verify "
                f"{version.source['project']} {version.source['commit'][:12]}` names all such images"
            )
        _put(folder / path, data)
        done += 1
        progress(done, len(version.images))
    for path, data in version.annotations.items():
        _put(folder / path, data)
    _put(folder / "dvc.yaml", yaml.safe_dump(STAGES, sort_keys=False).encode())
    _put(folder / "params.yaml", yaml.safe_dump(dict(version.parameters), sort_keys=False).encode())
    _put(folder / "metrics.json", json.dumps(dict(version.metrics), indent=1, sort_keys=True).encode())
    _put(folder / MARK, json.dumps({"format": FORMAT, **version.source}, indent=1, sort_keys=True).encode())


def _begin(folder: Path, version: ExportedVersion) -> str:
    from dvc.repo import Repo

    _git(folder, "init", "--quiet", "--initial-branch=main")
    Repo.init(str(folder)).close()
    (folder / ".dvc" / "config").write_text(_DVC_CONFIG)
    return _track(folder, version)


def _update(
    target: Path, version: ExportedVersion, read_images: Images, progress: Callable[[int, int], None]
) -> str:
    staging = target / ".dvc" / "tmp" / "visionops-export"
    begun = staging / "swapping"
    if not begun.exists():
        _refuse_changes(target)
    # A fresh folder keeps the sign that an update broke off.
    shutil.rmtree(staging / "new", ignore_errors=True)
    _write(staging / "new", version, read_images, progress, target)
    begun.touch()
    shutil.rmtree(target / DATA, ignore_errors=True)
    (staging / "new" / DATA).rename(target / DATA)
    for path in (staging / "new").iterdir():
        # Stages of one's own stand there too.
        if path.name != "dvc.yaml" or not (target / "dvc.yaml").exists():
            path.replace(target / path.name)
    commit = _track(target, version)
    shutil.rmtree(staging)
    return commit


def _refuse_changes(target: Path) -> None:
    """Nobody's work is overwritten that neither git nor DVC has."""
    from dvc.repo import Repo

    changed = _git(target, "status", "--porcelain", "--untracked-files=no").split("\n")[0]
    if changed:
        raise DVCError(
            f"{target}: {changed[2:].strip()} has changes: commit or discard them, then export again"
        )
    with Repo(str(target)) as repository:
        if repository.status(targets=[str(target / f"{DATA}.dvc")]):
            raise DVCError(
                f"{target}: {DATA} has changes that DVC does not track: `dvc add {DATA}` and commit, or "
                "`dvc checkout`, then export again"
            )


def _track(folder: Path, version: ExportedVersion) -> str:
    """Give the images to DVC and the rest to git; returns the commit, the old one where nothing changed."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repository:
        repository.add(str(folder / DATA))
    _git(folder, "add", "--", *(path for path in _COMMITTED if (folder / path).exists()))
    if _git(folder, "diff", "--cached", "--name-only"):
        known = _git(folder, "config", "--default", "", "--get", "user.email")
        message = f"Export {version.source['project']} at lakeFS commit {version.source['commit'][:12]}"
        _git(folder, *(() if known else _NOBODY), "commit", "--quiet", "--message", message)
    return _git(folder, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str:
    """What git prints. A hook that runs us would point git at another repository by GIT_DIR."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    except FileNotFoundError as error:
        raise DVCError("git is not installed, and DVC versions a folder by it: install git") from error
    if done.returncode:
        raise DVCError(f"{folder}: git {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
