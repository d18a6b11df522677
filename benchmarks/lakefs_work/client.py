"""A bare client of the lakeFS API: next to nothing of its own in what is timed."""

import base64
import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

_PAGE = 1000
_POLL_SECONDS = 0.02


class Client:
    """Calls one server; safe between threads, each of which keeps its own connection."""

    def __init__(self, endpoint: str, key: str, secret: str):
        address = urlsplit(endpoint)
        self._host, self._port = address.hostname or "", address.port
        self._authorization = "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()
        self._local = threading.local()

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        raw: bytes | None = None,
    ) -> Any:
        """The answer, decoded if it is JSON; `body` goes as JSON, `raw` as it is. Ends the benchmark on an error."""
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self._host, self._port, timeout=600)
        target = "/api/v1" + path + ("?" + urlencode(query) if query else "")
        kind = "application/octet-stream" if raw is not None else "application/json"
        sent = raw if raw is not None else json.dumps(body) if body is not None else None
        headers = {"Authorization": self._authorization, "Content-Type": kind}
        self._local.connection.request(method, target, body=sent, headers=headers)
        answer = self._local.connection.getresponse()
        data = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {data[:300]!r}")
        is_json = "json" in (answer.getheader("content-type") or "")
        return json.loads(data) if is_json and raw is None and data else data

    def count(self, path: str, **query: Any) -> int:
        """How many results a listing has, read to its end."""
        found, after = 0, ""
        while True:
            page = self.call("GET", path, {"amount": _PAGE, "after": after, **query})
            found += len(page["results"])
            if not page["pagination"]["has_more"]:
                return found
            after = page["pagination"]["next_offset"]

    def create_repository(self, name: str) -> str:
        """Make a repository; its path."""
        body = {"name": name, "storage_namespace": f"local://{name}", "default_branch": "main"}
        self.call("POST", "/repositories", body=body)
        return f"/repositories/{name}"

    def import_folder(self, repository: str, folder: Path, destination: str) -> None:
        """Import into `main` and wait until it is there."""
        source = {"type": "common_prefix", "path": f"local://{folder}/", "destination": destination}
        path = f"{repository}/branches/main/import"
        job = self.call("POST", path, body={"paths": [source], "commit": {"message": "base"}})
        while True:
            status = self.call("GET", path, {"id": job["id"]})
            if status.get("error"):
                raise SystemExit(status["error"])
            if status["completed"]:
                return
            time.sleep(_POLL_SECONDS)
