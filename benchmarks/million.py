"""A repository of a million samples, metadata alone: what a commit with 1,000 changes costs from lakeFS to the run.

Every object is an empty file that the embedded lakeFS imports where it lies. The changes are a new batch. Baseline
of the same run: one request for the head of the log, and one page of 1,000 objects.

    python benchmarks/million.py [--samples 1000000]
"""

import argparse
import os
import resource
import statistics
import tempfile
from pathlib import Path

from manifest import CHANGES, Commit
from sensor_tick import add_partitions, commit_ticks, timed

BATCHES_OF = 10_000
FILE = """\
project: million
repository: million
annotations: defects
classes: ["class 0", "class 1", "class 2", "class 3", "class 4", "class 5", "class 6", "class 7", "class 8", "class 9"]
recipe:
  input: {height: 32, width: 32, channels: 3}
"""


def write_objects(root: Path, batch: str, samples: int) -> None:
    """Empty files where a batch's images would be."""
    folder = root / batch / "images"
    folder.mkdir(parents=True)
    for number in range(samples):
        (folder / f"{number:07}.png").touch()


def run(root: Path, samples: int) -> None:
    os.environ.update(VISIONOPS_HOME=str(root / "home"), VISIONOPS_PROJECTS=str(root / "projects"))
    (root / "projects").mkdir()
    (root / "projects" / "million.yaml").write_text(FILE)
    source, annotations = root / "source", Commit()
    for number in range(max(1, samples // BATCHES_OF)):
        write_objects(source, f"b{number:04}", min(samples, BATCHES_OF))
        annotations.put(f"b{number:04}", min(samples, BATCHES_OF), number)

    import dagster as dg

    from lakefs_local import discovery

    with (
        discovery.serving(root / "home" / "lakefs", import_from=[source]),
        dg.instance_for_test() as instance,
    ):
        import definitions
        from visionops import services
        from visionops_assets.dataset.versions.dataset_version import manifest_at
        from visionops_assets.dataset.versions.manifest import manifest_frame, read_manifest
        from visionops_assets.dataset.versions.manifest_diff import diff_manifests
        from visionops_assets.images.phash import PhashIndex, phash_values

        lakefs, store, project = services.lakefs(), services.artifacts(), definitions.projects[0]
        tick = commit_ticks(definitions.defs, instance, project.project)
        lakefs.create_repository("million")
        steps: list[tuple[str, float]] = []
        took, _ = timed(
            lambda: lakefs.import_folder("million", "main", f"local://{source}/", "batches/", "a million", {})
        )
        steps.append(("import of all", took))
        for path, content in annotations.contents.items():
            lakefs.write("million", "main", path, content)
        lakefs.save("million", "main", "annotations")
        first_tick = tick(None)
        add_partitions(instance, first_tick)
        took, first = timed(lambda: manifest_at(lakefs, store, project, "main"))
        steps.append(("first manifest", took))

        added = Commit()
        added.put("new", CHANGES, 10**6)
        images = (
            (f"batches/new/images/{n:07}.png", lambda n=n: n.to_bytes(8, "big")) for n in range(CHANGES)
        )
        lakefs.create_branch("million", "ingest-new")
        lakefs.write_many("million", "ingest-new", images)
        for path, content in added.contents.items():
            lakefs.write("million", "ingest-new", path, content)
        steps.append(
            (
                f"commit of {CHANGES:,} changes",
                timed(lambda: lakefs.save("million", "ingest-new", "a week"))[0],
            )
        )
        steps.append(("merge", timed(lambda: lakefs.merge("million", "ingest-new", "main", "publish"))[0]))
        took, asked = timed(lambda: tick(first_tick.cursor))
        if not asked.run_requests:
            raise SystemExit(f"the sensor did not see the commit: {asked.skip_message}")
        steps.append(("sensor tick, new commit", took))
        add_partitions(instance, asked)
        steps.append(("sensor tick, nothing new", timed(lambda: tick(asked.cursor))[0]))
        took, second = timed(lambda: manifest_at(lakefs, store, project, "main"))
        steps.append((f"manifest of {CHANGES:,} changes", took))
        took, diff = timed(lambda: diff_manifests(first, second, store))
        assert len(diff.added) == CHANGES
        steps.append(("diff of the two manifests", took))
        phashes = phash_values(list(manifest_frame(read_manifest(second, store))["phash"]))
        took, index = timed(lambda: PhashIndex(phashes))
        steps.append(("near duplicates: index", took))
        took, _ = timed(lambda: sum(len(part.query) for part in index.near(phashes[-CHANGES:])))
        steps.append((f"near duplicates of {CHANGES:,}", took))
        head = statistics.median(timed(lambda: lakefs.head("million"))[0] for _ in range(10))
        print(f"{samples:,} samples\n| step | seconds | of one request for the head |\n| --- | ---: | ---: |")
        for name, seconds in steps:
            print(f"| {name} | {seconds:.3f} | {seconds / head:,.0f} |")
        print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_000_000)
    with tempfile.TemporaryDirectory() as root:
        run(Path(root), parser.parse_args().samples)


if __name__ == "__main__":
    main()
