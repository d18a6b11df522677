"""What people have, through the first command: the same comes out as through the reader."""

from collections.abc import Callable
from pathlib import Path

import pytest
from desk import Desk

from tests.dataset import (
    test_people_coco,
    test_people_folders,
    test_people_tables,
    test_people_tools,
    test_people_yolo,
)
from tests.dataset.as_people_have_it import Comes, Files, rounded, truth_of
from visionops_assets.config.project import load_project
from visionops_assets.dataset.versions.annotations import read_annotations

MODULES = (test_people_coco, test_people_folders, test_people_tables, test_people_tools, test_people_yolo)
CASES: list[Callable[[Files], Comes]] = [case for module in MODULES for case in module.CASES]


@pytest.mark.stated
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.__module__.rpartition('.')[2]}-{case.__name__}"
)
def test_init_stores_what_the_reader_gives(desk: Desk, tmp_path: Path, case: Callable[[Files], Comes]):
    files = Files(tmp_path / "data")
    files.root.mkdir()
    comes = case(files)
    wrong = comes.refused or any(severity == "ERROR" for severity, _ in comes.told)
    labels = {one for one in comes.truth.values() if isinstance(one, str)}
    # A classifier tells at least two classes apart.
    wrong = wrong or len(labels) == 1
    arguments = ("init", "people", "--from", str(files.root), "--yes", "--no-run")
    if wrong:
        with pytest.raises(ValueError):
            desk.run(*arguments)
        return
    told = desk.run(*arguments)
    assert len(told.splitlines()) <= 40 and "annotations " in told
    project = load_project(desk.world.root / "projects" / "people.yaml")
    path = "batches/batch-01/annotations/people.parquet"
    rows = read_annotations(desk.world.lakefs.read(project.repository, "main", path), path).to_pylist()
    found = {row["path"].removeprefix("batches/batch-01/images/"): truth_of(row) for row in rows}
    assert found == {
        name: one if isinstance(one, str) else [rounded(box) for box in one]
        for name, one in comes.truth.items()
    }
