"""The agent as a device runs it."""

import os
import subprocess
import sys
from pathlib import Path

from resources.home import ROOT


def agent(command: str, device: Path, *arguments: str, fails: bool = False) -> str:
    """What the agent prints, as a process of its own."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "edge", command, "--device", str(device), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr
