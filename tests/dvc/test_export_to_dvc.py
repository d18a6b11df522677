"""A dataset version as a DVC repository: it trains there to the same bits, and comes back with every annotation."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from repositories import DVCRepository

from tests.commands.desk import Desk
from tests.world import World, copied_world
from visionops.dvc import exported_folder
from visionops.dvc.source_address import DVCError
from visionops.dvc_train import train_folder
from visionops_assets.dataset.versions.annotations import read_annotations, write_annotations
from visionops_assets.dataset.versions.layout import annotations_path


def rows(world: World, batch: str) -> Any:
    """The annotations of a batch on main."""
    file = annotations_path(batch, "shapes")
    return read_annotations(world.lakefs.read("shapes", "main", file), file)


def tool(folder: Path, *arguments: str) -> str:
    """What `dvc` says, run in the folder as a person does."""
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(
        [programs / "dvc", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_exported_version_trains_in_dvc_to_the_same_weights(
    promoted: World,
    desk_in: Callable[[World], Desk],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: Callable[[int, int], int],
):
    desk, folder = desk_in(promoted), tmp_path / "exported"
    told = desk.json("export", "dvc", "shapes", promoted.partitions()[-1], "--to", str(folder))

    exported = DVCRepository(folder)
    assert told["images"] == 150
    assert told["git_commit"] == exported.git("rev-parse", "HEAD")
    assert exported.git("status", "--porcelain") == ""
    known = json.loads((folder / "metrics.json").read_text())
    assert known["holdout_accuracy"] > 0.4

    # DVC's own commands, in this process, work where they are given.
    monkeypatch.chdir(folder)
    with Repo() as repository:
        assert [stage.addressing for stage in repository.reproduce(dry=True)] == ["train"]
    if count(0, 1):
        assert "Running stage 'train'" in tool(folder, "repro")
    else:
        train_folder(folder)
        with Repo() as repository:
            repository.commit(force=True)
    version = promoted.registry.models.version("shapes", 1)
    weights = (folder / "model" / "weights.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == version.weights_sha256
    assert json.loads((folder / "metrics.json").read_text()) == pytest.approx(known)
    with Repo() as repository:
        assert repository.status() == {}, "the lock file holds what was trained"

    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    parameters["recipe"]["epochs"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    with Repo() as repository:
        assert repository.status() == {"train": [{"changed deps": {"params.yaml": {"recipe": "modified"}}}]}
        changed = repository.params.diff()["diff"]["params.yaml"]["recipe.epochs"]
        assert (changed["old"], changed["new"]) == (6, 1)
    if count(0, 1):
        tool(folder, "repro")
        differences = json.loads(tool(folder, "metrics", "diff", "--json"))["metrics.json"]
        assert differences["train_loss"]["new"] > differences["train_loss"]["old"]


def test_every_image_and_annotation_comes_back(
    desk: Desk, empty_template: Path, tmp_path: Path, desk_in: Callable[[World], Desk]
):
    world, folder = desk.world, tmp_path / "exported"
    world.publish("week-01", 24, seed=1)
    world.publish("week-02", 12, seed=2)
    file = annotations_path("week-02", "shapes")
    table = rows(world, "week-02").to_pandas()
    table["group"] = [f"part-{number // 2}" for number in range(len(table))]
    table["source"], table["line"] = "camera-3", list(range(len(table)))
    table["split"] = ["train", "train", "val", "val"] * 3
    world.lakefs.write("shapes", "main", file, write_annotations(table, file))
    world.lakefs.save("shapes", "main", "Relabel week-02")
    desk.run("export", "dvc", "shapes", "main", "--to", str(folder))

    with copied_world(empty_template, tmp_path / "other") as other:
        there = desk_in(other)
        for batch in ("week-01", "week-02"):
            there.run("import", "shapes", f"dvc://{folder}/batches/{batch}@main", "--batch", batch)
            assert rows(other, batch).equals(rows(world, batch))
            paths = rows(world, batch)["path"].to_pylist()
            for (_, before), (_, after) in zip(
                world.lakefs.read_many("shapes", "main", paths),
                other.lakefs.read_many("shapes", "main", paths),
                strict=True,
            ):
                assert before == after
        assert other.lakefs.head("shapes").metadata["visionops.dvc.path"] == "batches/week-02"


def test_an_earlier_export_is_updated_and_anything_else_refused(desk: Desk, tmp_path: Path):
    world, folder = desk.world, tmp_path / "exported"
    world.publish("week-01", 24, seed=1)
    desk.run("export", "dvc", "shapes", "main", "--to", str(folder))
    exported = DVCRepository(folder)
    first = exported.git("rev-parse", "HEAD")
    again = desk.json("export", "dvc", "shapes", "main", "--to", str(folder))
    assert again["git_commit"] == first, "the same version is no new commit"

    stages = yaml.safe_load((folder / "dvc.yaml").read_text())
    stages["stages"]["mine"] = {"cmd": "true"}
    (folder / "dvc.yaml").write_text(yaml.safe_dump(stages))
    world.publish("week-02", 12, seed=2)
    with pytest.raises(DVCError, match=r"dvc\.yaml has changes: commit or discard them"):
        desk.run("export", "dvc", "shapes", "main", "--to", str(folder))
    exported.commit("A stage of my own")
    added = folder / "batches" / "week-01" / "images" / "new.png"
    added.write_bytes(b"mine")
    with pytest.raises(DVCError, match="batches has changes that DVC does not track"):
        desk.run("export", "dvc", "shapes", "main", "--to", str(folder))
    added.unlink()

    second = desk.json("export", "dvc", "shapes", "main", "--to", str(folder))
    assert exported.git("rev-list", "--count", "HEAD") == "3"
    assert second["images"] == len(list((folder / "batches").rglob("*.png"))) == 36
    assert yaml.safe_load((folder / "dvc.yaml").read_text()) == stages, "stages of one's own stay"

    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(DVCError, match="is there already and no export of VisionOps"):
        desk.run("export", "dvc", "shapes", "main", "--to", str(other))
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


def test_dvc_gives_no_advice_on_what_the_export_does():
    # In a process that has not imported it yet: its import sets its level.
    code = (
        "import logging; from visionops.dvc.exported_folder import _quieten_dvc; _quieten_dvc(); import dvc.repo;"
        "print(logging.getLogger('dvc.repo').isEnabledFor(logging.INFO))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def test_an_export_that_breaks_off_leaves_nothing_half_written(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    world, folder = desk.world, tmp_path / "exported"
    world.publish("week-01", 24, seed=1)
    original, written = exported_folder._put, list[Path]()

    def breaking(path: Path, data: bytes) -> None:
        written.append(path)
        if len(written) == 20:
            raise OSError(28, "No space left on device")
        original(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(exported_folder, "_put", breaking)
        with pytest.raises(OSError, match="No space left"):
            desk.run("export", "dvc", "shapes", "main", "--to", str(folder))
    assert [path.name for path in tmp_path.iterdir() if "exported" in path.name] == []

    desk.run("export", "dvc", "shapes", "main", "--to", str(folder))
    exported = DVCRepository(folder)
    world.publish("week-02", 12, seed=2)
    with monkeypatch.context() as patch:
        patch.setattr(exported_folder, "_track", lambda folder, version: os._exit(1))
        assert os.fork() or _run_and_die(desk, folder)
        os.wait()
    assert exported.git("rev-list", "--count", "HEAD") == "1"
    desk.run("export", "dvc", "shapes", "main", "--to", str(folder))
    assert exported.git("status", "--porcelain") == ""
    assert len(list((folder / "batches").rglob("*.png"))) == 36


def _run_and_die(desk: Desk, folder: Path) -> bool:
    try:
        desk.run("export", "dvc", "shapes", "main", "--to", str(folder))
    finally:
        os._exit(0)
