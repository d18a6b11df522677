"""What a disk or a person did to the files of a home: one line that names the file and what leads back, or it works."""

import ctypes
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from desk import LENIENT

from lakefs_local import discovery
from resources.storage import ArtifactDamaged, ArtifactStore
from tests import processes
from tests.operations_table import require_told
from tests.world import shapes_project, write_batch
from visionops import services
from visionops_assets.evaluation.verdict_store import read_address

_MAY_WRITE_ANYWHERE = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


def as_anybody() -> None:
    """Where this is root, obey the modes of files as everybody else does, in children too."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        assert libc.prctl(24, capability, 0, 0, 0) == 0
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(head, sets) == 0
    for kind in range(3):
        sets[kind] &= ~_MAY_WRITE_ANYWHERE
    assert libc.capset(head, sets) == 0, os.strerror(ctypes.get_errno())


class Machine:
    """A home with a champion on which only commands work, each a process."""

    def __init__(self, root: Path, template: Path) -> None:
        self.root, self.home = root, root / "home"
        shutil.copytree(template, self.home)
        self.home.chmod(0o755)
        projects = root / "projects"
        projects.mkdir()
        declared = shapes_project(gate=LENIENT).model_dump(mode="json", exclude_none=True)
        (projects / "shapes.yaml").write_text(yaml.safe_dump(declared))
        self.environment = {
            **os.environ,
            "VISIONOPS_HOME": str(self.home),
            "DAGSTER_HOME": str(self.home / "instance"),
            "VISIONOPS_PROJECTS": str(projects),
            "VISIONOPS_ACTOR": "ada@example.com",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        }
        for name in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_ARTIFACTS", "HOME"):
            self.environment.pop(name, None)
        self.image = str(next(write_batch(root / "images", 1, seed=3).glob("*.png")))

    def run(self, *arguments: str, before: Callable[[], None] | None = as_anybody) -> processes.Ended:
        """What a command says, of which none may be a traceback."""
        ended = processes.visionops(
            *arguments, environment=self.environment, said=self.root / "said", before=before
        )
        assert "Traceback" not in ended.said, ended.said
        return ended

    def rows(self) -> dict[str, tuple[str, str, str]]:
        """State, what was found and fix of each row of the doctor."""
        said = self.run("doctor", "--json").said
        found = json.loads(said[said.index("[\n") :])
        return {row["subject"]: (row["state"], row["what"], row["fix"]) for row in found}


@pytest.fixture
def machine(tmp_path: Path, promoted_template: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, promoted_template)
    yield made
    for path in (made.home, *made.home.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    discovery.stop(made.home / "lakefs")


def only_readable(machine: Machine) -> None:
    machine.run("home", "show")
    for path in (*machine.home.rglob("*"), machine.home):
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.slow
def test_a_home_that_can_only_be_read_answers_and_refuses_every_change(machine: Machine) -> None:
    only_readable(machine)
    before = sorted(path for path in machine.home.rglob("*"))
    answered = machine.run("predict", "shapes", machine.image)
    assert answered.code == 0 and len(answered.said.splitlines()) <= 3, answered.said
    assert "version 1 of shapes" in answered.said
    told = machine.run("status", "shapes")
    assert told.code == 0 and "version 1 in production" in told.said
    assert "wrong: the embedded lakeFS does not start" in told.said
    for refused in (
        ("hold", "shapes", "--why", "x"),
        ("rollback", "shapes", "--why", "x"),
        ("predict", "shapes", machine.image, "--log"),
        ("import", "shapes", machine.root.joinpath("images").as_posix(), "--batch", "b"),
        ("tick",),
    ):
        ended = machine.run(*refused)
        assert ended.code == 1, ended
        (line,) = [line for line in ended.said.splitlines() if line.startswith("error: ")]
        assert "cannot be used: `chmod -R u+rwX" in line and "VISIONOPS_HOME" in line
    assert sorted(path for path in machine.home.rglob("*")) == before
    command = line.split("`")[1]
    assert command.startswith("chmod -R u+rwX")
    subprocess.run(command, shell=True, check=True)
    assert machine.run("hold", "shapes", "--why", "x").code == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_home_of_another_user_names_both_and_the_command(machine: Machine) -> None:
    machine.run("home", "show")
    for path in (machine.home, *machine.home.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    assert machine.run("predict", "shapes", machine.image).code == 0
    ended = machine.run("tick")
    assert ended.code == 1 and f"chown -R root {machine.home}" in ended.said
    require_told("the home belongs to another user", ended.said)
    mode = machine.home.stat().st_mode
    machine.home.chmod(0o700)
    refused = machine.run("status", "shapes")
    assert refused.code == 1 and "belongs to" in refused.said and len(refused.said.splitlines()) == 1
    machine.home.chmod(mode)
    subprocess.run(["chown", "-R", "root", machine.home], check=True)
    assert machine.run("tick").code == 0


def garbage(file: Path) -> None:
    for beside in file.parent.glob(f"{file.name}-*"):
        beside.unlink()
    file.write_bytes(b"no database " * 2000)


def cut_short(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "row", "damage"),
    [
        pytest.param("lakefs/metadata.db", "lakeFS's", garbage, marks=pytest.mark.stated),
        pytest.param("mlflow/mlflow.db", "MLflow's", cut_short, marks=pytest.mark.stated),
        ("instance/history/runs.db", "Dagster's", garbage),
    ],
)
def test_a_damaged_database_is_named_by_every_verb(
    machine: Machine, file: str, row: str, damage: Callable[[Path], None]
) -> None:
    found = next(machine.home.glob(file), None) or next(machine.home.rglob(Path(file).name))
    backup = machine.root / "backup.db"
    with closing(sqlite3.connect(found)) as source, closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    damage(found)
    for verb in (("tick",), ("status", "shapes")):
        ended = machine.run(*verb)
        assert f"{found} is damaged" in ended.said, (verb, ended)
        require_told("a database of Dagster, MLflow or lakeFS is damaged", ended.said)
        assert "restore it from a backup" in ended.said
        assert ended.code == 1 or verb[0] == "status"
    state, what, fix = machine.rows()[f"{row} database files"]
    assert (state, str(found) in what) == ("broken", True)
    assert fix.startswith("restore it from a backup")
    for beside in found.parent.glob(f"{found.name}*"):
        beside.unlink()
    shutil.copy(backup, found)
    assert machine.run("tick").code == 0


@pytest.mark.parametrize("content", ["[1, 2", "[]", '"x"', '{"verdict": 3}', ""])
def test_what_is_no_address_of_a_verdict_is_named(tmp_path: Path, content: str) -> None:
    artifacts = ArtifactStore(root=str(tmp_path))
    artifacts.write("decisions/shapes/p.json", content.encode())
    with pytest.raises(ArtifactDamaged, match=r"decisions/shapes/p\.json is damaged .* delete it"):
        read_address(artifacts, "decision", "shapes", "p")


@pytest.mark.slow
def test_a_damaged_address_stops_a_tick_with_its_name_only(machine: Machine) -> None:
    (file,) = (machine.home / "artifacts" / "decisions" / "shapes").glob("*.json")
    file.write_text("[1, 2")
    ended = machine.run("tick")
    assert ended.code == 1
    require_told("a file of the artifact store is damaged", ended.said)
    assert f"shapes: error: {file} is damaged" in ended.said and "delete it" in ended.said
    file.unlink()
    assert machine.run("tick").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [("format.json", '"x"'), pytest.param("credentials.json", "[]", marks=pytest.mark.stated)],
)
def test_a_damaged_file_of_lakefs_is_named(machine: Machine, name: str, content: str) -> None:
    file = machine.home / "lakefs" / name
    file.write_text(content)
    ended = machine.run("tick")
    assert ended.code == 1 and "the embedded lakeFS does not start" in ended.said
    assert name in ended.said or "has format" in ended.said
    assert machine.rows()["lakeFS"][0] == "broken"


@pytest.mark.parametrize(
    "content", [b": : {[", b"nonsense", b"[1, 2]", b"storage: {postgres: 3}", b"\xff\xfe\x00"]
)
def test_each_kind_of_no_configuration_of_dagster_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    file = tmp_path / "dagster.yaml"
    file.write_bytes(content)
    with pytest.raises(services.ConfigurationUnusable) as raised, services.dagster():
        pass
    assert f"{file} cannot be used (" in str(raised.value) and "\n" not in str(raised.value)
    assert raised.value.fix.startswith(f"correct {file}, or delete it")


@pytest.mark.slow
def test_a_configuration_of_dagster_that_is_none_is_named(machine: Machine) -> None:
    file = machine.home / "instance" / "dagster.yaml"
    file.unlink(missing_ok=True)
    file.write_bytes(b"\xff\xfe\x00")
    ended = machine.run("tick")
    (line,) = ended.said.splitlines()
    require_told("`dagster.yaml` of DAGSTER_HOME is no configuration", line)
    assert ended.code == 1 and f"{file} cannot be used (" in line and f"correct {file}, or delete it" in line
    told = machine.run("status", "shapes")
    assert f"wrong: what runs failed is not known: {file} cannot be used" in told.said
    state, what, fix = machine.rows()["Dagster"]
    assert state == "broken" and f"{file} cannot be used" in what and str(file) in fix
    file.unlink()
    assert machine.run("tick").code == 0
