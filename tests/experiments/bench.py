"""A terminal in a world whose first version is champion, for experiments."""

import sys
from dataclasses import dataclass
from typing import Any

import yaml
from typer.testing import CliRunner

from resources.models.records import RegisteredModel
from tests.world import World, shapes_project


@dataclass
class Bench:
    """A world, and the command line in its environment."""

    world: World
    # What the last command wrote on standard error.
    remarks: str = ""

    def declare(self, **changes: Any) -> None:
        """Write the project's file with other values."""
        self.world.projects = [shapes_project(**changes)]
        folder = self.world.root / "projects"
        folder.mkdir(exist_ok=True)
        content = self.world.project.model_dump(mode="json", exclude_none=True)
        (folder / "shapes.yaml").write_text(yaml.safe_dump(content))

    def run(self, *arguments: str, code: int = 0) -> str:
        """What a command prints on standard output; it must end with `code`."""
        from visionops.cli.command_line import app

        # Each command is a process of its own: it loads the code location as the project files are now.
        sys.modules.pop("definitions", None)
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        self.remarks = result.stderr
        return result.stdout

    @property
    def registered(self) -> RegisteredModel:
        """Aliases, history, decisions and their levels: all that the gate and promotion write."""
        return self.world.registry.models.get("shapes")
