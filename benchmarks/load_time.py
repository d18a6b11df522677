"""How long the code location takes to load, against a project of one asset in the same run (budget: 1.5 s more)."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resources.home import ROOT

PAIRS = 5
BUDGET = 1.5
BARE = {
    "pyproject.toml": """
[project]
name = "bare"
version = "0"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "bare"
code_location_target_module = "bare"
defs_module = "bare"
[tool.dg.cli]
suppress_warnings = ["project_and_activated_venv_mismatch"]
""",
    "bare/__init__.py": """
import dagster as dg

@dg.asset
def one() -> None: ...

defs = dg.Definitions(assets=[one])
""",
}


def seconds(folder: Path, environment: dict[str, str]) -> float:
    """Wall time of `dg check defs` in a folder."""
    started = time.perf_counter()
    command = [str(Path(sys.executable).parent / "dg"), "check", "defs"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


def main() -> None:
    """Run both in turn and print the median of each."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder)
        for name, text in BARE.items():
            (bare / name).parent.mkdir(exist_ok=True)
            (bare / name).write_text(text)
        environment = {**os.environ, "DAGSTER_HOME": folder, "PYTHONPATH": folder}
        ours, theirs = [], []
        for _ in range(PAIRS):
            theirs.append(seconds(bare, environment))
            ours.append(seconds(ROOT, environment))
    mine, base = statistics.median(ours), statistics.median(theirs)
    print(
        f"dg check defs: {mine:.2f} s here, {base:.2f} s for one asset: {mine / base:.2f}x, {mine - base:+.2f} s"
    )
    print(f"budget: at most {BUDGET} s more: {'kept' if mine - base <= BUDGET else 'MISSED'}")


if __name__ == "__main__":
    main()
