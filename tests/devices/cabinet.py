"""A provisioned device in a folder, its camera, and the agent as it ships: a process of its own."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge.__main__ import main
from edge.formats import State, state_from_json
from edge.reports import read_report
from resources.home import ROOT
from resources.storage import ArtifactStore
from tests.devices.small_fleet import DEVICE, GROUP, PROJECT, Fleet, frame
from visionops_assets.delivery.enrolment import Enrolled, NewDevice, enrolled, provision

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


class Cabinet:
    """A provisioned device, its camera, and the agent as a process."""

    def __init__(self, fleet: Fleet) -> None:
        """One that is there, beside its repository."""
        self.fleet, self.folder, self.camera = fleet, fleet.root / DEVICE, fleet.root / "camera"
        self.artifacts = ArtifactStore(root=str(fleet.root / "artifacts"))

    @classmethod
    def provisioned(cls, fleet: Fleet, **settings: Any) -> "Cabinet":
        """A new one, beside its repository; settings are those of `device.json`."""
        made = cls(fleet)
        made.camera.mkdir()
        provision(
            made.artifacts,
            NewDevice(
                PROJECT,
                GROUP,
                DEVICE,
                made.folder,
                fleet.repository.bootstrap(),
                settings={
                    "repository": fleet.url,
                    "reports": str(fleet.root / "reports"),
                    "source": {"folder": str(made.camera)},
                    "sink": {"lines": "answers.jsonl"},
                    **settings,
                },
            ),
            who="ada@example.com",
            when=datetime.now(UTC),
        )
        return made

    def photograph(self, number: int) -> None:
        for each in range(number):
            name = f"{len(list(self.camera.iterdir())):05d}.png"
            (self.camera / f".{name}").write_bytes(frame(each))
            (self.camera / f".{name}").replace(self.camera / name)

    def start(self, command: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "edge", command, "--device", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**ENVIRONMENT, **environment},
        )

    def run(self, command: str, **environment: str) -> tuple[int, str]:
        process = self.start(command, **environment)
        said, _ = process.communicate()
        return process.returncode, said

    def typed(self, command: str) -> tuple[int, str]:
        """The same typed in this process, which takes less."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([command, "--device", str(self.folder)])
        return int(ended.value.code or 0), out.getvalue() + err.getvalue()

    def change(self, **settings: Any) -> None:
        """Change `device.json`."""
        file = self.folder / "device.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))

    def state(self) -> State:
        return state_from_json(json.loads((self.folder / "state" / "state.json").read_text()))

    def whole(self) -> None:
        """What answers is there and right by its digest."""
        import hashlib

        good = self.state().good
        assert good is not None
        for _, sha256, _ in good.files:
            content = (self.folder / "state" / "blobs" / sha256).read_bytes()
            assert hashlib.sha256(content).hexdigest() == sha256

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "answers.jsonl").read_text().splitlines()]

    def events(self) -> dict[int, dict[str, Any]]:
        record = enrolled(self.artifacts, PROJECT, DEVICE)
        assert isinstance(record, Enrolled)
        public = load_pem_public_key(record.public_key.encode())
        found: dict[int, dict[str, Any]] = {}
        for file in sorted((self.fleet.root / "reports" / PROJECT / DEVICE).glob("*.jsonl.gz")):
            for event in read_report(file.read_bytes(), public).events:  # type: ignore[arg-type]
                assert found.setdefault(event["id"], dict(event)) == event
        return found
