"""Runs the shell steps of the workflow files as their forges do: in order, in one clone, each step in its own shell."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from resources.home import ROOT

GITHUB = ROOT / ".github" / "workflows" / "visionops.yml"
GITLAB = ROOT / "deploy" / "gitlab" / "visionops.yml"
# What may be used besides shell: GitHub's own, which every user has, by the commit of a release, which nobody can move.
ACTIONS = (
    "actions/checkout@34e114876b0b11c390a56381ad16ebd13914f8d5",
    "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065",
)


def clone(target: Path) -> Path:
    """A clean clone of this repository; where it is no repository, a copy of its files."""
    if (ROOT / ".git").exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)
    else:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    return target


@dataclass
class Ran:
    """How a job went: the name of each step that ran, with its exit code, and all that was printed."""

    steps: list[tuple[str, int]] = field(default_factory=list)
    said: str = ""

    @property
    def passed(self) -> bool:
        return not any(code for _, code in self.steps)

    def run(self, name: str, script: str, folder: Path, environment: Mapping[str, str]) -> int:
        """One step, in bash as both forges call it."""
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=folder,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
        )
        self.steps.append((name, done.returncode))
        self.said += f"$ {name}\n{done.stdout}"
        return done.returncode


@dataclass
class GitHubJob:
    """A job of a workflow file, in the contexts (`github`, `vars`, `secrets`) that its expressions ask for."""

    name: str
    contexts: dict[str, Any]

    def __post_init__(self) -> None:
        self.workflow = yaml.safe_load(GITHUB.read_text())
        self.job = self.workflow["jobs"][self.name]

    @property
    def wanted(self) -> bool:
        """What its `if` says."""
        return bool(self._value(self.job.get("if", "true"), failed=False))

    def run(self, folder: Path, environment: Mapping[str, str]) -> Ran:
        """Each step in order; one that fails stops all but those that say `always()`."""
        ran, added = Ran(), folder.parent / "github-path"
        added.touch()
        known = {**environment, "GITHUB_PATH": str(added), **self._filled(self.workflow.get("env", {}))}
        known |= self._filled(self.job.get("env", {}))
        self.contexts["env"] = known
        for step in self.job["steps"]:
            if "uses" in step:
                assert step["uses"] in ACTIONS, step["uses"]
                continue
            if not self._value(step.get("if", "success()"), failed=not ran.passed):
                continue
            path = os.pathsep.join([*reversed(added.read_text().split()), known["PATH"]])
            ran.run(
                step["name"],
                step["run"],
                folder,
                {**known, **self._filled(step.get("env", {})), "PATH": path},
            )
        return ran

    def _filled(self, values: Mapping[str, str]) -> dict[str, str]:
        return {
            name: re.sub(
                r"\$\{\{(.*?)\}\}", lambda found: str(self._value(found[1], failed=False)), str(value)
            )
            for name, value in values.items()
        }

    def _value(self, expression: str, *, failed: bool) -> Any:
        """GitHub's expressions, as far as the file has them: names, texts, `==`, `!=`, `&&`, `||`, `always()`."""
        text = (
            re.sub(r"^\s*\$\{\{(.*)\}\}\s*$", r"\1", expression).replace("&&", " and ").replace("||", " or ")
        )
        text = re.sub(r"\b(?:github|vars|secrets|env)(?:\.\w+)+", lambda found: f"named({found[0]!r})", text)
        functions = {
            "always": lambda: True,
            "success": lambda: not failed,
            "named": self._named,
            "true": True,
        }
        return eval(text.strip(), {"__builtins__": {}}, functions)

    def _named(self, path: str) -> Any:
        found: Any = self.contexts
        for part in path.split("."):
            found = found.get(part, "") if isinstance(found, Mapping) else ""
        return found


@dataclass
class GitLabJob:
    """A job of the GitLab file, with what it extends."""

    name: str

    def __post_init__(self) -> None:
        content = yaml.safe_load(GITLAB.read_text())
        own = content[self.name]
        self.job = {**content.get(own.get("extends", ""), {}), **own}
        self.variables: Mapping[str, str] = content["variables"]

    def script(self) -> Sequence[str]:
        """Its lines, those before the script first: GitLab runs them in one shell."""
        return [*self.job.get("before_script", ()), *self.job["script"]]

    def run(self, folder: Path, environment: Mapping[str, str]) -> Ran:
        known = dict(environment)
        for name, value in self.variables.items():
            filled = re.sub(r"\$(\w+)", lambda found: known.get(found[1], ""), str(value))
            known.setdefault(name, filled)
        ran = Ran()
        ran.run(self.name, "\n".join(self.script()), folder, known)
        return ran
