"""Which pull or merge request a job runs for, as the forge's environment says, and one comment on it, found by its
author and a mark that nobody sees, and written anew by each run.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resources.error_family import Refused

# Of GitHub; GitLab takes more.
LONGEST = 65_000
WITHIN_SECONDS = 120
# A token of an app may ask in GraphQL only.
_WHO_AM_I = {"github": (["graphql", "-f", "query={viewer{login}}"], ["user"]), "gitlab": (["user"],)}
TOOLS = {"github": "gh", "gitlab": "glab"}
RIGHTS = {
    "github": "give the job `permissions: pull-requests: write` and GH_TOKEN",
    "gitlab": "set GITLAB_TOKEN to a project access token with the scope api and the role Reporter or above",
}


class ForgeError(Refused, RuntimeError):
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
        "nothing says which request to comment on: run it in a job of GitHub Actions or GitLab CI"
    )


def _pull_request(environment: Mapping[str, str]) -> int:
    try:
        event: Any = json.loads(Path(environment.get("GITHUB_EVENT_PATH", "")).read_text(encoding="utf-8"))
        return int(event["pull_request"]["number"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ForgeError("this workflow runs for no pull request: run the job on pull_request only") from None


def post_comment(text: str, name: str, report: Path, environment: Mapping[str, str]) -> str:
    """Write the comment `name` of the job's request; says what was done. Raises `ForgeError`."""
    request = request_of(environment)
    tool = TOOLS[request.forge]
    if shutil.which("cml", path=environment.get("PATH")):
        return _by_cml(request, report, environment)
    if not shutil.which(tool, path=environment.get("PATH")):
        raise ForgeError(
            f"neither cml nor {tool} is installed, so {request.name} gets no comment; the report is above and in "
            f"{report}"
        )
    api = _Api(request, tool, environment, report)
    mark = f"<!-- visionops:{name} -->"
    body = f"{mark}\n{_cut(text)}"
    marked = [comment for comment in api.comments() if str(comment.get("body", "")).startswith(mark)]
    me = api.me() if marked else frozenset()
    mine = [comment for comment in marked if _author(comment) in (None, *me)]
    if not mine:
        api.call("POST", request.comments, {"body": body})
        return f"commented on {request.name}"
    first = mine[0]["id"]
    api.call("PATCH" if request.forge == "github" else "PUT", request.of(first), {"body": body})
    # Two jobs that both found none wrote two.
    for other in mine[1:]:
        api.call("DELETE", request.of(other["id"]))
    return f"updated the comment on {request.name}"


@dataclass(frozen=True)
class _Api:
    request: Request
    tool: str
    environment: Mapping[str, str]
    report: Path

    def comments(self) -> list[dict[str, Any]]:
        """All comments, oldest first."""
        path = f"{self.request.comments}?per_page=100"
        if self.request.forge == "gitlab":
            path += "&sort=asc&order_by=created_at"
        answer = self._run(["--paginate", path])
        found: list[dict[str, Any]] = []
        decoder, rest = json.JSONDecoder(), answer.strip()
        try:
            # One array a page, one after the other.
            while rest:
                page, end = decoder.raw_decode(rest)
                found += page
                rest = rest[end:].lstrip()
        except (ValueError, TypeError):
            raise ForgeError(
                f"{self.tool} did not answer with comments of {self.request.name}: {_first(answer)}"
            ) from None
        return found

    def me(self) -> frozenset[str]:
        """The names under which the token's owner writes; of a job's own token, which may not ask, its bot."""
        names = {"github-actions[bot]"} if self.request.forge == "github" else set[str]()
        for question in _WHO_AM_I[self.request.forge]:
            with suppress(ForgeError, ValueError, KeyError, TypeError):
                answer = json.loads(self._run(question))
                found = answer["data"]["viewer"] if "data" in answer else answer
                return frozenset({str(found.get("login") or found["username"])})
        return frozenset(names)

    def call(self, method: str, path: str, content: Mapping[str, str] | None = None) -> None:
        """Change a comment."""
        arguments = ["--method", method, path]
        if content is None:
            self._run(arguments)
        else:
            headers = ["--header", "Content-Type: application/json", "--input", "-"]
            self._run([*arguments, *headers], json.dumps(content))

    def _run(self, arguments: Sequence[str], given: str = "") -> str:
        return _run([self.tool, "api", *arguments], given, self.request, self.report, self.environment)


def _author(comment: Mapping[str, Any]) -> str | None:
    """Who wrote a comment, as GitHub or GitLab names them; empty for somebody who is gone, None for a forge that does
    not say."""
    for key, name in (("user", "login"), ("author", "username")):
        if key in comment:
            return str((comment[key] or {}).get(name, ""))
    return None


def _by_cml(request: Request, report: Path, environment: Mapping[str, str]) -> str:
    token = (
        environment.get("REPO_TOKEN") or environment.get("GH_TOKEN") or environment.get("GITLAB_TOKEN") or ""
    )
    known = {**environment, "REPO_TOKEN": token}
    _run(["cml", "comment", "update", str(report)], "", request, report, known)
    return f"commented on {request.name} by cml"


def _run(
    command: Sequence[str], given: str, request: Request, report: Path, environment: Mapping[str, str]
) -> str:
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            env=dict(environment),
            timeout=WITHIN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ForgeError(_refused(command[0], request, report, f"no answer in {WITHIN_SECONDS} s")) from None
    if done.returncode:
        raise ForgeError(_refused(command[0], request, report, _first(done.stderr or done.stdout)))
    return done.stdout


def _refused(tool: str, request: Request, report: Path, why: str) -> str:
    return (
        f"{tool} could not comment on {request.name}: {why}. The report is above and in {report}; to have it on the "
        f"request, {RIGHTS[request.forge]}"
    )


def _first(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else "no reason given"


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST].rpartition(chr(10))[0]}\n\n*Cut here: the whole report is in the job's log.*\n"
