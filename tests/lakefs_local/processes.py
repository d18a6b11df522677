"""A server in a process of its own, to be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lakefs_api import Api

from lakefs_local import discovery


class ServerProcess:
    """`python -m lakefs_local serve` on a data folder and a free port."""

    def __init__(self, data: Path, *arguments: str):
        self.data = data
        data.mkdir(exist_ok=True)
        (data / "server.json").unlink(missing_ok=True)
        with (data / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "lakefs_local",
                    "serve",
                    "--data",
                    str(data),
                    "--port",
                    "0",
                    *arguments,
                ],
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        self.api = Api(self._wait())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def _wait(self) -> discovery.Server:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                said = json.loads((self.data / "server.json").read_text())
                pair = json.loads((self.data / "credentials.json").read_text())[0]
                return discovery.Server(
                    said["endpoint"], pair["access_key_id"], pair["secret_access_key"], said["pid"]
                )
            except (FileNotFoundError, ValueError):
                if self.process.poll() is not None:
                    break
                time.sleep(0.01)
        raise AssertionError((self.data / "server.log").read_text())
