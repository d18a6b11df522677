"""The workflow files that users copy, run: each job's shell steps in a clean clone, only the forge stood in for."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci_cd.forge import Forge
from tests.ci_cd.relay import relayed
from tests.ci_cd.workflows import ACTIONS, GITHUB, GITLAB, GitHubJob, GitLabJob, Ran, clone
from tests.world import World, shapes_project
from visionops_assets.evaluation.verdict_store import listed

HIDDEN = "<!-- visionops:report -->"


def written(project: Any) -> str:
    return yaml.safe_dump(project.model_dump(mode="json", exclude_none=True))


@dataclass
class Team:
    """A repository with one small project, its services, and the forge where its changes are discussed."""

    world: World
    forge: Forge
    folder: Path

    def change(self, **recipe: Any) -> None:
        """What somebody edits in the project file."""
        project = shapes_project()
        content = yaml.safe_load(written(project))
        content["recipe"].update(recipe)
        (self.folder / "projects" / "shapes.yaml").write_text(yaml.safe_dump(content))

    def services(self) -> dict[str, str]:
        lakefs = self.world.lakefs
        assert lakefs.endpoint and lakefs.access_key_id and lakefs.secret_access_key
        return {
            "LAKEFS_ENDPOINT": lakefs.endpoint,
            "LAKEFS_ACCESS_KEY_ID": lakefs.access_key_id,
            "LAKEFS_SECRET_ACCESS_KEY": lakefs.secret_access_key,
            "MLFLOW_TRACKING_URI": str(self.world.registry.tracking_uri),
            "VISIONOPS_ARTIFACTS": self.world.artifacts.root,
        }

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.forge.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            "PATH": path,
            "HOME": str(self.forge.folder),
            "PYTHONPATH": str(self.folder),
            "VISIONOPS_PROJECTS": str(self.folder / "projects"),
            "OMP_NUM_THREADS": "1",
        }

    def github(self, job: str, event: str = "pull_request") -> Ran:
        services = self.services()
        runner = GitHubJob(
            job,
            {
                "github": {
                    "event_name": event,
                    "repository": "acme/vision",
                    "workspace": str(self.folder),
                    "actor": "ada",
                    "token": "t",
                    "event": {"pull_request": {"head": {"repo": {"full_name": "acme/vision"}}}},
                },
                "vars": services,
                "secrets": services,
            },
        )
        runner.workflow["env"]["PROJECTS"] = "shapes"
        assert runner.wanted
        known = {k: v for k, v in self.forge.environment("github").items() if k != "GH_TOKEN"}
        (self.folder / "report.md").unlink(missing_ok=True)
        return runner.run(
            self.folder, {**self.environment(), **known, "GITHUB_STEP_SUMMARY": str(self.summary)}
        )

    def gitlab(self, job: str) -> Ran:
        (self.folder / "report.md").unlink(missing_ok=True)
        return GitLabJob(job).run(
            self.folder,
            {
                **self.environment(),
                **self.services(),
                **self.forge.environment("gitlab"),
                "CI_PROJECT_DIR": str(self.folder),
                "GITLAB_USER_LOGIN": "ada",
                "PROJECTS": "shapes",
            },
        )

    @property
    def summary(self) -> Path:
        return self.forge.folder / "summary.md"

    def comment(self) -> str:
        """The one comment of ours."""
        (mine,) = [body for body in self.forge.bodies() if body.startswith(HIDDEN)]
        return mine


@pytest.fixture
def team(promoted: World, tmp_path: Path, count: Callable[[int, int], int]) -> Iterator[Team]:
    """At the stated counts each command is a process of the clone; else a child that has imported everything."""
    forge = Forge(tmp_path / "forge")
    folder = clone(tmp_path / "clone")
    for other in (folder / "projects").glob("*.yaml"):
        other.unlink()
    made = Team(promoted, forge, folder)
    made.change()
    with relayed(forge.bin) if count(1, 2) == 1 else contextlib.nullcontext():
        yield made


@pytest.mark.slow
def test_a_pull_request_shows_what_its_change_would_make_of_the_data(team: Team) -> None:
    champion = team.world.registry.models.get("shapes")
    team.change(epochs=7)
    proposed = team.github("propose")
    assert proposed.passed, proposed.said
    assert [name for name, _ in proposed.steps] == [
        "Install",
        "Data checks, training and evaluation",
        "Comment",
    ]
    said = team.comment()
    assert re.search(r"^# shapes: (PASS|INSUFFICIENT|FAIL)$", said, re.MULTILINE)
    assert "against version 1" in said and "| epochs | 6 | 7 |" in said
    assert "spends nothing and promotes nothing" in said
    assert "shapes" in team.summary.read_text()

    # On GitLab, a recipe that cannot be trained: the same comment, written anew.
    team.change(model={"class_path": "no_such_module.Model"})
    broken = team.gitlab("propose")
    assert not broken.passed and "no_such_module" in broken.said
    assert "shapes: failed" in team.comment() and "no\\_such\\_module" in team.comment()

    # A forge that refuses: the job says so once, and its report stays.
    team.change(epochs=7)
    team.forge.write(refuses=True)
    refused = team.gitlab("propose")
    assert not refused.passed
    assert len(re.findall(r"^error: .*HTTP 403", refused.said, re.MULTILINE)) == 1
    assert "| epochs | 6 | 7 |" in refused.said and (team.folder / "report.md").exists()
    assert "shapes: failed" in team.comment()
    assert team.world.registry.models.get("shapes") == champion, "a proposal decides nothing"


@pytest.mark.stated
@pytest.mark.parametrize("where", ["github", "gitlab"])
def test_once_merged_the_change_is_decided(team: Team, where: str) -> None:
    before = len(listed(team.world.registry.models.get("shapes").tags))
    team.change(epochs=7)
    decided = team.github("decide", "push") if where == "github" else team.gitlab("decide")
    assert decided.passed, decided.said
    assert re.search(r"shapes: (promoted|INSUFFICIENT|refused): ", decided.said)
    assert len(listed(team.world.registry.models.get("shapes").tags)) == before + 1


@pytest.mark.stated
def test_without_a_lakefs_the_base_branch_makes_a_champion_of_the_demo(tmp_path: Path) -> None:
    forge, folder = Forge(tmp_path / "forge"), clone(tmp_path / "clone")
    recipe = folder / "projects" / "digits.yaml"
    changed = re.sub(r"(?m)^(\s+epochs: )\d+", r"\g<1>3", recipe.read_text())
    recipe.write_text(changed)
    github = {
        "event_name": "pull_request",
        "repository": "acme/vision",
        "workspace": str(folder),
        "event": {"pull_request": {"head": {"repo": {"full_name": "acme/vision"}}}},
    }
    path = os.pathsep.join([str(forge.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {
        **forge.environment("github"),
        "PATH": path,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(folder),
        "GITHUB_BASE_REF": subprocess.run(
            ["git", "branch", "--show-current"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    ran = GitHubJob("propose", {"github": github}).run(folder, environment)
    assert ran.passed, ran.said
    (mine,) = [body for body in forge.bodies() if body.startswith(HIDDEN)]
    assert "digits: " in mine and "against version 2" in mine and "| epochs |" in mine


@pytest.mark.parametrize(
    ("event", "head", "endpoint", "wanted"),
    [
        ("pull_request", "acme/vision", "", ["propose"]),
        ("pull_request", "stranger/vision", "", []),
        ("push", "", "", []),
        ("push", "", "http://lakefs", ["decide"]),
        ("schedule", "", "http://lakefs", ["decide"]),
    ],
)
def test_each_event_runs_its_job_and_a_fork_none(
    event: str, head: str, endpoint: str, wanted: list[str]
) -> None:
    told = {"pull_request": {"head": {"repo": {"full_name": head}}}} if head else {}
    github = {"event_name": event, "repository": "acme/vision", "event": told}
    contexts = {"github": github, "vars": {"LAKEFS_ENDPOINT": endpoint}}
    assert [name for name in ("propose", "decide") if GitHubJob(name, dict(contexts)).wanted] == wanted


def test_nothing_but_shell_and_the_forges_own_is_used_and_no_secret_reaches_a_command_line() -> None:
    jobs: Mapping[str, Any] = yaml.safe_load(GITHUB.read_text())["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert {step["uses"] for step in steps if "uses" in step} == set(ACTIONS)
    assert not [step["run"] for step in steps if "${{" in step.get("run", "")], (
        "a name of a branch could be a command"
    )
    scripts = [step["run"] for step in steps if "run" in step]
    scripts += [line for name in ("propose", "decide") for line in GitLabJob(name).script()]
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True)
    included = yaml.safe_load((GITHUB.parents[2] / ".gitlab-ci.yml").read_text())["include"]
    assert [GITHUB.parents[2] / each["local"] for each in included] == [GITLAB]


@pytest.mark.parametrize("file", sorted(GITHUB.parent.glob("*.yml")), ids=lambda file: file.stem)
def test_a_workflow_uses_commits_and_only_what_it_is_given(file: Path) -> None:
    text = file.read_text()
    workflow: Mapping[str, Any] = yaml.safe_load(text)
    assert workflow["permissions"] == {}, "each job states what it may"
    used = re.findall(r"uses: (.+)", text)
    assert used and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", each) for each in used)
    assert "secrets." not in str(workflow.get("env", {})), "a key is for the steps that need it"
    for name, job in workflow["jobs"].items():
        assert job["permissions"]["contents"] == "read", name
        assert set(job["permissions"]) <= {"contents", "pull-requests"}, name
        assert "secrets." not in str(job.get("env", {})), name
        keys = [step for step in job["steps"] if "secrets." in str(step)]
        assert not [step for step in keys if "uses" in step or "make" in step["run"]], name
        # An environment's reviewers and branches stand before its keys.
        assert bool(keys) == ("environment" in job), name
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts), name
