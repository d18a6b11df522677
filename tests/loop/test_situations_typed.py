"""What happened to people, brought about and typed out: every command is a process of its own, with its exit code."""

import datetime
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from homes import Home

from lakefs_local import discovery
from resources import clocks
from resources.lakefs.client import LakeFSResource
from resources.models.records import ONNX_ARTIFACT
from tests.monitoring.hook import hook
from tests.operations_table import require_told
from tests.world import shapes_project, write_batch
from visionops_assets.training import recording

pytestmark = pytest.mark.slow

MINUTE, DAY = datetime.timedelta(minutes=1), datetime.timedelta(days=1)


@dataclass(frozen=True)
class Clock:
    """Has a process take another time for now."""

    ahead: datetime.timedelta

    def __call__(self) -> None:
        now = clocks.now
        clocks.now = lambda: now() + self.ahead


@dataclass(frozen=True)
class Broken:
    """Has a training fail, as by a recipe that cannot be learnt."""

    why: str

    def __call__(self) -> None:
        def failing(*_: object) -> None:
            raise ValueError(self.why)

        vars(recording)["load_samples"] = failing


@pytest.fixture
def home(tmp_path: Path, promoted_template: Path) -> Iterator[Home]:
    """A home whose first version is champion."""
    shutil.copytree(promoted_template, tmp_path / "home", symlinks=True)
    (tmp_path / "projects").mkdir()
    made = Home(tmp_path)
    declare(made)
    yield made
    discovery.stop(made.folder / "lakefs")


def declare(home: Home, **changes: object) -> None:
    declared = shapes_project(**changes).model_dump(mode="json", exclude_none=True)
    (home.root / "projects" / "shapes.yaml").write_text(yaml.safe_dump(declared))


def typed(home: Home, line: str, code: int = 0, before: Callable[[], None] | None = None) -> str:
    """What a command prints; it must end with the code."""
    ended = home.visionops(*line.replace("TEXT", "because").split(), before=before)
    assert ended.code == code, f"{line}: {ended.said}"
    return ended.said


def wrong(home: Home) -> list[str]:
    said = typed(home, "status shapes --json")
    # What is told beside it comes first.
    found: list[str] = json.loads(said[said.index("{\n") :])["wrong"]
    return found


def advised(said: str) -> list[str]:
    """The commands that are printed, without the name of the program."""
    return [words.removeprefix("visionops ") for words in re.findall(r"`(visionops [^`]+)`", said)]


def lakefs_of(home: Home) -> LakeFSResource:
    server = discovery.ensure_running(home.folder / "lakefs")
    return LakeFSResource(
        endpoint=server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )


@contextmanager
def champion_without_file(home: Home) -> Iterator[None]:
    """The champion's file is somewhere else for a while."""
    run = home.registry().models.version("shapes", 1).run_id
    (path,) = [found for found in home.folder.rglob(Path(ONNX_ARTIFACT).name) if run in found.parts]
    away = home.root / "away"
    path.rename(away)
    yield
    away.rename(path)


@pytest.mark.stated
def test_a_day_that_failed_is_an_error_until_it_is_logged(home: Home) -> None:
    declare(home, drift={"min_rows": 30})
    images = write_batch(home.root / "seen", 40, seed=9)
    typed(home, f"predict shapes {images} --log --device camera-1")
    with hook() as told, champion_without_file(home):
        home.environment["VISIONOPS_ERROR_WEBHOOK"] = told.url("errors")
        for number in (1, 2, 3):
            said = typed(home, "tick", code=1)
            assert "shapes: error: " in said and ONNX_ARTIFACT in said and "logged" not in said
            assert len(told.texts("errors")) == number
            (owed,) = [each for each in wrong(home) if "production day" in each]
            assert ONNX_ARTIFACT not in owed and "with an error" in owed
        # It is not tried anew at once, and not forgotten.
        waits = typed(home, "tick", code=1)
        assert "failed 3 times with an error" in " ".join([waits, *wrong(home)])
        assert len(told.texts("errors")) == 3
    del home.environment["VISIONOPS_ERROR_WEBHOOK"]
    (again,) = advised(owed)
    assert "40 rows" in typed(home, again)
    assert wrong(home) == [] and "error" not in typed(home, "tick")


