"""Which pull or merge request a job runs for, as the forge's environment says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


class ForgeError(RuntimeError):
    """The forge refused, or nothing says where to post; the message names the fix."""


@dataclass(frozen=True)
class Request:
    """A pull or merge request. `comments` is the path of its comments in the forge's API."""

    forge: Literal["github", "gitlab"]
    name: str
    comments: str
    comment: str

    def of(self, comment: int) -> str:
        """The path of one comment."""
        return f"{self.comment}/{comment}"


def request_of(environment: Mapping[str, str]) -> Request:
    """The request of the job that runs. Raises `ForgeError` outside of one."""
    if environment.get("GITHUB_ACTIONS") == "true":
        repository, number = environment.get("GITHUB_REPOSITORY", ""), _pull_request(environment)
        issues = f"repos/{repository}/issues"
        return Request(
            "github", f"{repository}#{number}", f"{issues}/{number}/comments", f"{issues}/comments"
        )
    if environment.get("GITLAB_CI") == "true":
        project, merge_request = environment.get("CI_PROJECT_ID", ""), environment.get("CI_MERGE_REQUEST_IID")
        if not merge_request:
            raise ForgeError(
                "this pipeline runs for no merge request: run the job on merge_request_event only"
            )
        notes = f"projects/{project}/merge_requests/{merge_request}/notes"
        name = f"{environment.get('CI_PROJECT_PATH', project)}!{merge_request}"
        return Request("gitlab", name, notes, notes)
    raise ForgeError(
        "nothing says which request to comment on: `visionops comment` runs in a job of GitHub Actions or GitLab CI"
    )


def _pull_request(environment: Mapping[str, str]) -> int:
    try:
        event: Any = json.loads(Path(environment.get("GITHUB_EVENT_PATH", "")).read_text(encoding="utf-8"))
        return int(event["pull_request"]["number"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ForgeError("this workflow runs for no pull request: run the job on pull_request only") from None
