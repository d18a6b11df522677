"""A person at a terminal, beside a whole VisionOps."""

import json
import re
import sys
from dataclasses import dataclass
from typing import Any

import yaml
from typer.testing import CliRunner

from tests.world import World, shapes_project
from visionops_assets.config.project import Project

# Wide enough that every honest challenger passes: these tests are about what happens to a PASS.
LENIENT = {"require": "non_inferior", "min_improvement": 0.6}


@dataclass
class Desk:
    """The world, and the command line in its environment."""

    world: World

    def use(self, **gate: Any) -> None:
        """Declare the project with other rules of its gate."""
        self.world.projects = [
            shapes_project(gate={**self.world.project.gate.model_dump(mode="json"), **gate})
        ]
        self.save()

    def save(self) -> None:
        """Write the project files."""
        folder = self.world.root / "projects"
        folder.mkdir(exist_ok=True)
        for project in self.world.projects:
            (folder / f"{project.project}.yaml").write_text(yaml.safe_dump(_declared(project)))

    def run(self, *arguments: str, code: int = 0) -> str:
        """What a command prints; it must end with the exit code, that of success where none is given."""
        from visionops.cli.command_line import app

        # Each command is a process of its own: it loads the code location as the project files are now.
        sys.modules.pop("definitions", None)
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints with --json."""
        return json.loads(self.run(*arguments, "--json", code=code))


def ways_back(told: str) -> list[list[str]]:
    """The commands that are printed, as they would be typed."""
    return [words.split()[1:] for words in re.findall(r"`(visionops [^`]+)`", told)]


def _declared(project: Project) -> dict[str, Any]:
    return project.model_dump(mode="json", exclude_none=True)
