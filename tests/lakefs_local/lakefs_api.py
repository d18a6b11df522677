"""A bare HTTP client for the tests: what is sent and answered, with nothing in between."""

import base64
import http.client
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from lakefs_local.discovery import Server


@dataclass(frozen=True)
class Answer:
    """Status, headers by lower-case name, and body of a response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])

    @property
    def paths(self) -> list[str]:
        return [result["path"] for result in self.json["results"]]


class Api:
    """Calls the API of one server; safe between threads, each of which keeps its own connection."""

    def __init__(self, server: Server):
        address = urlsplit(server.endpoint)
        self.host, self.port = address.hostname or "", address.port
        self.server = server
        pair = f"{server.access_key_id}:{server.secret_access_key}".encode()
        self.authorization = "Basic " + base64.b64encode(pair).decode()
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are open; the next call opens a new one."""
        for connection in self._connections:
            connection.close()

    def send(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send to any target with exactly these headers."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
            self._connections.append(connection)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            data = response.read()
        except BaseException:
            connection.close()
            raise
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        *,
        data: Any = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send to an API path, signed in; `data` goes as JSON, `body` as it is."""
        sent = {
            "Authorization": self.authorization,
            "Content-Type": "application/octet-stream",
            **(headers or {}),
        }
        if data is not None:
            body = json.dumps(data).encode()
            sent["Content-Type"] = "application/json"
        target = (
            "/api/v1" + quote(path, safe="/%~^@$") + (f"?{urlencode(query, doseq=True)}" if query else "")
        )
        return self.send(method, target, body, sent)


def many_objects(objects: dict[str, bytes]) -> bytes:
    """The body of a request that uploads many objects."""
    return b"".join(
        json.dumps({"path": path, "size": len(content)}).encode() + b"\n" + content
        for path, content in objects.items()
    )


class Repository:
    """One repository, with the calls that tests make most; each checks that it succeeded."""

    def __init__(self, api: Api, name: str):
        self.api, self.name = api, name
        made = api.call("POST", "/repositories", data={"name": name, "storage_namespace": f"local://{name}"})
        assert made.status == 201, made

    def call(self, method: str, path: str, query: dict[str, Any] | None = None, **sent: Any) -> Answer:
        return self.api.call(method, f"/repositories/{self.name}{path}", query, **sent)

    def branch(self, name: str, source: str = "main") -> None:
        made = self.call("POST", "/branches", data={"name": name, "source": source})
        assert made.status == 201, made

    def put(self, branch: str, path: str, content: bytes = b"x", **headers: str) -> dict[str, Any]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.call("POST", f"/branches/{branch}/objects", {"path": path}, body=content, headers=sent)
        assert answer.status == 201, answer
        return answer.json

    def send_many(self, branch: str, body: bytes) -> Answer:
        """Send a body of many objects, whatever comes of it."""
        target = f"/_lakefs_local/repositories/{self.name}/branches/{branch}/objects"
        return self.api.send("POST", target, body, {"Authorization": self.api.authorization})

    def put_many(self, branch: str, objects: dict[str, bytes]) -> None:
        answer = self.send_many(branch, many_objects(objects))
        assert answer.status == 201, answer

    def delete(self, branch: str, path: str) -> None:
        answer = self.call("DELETE", f"/branches/{branch}/objects", {"path": path})
        assert answer.status == 204, answer

    def get(self, ref: str, path: str, **headers: str) -> Answer:
        return self.call("GET", f"/refs/{ref}/objects", {"path": path}, headers=headers)

    def stat(self, ref: str, path: str) -> Answer:
        return self.call("GET", f"/refs/{ref}/objects/stat", {"path": path})

    def paths(self, ref: str, **query: Any) -> list[str]:
        """All paths, page by page."""
        return [result["path"] for result in self.pages(f"/refs/{ref}/objects/ls", **query)]

    def pages(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All results of a listing, page by page."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            answer = self.call("GET", path, {**query, "after": after})
            assert answer.status == 200, answer
            found += answer.json["results"]
            if not answer.json["pagination"]["has_more"]:
                return found
            after = answer.json["pagination"]["next_offset"]

    def commit(self, branch: str, message: str = "m", **data: Any) -> str:
        answer = self.call("POST", f"/branches/{branch}/commits", data={"message": message, **data})
        assert answer.status == 201, answer
        return str(answer.json["id"])

    def merge(self, source: str, destination: str, **data: Any) -> Answer:
        return self.call("POST", f"/refs/{source}/merge/{destination}", data=data)

    def head(self, branch: str) -> str:
        return str(self.call("GET", f"/branches/{branch}").json["commit_id"])

    def log(self, ref: str, **query: Any) -> list[dict[str, Any]]:
        return self.pages(f"/refs/{ref}/commits", **query)

    def diff(self, branch: str) -> dict[str, str]:
        """What is staged: kinds by path."""
        return {item["path"]: item["type"] for item in self.pages(f"/branches/{branch}/diff")}

    def compare(self, left: str, right: str, **query: Any) -> dict[str, str]:
        """Kinds by path of the difference of two references."""
        return {item["path"]: item["type"] for item in self.pages(f"/refs/{left}/diff/{right}", **query)}

    def import_folder(self, branch: str, folder: Path, destination: str = "") -> dict[str, Any]:
        """Import a folder and wait; the final status."""
        source = {"type": "common_prefix", "path": f"local://{folder}/", "destination": destination}
        return self.import_paths(branch, [source])

    def import_paths(self, branch: str, paths: list[dict[str, str]]) -> dict[str, Any]:
        """Start an import and wait; the final status."""
        body = {"paths": paths, "commit": {"message": "imported"}}
        answer = self.call("POST", f"/branches/{branch}/import", data=body)
        assert answer.status == 202, answer
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status: dict[str, Any] = self.call(
                "GET", f"/branches/{branch}/import", {"id": answer.json["id"]}
            ).json
            if status["completed"] or "error" in status:
                return status
            time.sleep(0.01)
        raise AssertionError("the import did not end")
