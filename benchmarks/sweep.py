"""A sweep of 20 small trainings against the same 20 trainings called one by one (budget: 1.1 × their sum).

Both train in this process on the demo's digits: the sweep as `visionops train --sweep` does, the baseline by calls of
`challenge`, other seeds so that neither finds what the other trained. The sweep runs between the halves of the
baseline. Beside it, the bare trainings without export and records, which no run of MLflow's can do without. Processor
seconds stand beside the others: they hold on a machine that is busy with other things too.

    python benchmarks/sweep.py [--trainings 20]
"""

import argparse
import os
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

BUDGET = 1.1
IMAGES = 700


@dataclass(frozen=True)
class Seconds:
    """Seconds on the clock, and of this process's processor time."""

    elapsed: float
    processor: float

    def __str__(self) -> str:
        return f"{self.elapsed:7.1f} s ({self.processor:.1f} s of processor)"

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.elapsed + other.elapsed, self.processor + other.processor)

    def ratio_to(self, other: "Seconds") -> str:
        """How many times the other this is."""
        return f"{self.elapsed / other.elapsed:.2f} x ({self.processor / other.processor:.2f} x of processor)"


@dataclass
class Clock:
    """Started when it is made."""

    elapsed: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)

    def stop(self) -> Seconds:
        """What went by."""
        return Seconds(time.perf_counter() - self.elapsed, time.process_time() - self.processor)


def main(trainings: int) -> None:
    """Import one week of digits, train the halves and the sweep, print the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VISIONOPS_HOME"] = folder
        os.environ.pop("DAGSTER_HOME", None)
        os.environ.pop("VISIONOPS_PROJECTS", None)
        from lakefs_local import discovery
        from visionops import bootstrap, services
        from visionops.demo.digits import write_weeks
        from visionops_assets.dataset.batch_publishing import Publisher

        bootstrap.prepare()
        try:
            project, lakefs, artifacts = services.project("digits"), services.lakefs(), services.artifacts()
            week = write_weeks(Path(folder) / "weeks")[1]
            Publisher(project, lakefs, artifacts).publish(week, week.name)
            # What is made once a process, or once a home, is in neither.
            one_by_one(1, first_seed=1)
            bare(1, first_seed=1)
            half = trainings // 2
            alone = bare(half, first_seed=300)
            summed = one_by_one(half, first_seed=100)
            swept = sweep(trainings, Path(folder) / "search.yaml", first_seed=200)
            summed += one_by_one(trainings - half, first_seed=100 + half)
            alone += bare(trainings - half, first_seed=300 + half)
        finally:
            discovery.stop(Path(folder) / "lakefs")
    print(f"\n{trainings} trainings of {project.recipe.epochs} epochs on {IMAGES} digits")
    print(f"  {'one by one':32}{summed}")
    print(f"  {'as a sweep':32}{swept}   {swept.ratio_to(summed)}")
    print(f"  {'bare, nothing exported or kept':32}{alone}   the sweep is {swept.ratio_to(alone)}")
    kept = swept.elapsed <= BUDGET * summed.elapsed
    print(f"budget {BUDGET:.1f} x of one by one: {'kept' if kept else 'MISSED'}")


def one_by_one(count: int, *, first_seed: int) -> Seconds:
    """Seconds of trainings that are called one after the other."""
    from visionops import services
    from visionops_assets.training.challenge import challenge

    project, version = _declared()
    clock = Clock()
    for seed in range(first_seed, first_seed + count):
        recipe = project.recipe.model_copy(update={"seed": seed})
        _, reused = challenge(
            project.model_copy(update={"recipe": recipe}),
            version,
            services.stores(),
            say=lambda text: None,
        )
        assert not reused
    return clock.stop()


def bare(count: int, *, first_seed: int) -> Seconds:
    """Seconds of the trainings alone: samples in, weights out."""
    from resources import home
    from visionops import services
    from visionops_assets.training.recording import prepare
    from visionops_assets.training.train import train

    project, version = _declared()
    clock = Clock()
    for seed in range(first_seed, first_seed + count):
        declared = project.model_copy(update={"recipe": project.recipe.model_copy(update={"seed": seed})})
        with tempfile.TemporaryDirectory() as folder:
            request = prepare(
                declared,
                version,
                "bare",
                None,
                lakefs=services.lakefs(),
                samples=home.cache() / "samples",
                say=lambda text: None,
            )
            train(request, Path(folder))
    return clock.stop()


def sweep(count: int, file: Path, *, first_seed: int) -> Seconds:
    """Seconds of the command, which reads the file, checks every point and finds the best."""
    from visionops.cli import train

    file.write_text(f"parameters: {{seed: {list(range(first_seed, first_seed + count))}}}\n")
    clock = Clock()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        train.train_command("digits", sweep=file)
    return clock.stop()


def _declared() -> tuple[Any, Any]:
    from visionops import services
    from visionops_assets.dataset.versions.dataset_version import named_version

    project = services.project("digits")
    return project, named_version(services.lakefs(), services.artifacts(), project)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=20)
    main(parser.parse_args().trainings)