@pytest.mark.stated
def test_a_version_that_was_given_up_is_named_and_tried_again_when_it_is_said(home: Home) -> None:
    declare(home, trigger={"attempts": 1})
    batch = write_batch(home.root / "week", 90, seed=2)
    typed(home, f"import shapes {batch} --batch week-02")
    assert "error: " in typed(home, "tick", code=1, before=Broken("there is nothing to learn"))
    # Mended, and not tried by itself: as often as it may, it was.
    assert "there is nothing to learn" not in typed(home, "tick", code=1)
    (told,) = wrong(home)
    assert "failed once with an error" in told
    (again,) = advised(told)
    said = typed(home, again)
    assert any(f"shapes: {outcome}" in said for outcome in ("promoted", "refused", "INSUFFICIENT"))
    assert wrong(home) == []


def test_a_clock_that_is_behind_that_of_lakefs_is_named_and_waits_no_longer(home: Home) -> None:
    """lakeFS has the right time, and this machine is 90 seconds late."""
    declare(home, trigger={"quiet_for": 600})
    server = discovery.ensure_running(home.folder / "lakefs")
    home.environment |= {
        "LAKEFS_ENDPOINT": server.endpoint,
        "LAKEFS_ACCESS_KEY_ID": server.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": server.secret_access_key,
    }
    batch = write_batch(home.root / "week", 90, seed=2)
    typed(home, f"import shapes {batch} --batch week-02")
    late = Clock(datetime.timedelta(seconds=-90))
    said = typed(home, "tick", before=late)
    require_told("a server's clock and this machine's", said)
    # By the clock that dated it.
    assert re.search(r" is \d+ s old; waiting for 600 s of quiet", said)
    assert "timedatectl" in home.visionops("doctor", before=late).said


def test_a_commit_that_is_dated_tomorrow_waits_as_long_as_any_other(home: Home) -> None:
    from lakefs_sdk import CommitCreation

    declare(home, trigger={"quiet_for": 600})
    lakefs = lakefs_of(home)
    (any_image, *_) = [
        each.path for each in lakefs.objects("shapes", "main", "batches/") if each.path.endswith(".png")
    ]
    lakefs.write("shapes", "main", any_image, lakefs.read("shapes", "main", any_image) + b"\n")
    tomorrow = datetime.datetime.now(datetime.UTC) + DAY
    creation = CommitCreation(message="by a tool with a wrong clock", date=int(tomorrow.timestamp()))
    lakefs._connection.call(lambda client: client.commits_api.commit("shapes", "main", creation))
    assert re.search(r" is \d+ s old; waiting for 600 s", typed(home, "tick"))
    assert "is dated in 24 h" in home.visionops("doctor").said
    assert "waiting for 600 s" in typed(home, "tick", before=Clock(5 * MINUTE))
    # An image that is not the one that was audited: what comes of it is no matter here.
    ended = home.visionops("tick", before=Clock(11 * MINUTE))
    assert "waiting for" not in ended.said


@pytest.mark.stated
def test_a_champion_that_is_gone_keeps_no_batch_out_and_is_made_again(home: Home) -> None:
    with champion_without_file(home):
        (told,) = wrong(home)
        require_told("files of the champion, the repository", f"wrong: {told}")
        batch = write_batch(home.root / "week", 60, seed=2)
        said = typed(home, f"import shapes {batch} --batch week-02")
        assert "60 images" in said and "WARN labels plausible" in said
        image = next(batch.glob("*.png"))
        assert "version 1" in typed(home, f"predict shapes {image}", code=1)
        again = next(each for each in advised(told) if each.startswith("reproduce"))
        typed(home, again)
        assert wrong(home) == [] and "prediction" in typed(home, f"predict shapes {image} --json")


def test_lakefs_that_is_gone_with_all_it_had_is_named_and_begun_anew(home: Home) -> None:
    discovery.stop(home.folder / "lakefs")
    shutil.rmtree(home.folder / "lakefs")
    (told,) = wrong(home)
    require_told("a repository of lakeFS was deleted", f"wrong: {told}")
    assert told in typed(home, "tick", code=1)
    image = next(write_batch(home.root / "seen", 1, seed=9).glob("*.png"))
    assert "prediction" in typed(home, f"predict shapes {image} --json")
    batch = write_batch(home.root / "week", 150, seed=1)
    (again,) = advised(told)
    typed(home, again.replace("SOURCE", str(batch)).replace("NAME", "week-01"))
    assert "shapes: " in home.visionops("tick").said
    assert not any("has no repository" in each for each in wrong(home))
