"""DVC repositories for the tests, made by the real git and DVC."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dvc.repo import Repo
from PIL import Image

from tests.world import CLASSES, draw


@dataclass(frozen=True)
class DVCRepository:
    """A git repository with DVC in it."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> "DVCRepository":
        root.mkdir(parents=True)
        made = cls(root)
        made.git("init", "--quiet", "--initial-branch=main")
        Repo.init(str(root)).close()
        return made

    def git(self, *arguments: str) -> str:
        """What git says."""
        known = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        command = ["git", "-C", str(self.root), *known, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def draw(self, folder: str, images: int, seed: int) -> None:
        """A folder per class of pictures."""
        generator = np.random.default_rng(seed)
        for number in range(images):
            label = CLASSES[number % len(CLASSES)]
            path = self.root / folder / label / f"{seed:02d}-{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(label, generator)[..., 0]).save(path)

    def add(self, *targets: str) -> None:
        """Have DVC track these."""
        with Repo(str(self.root)) as repository:
            for target in targets:
                repository.add(str(self.root / target))

    def remote(self, address: str, endpoint: str | None = None) -> None:
        """Name the default remote."""
        with Repo(str(self.root)) as repository, repository.config.edit("repo") as config:
            config["remote"]["store"] = {"url": address, **({"endpointurl": endpoint} if endpoint else {})}
            config["core"]["remote"] = "store"

    def push(self) -> None:
        """Upload all objects to the default remote."""
        with Repo(str(self.root)) as repository:
            repository.push()

    def commit(self, message: str, tag: str | None = None) -> str:
        """Commit everything that git tracks."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        if tag:
            self.git("tag", tag)
        return self.git("rev-parse", "HEAD")

    def objects(self) -> list[Path]:
        """The files of DVC's cache that are no lists of folders."""
        found = (self.root / ".dvc" / "cache" / "files" / "md5").glob("*/*")
        return sorted(path for path in found if path.suffix != ".dir")
