"""Stand-ins for `gh`, `glab` and `cml`: executables that keep comments in a file, as the forge's API would."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Reads what the real tools read: `api [--method M] [--paginate] PATH [--input -]`; writes down each call.
_API = """#!{python}
import json, sys
from pathlib import Path
folder, tool, arguments = Path({folder!r}), {tool!r}, sys.argv[1:]
state = json.loads((folder / "state.json").read_text())
method, path, given = "GET", "", None
words = iter(arguments[1:])
for word in words:
    if word == "--method":
        method = next(words)
    elif word == "--header":
        next(words)
    elif word == "--input":
        next(words)
        given = json.load(sys.stdin)
    elif not word.startswith("--"):
        path = word.partition("?")[0]
state["calls"].append([tool, method, path])
if state["refuses"]:
    (folder / "state.json").write_text(json.dumps(state))
    sys.exit(f"{{tool}}: Resource not accessible by integration (HTTP 403)")
if "graphql" in arguments or path == "user":
    me = state["me"]
    if not me or (tool == "gh" and path == "user"):
        sys.exit(f"{{tool}}: Resource not accessible by integration (HTTP 403)")
    print(json.dumps({{"data": {{"viewer": {{"login": me}}}}}} if tool == "gh" else {{"username": me}}))
    sys.exit()
comments = state["comments"]
number = path.rpartition("/")[2]
if method == "GET":
    half = len(comments) // 2
    print(json.dumps(comments[:half]) + json.dumps(comments[half:]))
elif method == "POST":
    by = {{"user": {{"login": state["me"]}}}} if tool == "gh" else {{"author": {{"username": state["me"]}}}}
    comments.append({{"id": 1 + max([c["id"] for c in comments], default=0), "body": given["body"], **by}})
elif method in ("PATCH", "PUT"):
    next(c for c in comments if str(c["id"]) == number)["body"] = given["body"]
elif method == "DELETE":
    state["comments"] = [c for c in comments if str(c["id"]) != number]
(folder / "state.json").write_text(json.dumps(state))
"""
_CML = """#!{python}
import json, os, sys
from pathlib import Path
folder = Path({folder!r})
state = json.loads((folder / "state.json").read_text())
state["calls"].append(["cml", *sys.argv[1:], bool(os.environ.get("REPO_TOKEN"))])
(folder / "state.json").write_text(json.dumps(state))
"""


@dataclass
class Forge:
    """A forge of one request, in a folder; `bin` goes first on PATH."""

    folder: Path

    def __post_init__(self) -> None:
        self.bin.mkdir(parents=True)
        self.write(comments=[{"id": 7, "body": "Nice work!"}], calls=[], refuses=False, me="visionops[bot]")
        for tool in ("gh", "glab"):
            self._install(tool, _API)

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def with_cml(self) -> "Forge":
        self._install("cml", _CML)
        return self

    def state(self) -> dict[str, Any]:
        return json.loads((self.folder / "state.json").read_text())

    def write(self, **changes: Any) -> None:
        file = self.folder / "state.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**known, **changes}))

    def bodies(self) -> list[str]:
        return [comment["body"] for comment in self.state()["comments"]]

    def environment(self, forge: str) -> Mapping[str, str]:
        """What a job of a request sees, besides PATH."""
        event = self.folder / "event.json"
        event.write_text(json.dumps({"pull_request": {"number": 12}}))
        if forge == "github":
            return {
                "GITHUB_ACTIONS": "true",
                "GITHUB_REPOSITORY": "acme/vision",
                "GITHUB_EVENT_PATH": str(event),
                "GH_TOKEN": "t",
            }
        return {
            "GITLAB_CI": "true",
            "CI_PROJECT_ID": "34",
            "CI_PROJECT_PATH": "acme/vision",
            "CI_MERGE_REQUEST_IID": "12",
            "GITLAB_TOKEN": "t",
        }

    def _install(self, tool: str, code: str) -> None:
        file = self.bin / tool
        file.write_text(code.format(python=sys.executable, folder=str(self.folder), tool=tool))
        file.chmod(0o755)
