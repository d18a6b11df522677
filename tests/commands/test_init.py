"""The first day: from a folder of images to a project and its first verdict."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from desk import Desk
from PIL import Image
from typer.testing import CliRunner

from resources.drop_places import DropRefused
from tests.world import write_batch
from visionops.cli.init import ProjectExists
from visionops_assets.config.project import load_project
from visionops_assets.dataset.batch_publishing import BatchRefused
from visionops_assets.dataset.importing.image_source import SourceError


def project_path(desk: Desk, name: str = "forms") -> Path:
    return desk.world.root / "projects" / f"{name}.yaml"


def folder_per_class(root: Path, images: int = 60) -> Path:
    """A folder for each class, as people have them."""
    flat = write_batch(root / "flat", images, seed=3)
    for line in (flat / "labels.csv").read_text().splitlines()[1:]:
        name, label = line.split(",")
        (root / "mine" / label).mkdir(parents=True, exist_ok=True)
        shutil.move(flat / name, root / "mine" / label / name)
    return root / "mine"


def test_a_folder_becomes_a_project_and_its_first_verdict(desk: Desk, tmp_path: Path):
    source = folder_per_class(tmp_path)

    told = desk.run(
        *("init", "forms", "--from", str(source), "--owner", "ada@example.com", "--licence", "CC0-1.0"),
        *("--floor", "0.4", "--approval", "manual"),
    )

    project = load_project(project_path(desk))
    assert project.classes == ("bar", "cross", "ring")
    assert (project.owners, project.licence, project.gate.approval) == (
        ("ada@example.com",),
        "CC0-1.0",
        "manual",
    )
    assert project.gate.floors.overall == 0.4
    size = project.recipe.input
    assert (size.height, size.width, size.channels) == (8, 8, 1)
    assert "# " in project_path(desk).read_text()
    assert "60 labelled images (folders), classification, about 8×8, grey" in told
    assert "batch-01: 60 images published" in told
    waits = "forms: awaiting approval: PASS" in told
    assert waits or "forms: INSUFFICIENT" in told or "forms: refused" in told
    assert ("`visionops approve forms` puts it in production" in told) == waits
    assert "/drop/forms/NAME, and an empty file _SUCCESS there" in told
    assert not [line for line in told.splitlines() if line != line.rstrip()]
    assert desk.world.lakefs.head("forms").metadata["visionops.batch"] == "batch-01"


def test_a_project_file_is_never_overwritten(desk: Desk, tmp_path: Path):
    source = folder_per_class(tmp_path)
    before = project_path(desk, "shapes").read_text()
    with pytest.raises(ProjectExists, match="is never overwritten"):
        desk.run("init", "shapes", "--from", str(source), "--yes")
    assert project_path(desk, "shapes").read_text() == before


def test_without_a_terminal_it_names_the_flags_it_needs(desk: Desk, tmp_path: Path):
    source = folder_per_class(tmp_path)
    with pytest.raises(ValueError, match="give --owner, --floor, --approval, or --yes"):
        desk.run("init", "forms", "--from", str(source), "--licence", "CC0-1.0")
    assert not project_path(desk).exists()


def test_at_a_terminal_it_asks_what_it_cannot_know(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from visionops.cli.command_line import app

    source = folder_per_class(tmp_path)
    monkeypatch.setattr("visionops.cli.init._at_a_terminal", lambda: True)
    told = CliRunner().invoke(
        app,
        ["init", "forms", "--from", str(source), "--floor", "0.6", "--no-run"],
        input="ada@example.com\n\nmanual\n",
        catch_exceptions=False,
    )
    assert told.exit_code == 0, told.output
    project = load_project(project_path(desk))
    assert (project.owners, project.licence, project.gate.approval, project.gate.floors.overall) == (
        ("ada@example.com",),
        "proprietary",
        "manual",
        0.6,
    )


def test_odd_class_names_and_wrong_answers_make_no_broken_file(desk: Desk, tmp_path: Path):
    source = tmp_path / "odd"
    for number, label in enumerate(("yes", "no: maybe", "été {0}", "# 3")):
        (source / label).mkdir(parents=True)
        for copy in range(3):
            pixels = np.random.default_rng(10 * number + copy).integers(0, 255, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(source / label / f"{copy}.png")
    with pytest.raises(ValueError, match="owners"):
        desk.run("init", "odd", "--from", str(source), "--owner", "nobody at all", "--yes", "--no-run")
    assert not project_path(desk, "odd").exists()
    told = desk.run("init", "odd", "--from", str(source), "--licence", "CC0-1.0", "--yes", "--no-run")
    (supposed,) = [line for line in told.splitlines() if line.startswith("by default, and in that file: ")]
    assert "--owner team:vision" in supposed and "--licence" not in supposed
    assert supposed.endswith("--approval auto; what passes goes to production by itself")
    assert set(load_project(project_path(desk, "odd")).classes) == {"yes", "no: maybe", "été {0}", "# 3"}
    assert yaml.safe_load(project_path(desk, "odd").read_text())["recipe"]["input"] == {
        "height": 9,
        "width": 12,
        "channels": 3,
    }


def test_one_class_or_no_readable_image_is_refused_before_anything_is_written(desk: Desk, tmp_path: Path):
    (tmp_path / "one" / "cat").mkdir(parents=True)
    (tmp_path / "one" / "cat" / "a.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match="at least two classes apart"):
        desk.run("init", "forms", "--from", str(tmp_path / "one"), "--yes")
    (tmp_path / "one" / "dog").mkdir()
    (tmp_path / "one" / "dog" / "b.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match="not one image can be read"):
        desk.run("init", "forms", "--from", str(tmp_path / "one"), "--yes")
    assert not project_path(desk).exists()


def test_a_refused_first_batch_leaves_the_project_and_says_how_to_go_on(desk: Desk, tmp_path: Path):
    source = folder_per_class(tmp_path)
    (source / "bar" / "broken.png").write_bytes(b"no image")
    with pytest.raises(
        BatchRefused, match=r"(?s)broken\.png.*The project file stays.*visionops import forms"
    ):
        desk.run("init", "forms", "--from", str(source), "--yes")
    assert project_path(desk).exists()
    (source / "bar" / "broken.png").unlink()
    assert "60 images published" in desk.run("import", "forms", str(source), "--batch", "batch-01")


def test_an_s3_address_needs_a_folder_and_a_bucket_that_is_there(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="name a folder in the bucket"):
        desk.run("init", "forms", "--from", "s3://bucket", "--yes")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "none")
    with pytest.raises(DropRefused, match="no credentials"):
        desk.run("init", "forms", "--from", "s3://bucket/folder", "--yes")
