"""A project whose code, dependency and data moved on after its first promotion, and a second clone of it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.home import ROOT
from tests.world import World

OURS = ("visionops", "visionops_assets", "resources", "sensors", "lakefs_local", "edge", "projects")
FILES = ("definitions.py", "dagster.yaml", "pyproject.toml")
MODEL = """
from scaling import FACTOR
from torch import nn

WIDTH = {width}

class Scaled(nn.Module):
    def __init__(self, num_classes, input):
        super().__init__()
        pixels = input.channels * input.height * input.width
        layers = [nn.Linear(pixels, WIDTH), nn.ReLU(), nn.Dropout(0.3), nn.Linear(WIDTH, num_classes)]
        self.net = nn.Sequential(nn.Flatten(), *layers)

    def forward(self, images):
        return self.net(images * FACTOR)
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit_all(folder: Path, message: str) -> str:
    git(folder, "add", ".")
    git(folder, "commit", "-qm", message)
    return git(folder, "rev-parse", "HEAD")


def copy_of_this_code(folder: Path) -> Path:
    """A git repository of its own with these sources: what the tests do to it touches nothing else."""
    folder.mkdir(parents=True)
    for name in OURS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copyfile(ROOT / name, folder / name)
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "init", "-q")
    return folder


def installed_dependency(folder: Path, version: str, factor: float) -> Path:
    """A folder that holds a package `scaling` as pip would have installed it."""
    folder.mkdir(parents=True)
    _dependency(version, factor, folder=folder)
    return folder


def wheel_of_dependency(folder: Path, version: str, factor: float) -> Path:
    """A folder where pip finds that package."""
    folder.mkdir(parents=True)
    _dependency(version, factor, wheel=folder / f"scaling-{version}-py3-none-any.whl")
    return folder


def _dependency(version: str, factor: float, folder: Path | None = None, wheel: Path | None = None) -> None:
    info = f"scaling-{version}.dist-info"
    contents = {
        "scaling.py": f"FACTOR = {factor}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: scaling\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"scaling.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    if wheel is not None:
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in contents.items():
                archive.writestr(name, text)
    if folder is not None:
        for name, text in contents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)


@dataclass(frozen=True)
class SecondClone:
    """A clone on another desk: it knows where lakeFS, MLflow and artifacts are, and has no project file of it."""

    folder: Path
    world: World
    packages_of_then: Path
    packages_of_now: Path
    wheels: Path

    def reproduce(self, *arguments: str) -> "Answer":
        """Run `visionops reproduce` there."""
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("VISIONOPS", "DAGSTER"))
            },
            "LAKEFS_ENDPOINT": self.world.lakefs.endpoint or "",
            "LAKEFS_ACCESS_KEY_ID": self.world.lakefs.access_key_id or "",
            "LAKEFS_SECRET_ACCESS_KEY": self.world.lakefs.secret_access_key or "",
            "MLFLOW_TRACKING_URI": self.world.registry.uri,
            # The team's: weights to start from are kept there.
            "VISIONOPS_ARTIFACTS": self.world.artifacts.root,
            "VISIONOPS_HOME": str(self.folder.with_name("home-of-second")),
            "PYTHONPATH": os.pathsep.join((str(self.folder), str(self.packages_of_now))),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "visionops",
                "reproduce",
                self.world.project.project,
                "--json",
                *arguments,
            ],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout) if done.stdout else {}
        return Answer(done.returncode, found, done.stderr)


@dataclass(frozen=True)
class Answer:
    """What the command answered."""

    status: int
    found: dict[str, Any]
    errors: str
