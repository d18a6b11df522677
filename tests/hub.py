"""A hub of weights on loopback: it answers as Hugging Face's does for what is asked of it here, and hands out files at
plain addresses.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it has, by path below `endpoint`, and what was asked of it."""

    endpoint: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def put(self, repository: str, file: str, content: bytes) -> str:
        """A file of a repository at REVISION; its `hf://` address."""
        self.files[f"/{repository}/resolve/{REVISION}/{file}"] = content
        about = {"id": repository, "modelId": repository, "sha": REVISION, "siblings": [], "tags": []}
        self.files[f"/api/models/{repository}"] = json.dumps(about).encode()
        return f"hf://{repository}@{REVISION}/{file}"


@contextmanager
def a_hub() -> Iterator[Hub]:
    """A hub that is gone at the end."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append(self.path)
            content = hub.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET" and content:
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
