"""CPU time of `visionops status` and `why`, of the whole process, against importing MLflow and Dagster in the same run
(budget: 3 s each).

On the demo's home after its three weeks, made here, or on one that is there: `looking.py --home FOLDER`.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from resources.home import ROOT

ROUNDS = 5
BUDGET = 3.0
PROJECT = "digits"
COMMANDS = {
    "import": ["-c", "import dagster, mlflow"],
    "status": ["-m", "visionops", "status", PROJECT],
    "why": ["-m", "visionops", "why", PROJECT],
}


def of_home(home: Path) -> dict[str, str]:
    """The environment of a command in a home."""
    return {**os.environ, "VISIONOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}


def cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """User and system time of a Python process that ends well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(home: Path) -> None:
    """Run all in turn, once unmeasured, and print the median of each."""
    environment = of_home(home)
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(ROUNDS + 1):
        for name, arguments in COMMANDS.items():
            took = cpu_seconds(arguments, environment)
            if number:
                found[name].append(took)
    base = statistics.median(found.pop("import"))
    for name, times in found.items():
        mine = statistics.median(times)
        kept = "kept" if mine <= BUDGET else "MISSED"
        print(
            f"{name}: {mine:.2f} s of CPU, {mine / base:.2f}x of importing MLflow and Dagster ({base:.2f} s); "
            f"budget {BUDGET:g} s: {kept}"
        )


def main() -> None:
    """Make the demo's home where none is given, and measure on it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a home in which `visionops demo` ran")
    home = parser.parse_args().home
    if home is not None:
        measure(home.resolve())
        return
    with tempfile.TemporaryDirectory() as folder:
        cpu_seconds(["-m", "visionops", "demo", "--days", "0"], of_home(Path(folder)))
        measure(Path(folder))


if __name__ == "__main__":
    main()
