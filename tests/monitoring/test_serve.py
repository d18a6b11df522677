"""The prediction server: every request is answered by one named model, while models come and go."""

import asyncio
import errno
import gc
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logged import png, project, sha256
from production_world import ProductionWorld

from tests.operations_table import require_told
from visionops.serving import prediction_app as serving_app
from visionops.serving import prediction_log
from visionops.serving.prediction_app import PredictionApp
from visionops.serving.prediction_log import BackgroundLog, PredictionLog
from visionops.serving.prediction_server import CannotListen, PredictionServer, in_thread
from visionops.serving.request_handling import Batcher, CurrentModel
from visionops_assets.monitoring.prediction import (
    Answer,
    NothingInProduction,
    Picture,
    RunningModel,
    answer,
    picture,
)
from visionops_assets.promotion.production_change import Attribution
from visionops_assets.promotion.rollback import rollback

CAPTURE_ALL = {"captures": {"share": 1.0}}


@contextmanager
def serving(
    world: ProductionWorld, log: BackgroundLog | None = None, threads: int = 1, **options: Any
) -> Iterator[httpx.Client]:
    """What `visionops serve` runs, in a thread of this process."""
    current = CurrentModel(world.registry, "shapes", "all", threads)
    log = log or BackgroundLog(PredictionLog(world.spool, world.project, "server-1", "all"))
    app = PredictionApp("shapes", "all", current, log, batch=64, look_every=0.05, **options)
    with in_thread(app) as server, httpx.Client(base_url=server.address, timeout=30) as client:
        yield client


def spooled(world: ProductionWorld) -> list[dict[str, Any]]:
    """Every row that the spool has."""
    files = world.spool.read_each("shapes", world.spool.files("shapes"))
    return [row for _, content in files for row in pq.read_table(pa.BufferReader(content)).to_pylist()]


def ask(client: httpx.Client, image: bytes) -> dict[str, Any]:
    found = client.post("/predict", content=image)
    assert found.status_code == 200, found.text
    return dict(found.json())


def test_an_image_is_answered_and_the_answer_names_its_model_and_is_logged(models: ProductionWorld):
    models.projects = [project(**CAPTURE_ALL)]
    version = models.register(1)
    models.put_in_production(version)
    with serving(models) as client:
        told = ask(client, png(1))
        health = client.get("/health").json()
        numbers = client.get("/metrics").text
        broken = client.post("/predict", content=b"no image")
        nothing = client.post("/predict", content=b"")
    assert told["model"] == health["model"]
    assert told["model"]["sha256"] == version.weights_sha256
    assert told["prediction"] in told["probabilities"]
    assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (broken.status_code, nothing.status_code) == (400, 400)
    assert "is not an image" in broken.json()["error"]
    assert 'visionops_serve_requests_total{group="all",project="shapes",status="200"} 1.0' in numbers
    (row,) = spooled(models)
    assert row["image_sha256"] == sha256(png(1))
    assert row["model_sha256"] == version.weights_sha256
    assert row["frame"] == png(1)
    assert row["brightness"] is not None
    assert len(row["embedding"]) == 64


@pytest.mark.parametrize("threads", [0, 1])
def test_an_image_is_answered_the_same_whatever_is_answered_with_it(models: ProductionWorld, threads: int):
    models.put_in_production(models.register(1))
    with serving(models, threads=threads) as client, ThreadPoolExecutor(16) as clients:
        alone = [ask(client, png(seed)) for seed in range(8)]
        together = list(clients.map(lambda number: ask(client, png(number % 8)), range(200)))
    assert together == [alone[number % 8] for number in range(200)]


def test_batches_are_answered_at_once_and_none_is_left_when_it_ends():
    met = threading.Barrier(2)

    def run(items: Sequence[int]) -> list[int]:
        met.wait(60)
        return [-item for item in items]

    async def ask_two() -> list[int]:
        async with Batcher(run, 1, at_once=2) as batcher:
            return list(await asyncio.gather(batcher.ask(1), batcher.ask(2)))

    assert asyncio.run(ask_two()) == [-1, -2]
    assert not [each for each in threading.enumerate() if each.name.startswith("model")]


def test_no_answer_waits_until_all_that_was_loaded_is_looked_through_for_garbage(models: ProductionWorld):
    models.put_in_production(models.register(1))
    loaded = len(gc.get_objects())
    with serving(models) as client:
        ask(client, png(1))
        assert gc.get_freeze_count() > loaded * 0.9
    assert gc.get_freeze_count() == 0


def test_no_two_predictions_of_an_image_have_one_time(models: ProductionWorld):
    models.put_in_production(models.register(1))
    model = CurrentModel(models.registry, "shapes", "all", threads=1).model
    seen = [picture("image", png(1), model.shipped)] * 64
    answers = answer(model, seen)
    log = BackgroundLog(PredictionLog(models.spool, models.project, "server-1", "all"))
    for _ in range(4):
        log.add(seen, answers)
    log.close()
    assert len({row["timestamp"] for row in spooled(models)}) == 4 * 64


def test_a_forms_file_is_answered_as_the_bare_body_is(models: ProductionWorld):
    models.put_in_production(models.register(1))
    with serving(models) as client:
        bare = ask(client, png(1))
        for name in ("file", "image", "whatever"):
            form = client.post(
                "/predict", files={name: ("x.png", png(1), "image/png")}, data={"note": "text"}
            )
            assert (form.status_code, form.json()) == (200, bare)
        nameless = client.post("/predict", files={"file": png(1)})
        assert nameless.json() == bare
        quoted = {"content-type": 'Multipart/Form-Data; boundary="a b"'}
        body = (
            b'--a b\r\ncontent-disposition: form-data; name="f"; filename="x"\r\n\r\n'
            + png(1)
            + b"\r\n--a b--"
        )
        assert client.post("/predict", content=body, headers=quoted).json() == bare


def test_what_is_no_image_is_answered_with_how_one_is_sent(models: ProductionWorld):
    models.put_in_production(models.register(1))
    two = [("file", ("a.png", png(1))), ("file", ("b.png", png(2)))]
    form = {"content-type": "multipart/form-data; boundary=x"}
    with serving(models) as client:
        asked = {
            "empty": client.post("/predict", content=b""),
            "no file": client.post("/predict", files={"file": (None, "x.png")}),
            "2 files": client.post("/predict", files=two),
            "cannot be read": client.post("/predict", content=b"not a form", headers=form),
            "boundary": client.post(
                "/predict", content=b"x", headers={"content-type": "multipart/form-data"}
            ),
            "alters bytes": client.post("/predict", data={"file": "x.png"}),
            "JSON is not taken": client.post("/predict", json={"image": "x.png"}),
            "is not an image": client.post("/predict", files={"file": ("x.pdf", b"%PDF-1.7 and more")}),
        }
        for said, answer in asked.items():
            assert answer.status_code == 400, answer.text
            assert said in answer.json()["error"] and "<" not in answer.json()["error"], answer.text
        large = client.post("/predict", files={"file": bytes((32 << 20) + 1)})
        assert (large.status_code, "32 MB" in large.text) == (413, True)
        for method, path, status in (
            ("GET", "/predict", 405),
            ("GET", "/", 404),
            ("POST", "/predictions", 404),
        ):
            answer = client.request(method, path)
            assert answer.status_code == status
            assert answer.json()["predict"].endswith("/predict")
        assert ask(client, png(1))["prediction"]


def test_a_detector_answers_boxes_in_pixels_of_the_image(models: ProductionWorld):
    models.projects = [project().model_copy(update={"task": "detection"})]
    models.put_in_production(models.register(1))
    with serving(models) as client:
        told = ask(client, png(1))
    (box,) = told["boxes"]
    assert [box[side] for side in ("x", "y", "w", "h")] == [1.0, 2.0, 3.0, 4.0]
    assert (told["prediction"], told["confidence"]) == (box["label"], box["score"])
    (row,) = spooled(models)
    assert row["boxes"][0]["class"] == box["label"]


def test_no_request_fails_and_each_names_its_model_while_a_promotion_and_a_rollback_happen(
    models: ProductionWorld,
):
    first, second = models.register(1), models.register(2)
    models.put_in_production(first)
    known = {each.version: each.weights_sha256 for each in (first, second)}
    image, stop = png(1), threading.Event()
    answers: list[dict[str, Any]] = []
    failures: list[str] = []
    with serving(models) as client:
        expected = {}

        def load() -> None:
            with httpx.Client(base_url=client.base_url, timeout=30) as own:
                while not stop.is_set():
                    try:
                        answers.append(ask(own, image))
                    except (httpx.HTTPError, AssertionError) as error:
                        failures.append(str(error))

        def wait_for(version: int) -> None:
            while (told := ask(client, image))["model"]["version"] != version:
                pass
            expected[version] = told["probabilities"]

        wait_for(first.version)
        asking = [threading.Thread(target=load) for _ in range(4)]
        for thread in asking:
            thread.start()
        models.put_in_production(second)
        wait_for(second.version)
        rollback(
            models.registry,
            project="shapes",
            by=Attribution("test", datetime.now(UTC), "a test"),
            to=first.version,
        )
        wait_for(first.version)
        stop.set()
        for thread in asking:
            thread.join()
    assert not failures
    assert {told["model"]["version"] for told in answers} == set(known)
    for told in answers:
        assert told["model"]["sha256"] == known[told["model"]["version"]]
        assert told["probabilities"] == pytest.approx(expected[told["model"]["version"]], abs=1e-5)
    assert len(spooled(models)) >= len(answers)


def _out_of_memory(*_: object) -> list[Answer]:
    raise MemoryError("no memory for the model")


def _no_number(model: RunningModel, batch: Sequence[Picture]) -> list[Answer]:
    nothing = np.full(len(model.shipped.classes), np.nan, np.float32)
    return [Answer(model, "round", float("nan"), nothing, None, None) for _ in batch]


@pytest.mark.parametrize("fails", [_out_of_memory, _no_number])
def test_an_answer_that_fails_is_counted_and_the_next_one_is_given(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., list[Answer]]
):
    models.put_in_production(models.register(seed=1))
    with serving(models) as client:
        with monkeypatch.context() as patched:
            patched.setattr(serving_app, "answer", fails)
            assert client.post("/predict", content=png(1)).status_code == 500
        assert client.post("/predict", content=png(1)).status_code == 200
        told = client.get("/metrics").text
    for status in ("200", "500"):
        assert f'visionops_serve_requests_total{{group="all",project="shapes",status="{status}"}} 1.0' in told


def test_a_registry_that_is_gone_leaves_the_present_model_answering(models: ProductionWorld):
    models.put_in_production(models.register(1))
    current = CurrentModel(models.registry, "shapes", "all", threads=1)
    answered = current.model
    current._registry = models.registry.model_copy(update={"tracking_uri": "sqlite:////proc/no/mlflow.db"})
    assert not current.look()
    assert current.model is answered
    assert current.problem


def test_a_spool_that_takes_nothing_loses_no_row_until_it_does(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch
):
    models.put_in_production(models.register(1))
    attempts = itertools.count()
    put = type(models.spool).put

    def full(*arguments: Any, **options: Any) -> str:
        if next(attempts) == 0:
            raise OSError("no space left on device")
        return put(*arguments, **options)

    monkeypatch.setattr(type(models.spool), "put", full)
    monkeypatch.setattr("visionops.serving.prediction_log.FLUSH_ROWS", 1)
    with serving(models) as client:
        ask(client, png(1))
        ask(client, png(2))
    assert {row["image_sha256"] for row in spooled(models)} == {sha256(png(1)), sha256(png(2))}


def test_nothing_in_production_is_said_before_anything_is_served(models: ProductionWorld):
    with pytest.raises(NothingInProduction, match="visionops tick shapes"):
        CurrentModel(models.registry, "shapes", "all", threads=1)


def test_an_address_that_is_taken_is_named(models: ProductionWorld):
    models.put_in_production(models.register(1))
    with serving(models) as client:
        port = httpx.URL(client.base_url).port
        assert port is not None
        app = PredictionApp(
            "shapes",
            "all",
            CurrentModel(models.registry, "shapes", "all", 1),
            None,
            batch=1,
            look_every=9,
        )
        with pytest.raises(CannotListen, match=f"port {port}"):
            PredictionServer(app, "127.0.0.1", port)


class Full:
    """A spool on a disk without room, until there is some."""

    def __init__(self, world: ProductionWorld, error: Exception) -> None:
        self.spool, self.error = world.spool, error
        self.is_full, self.refused = True, threading.Event()

    def put(self, *arguments: Any) -> str:
        if self.is_full:
            self.refused.set()
            raise self.error
        return self.spool.put(*arguments)


class NoSuchBucket(Exception):
    """An error of a bucket's client, which is no OSError."""


FULL_DISK = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/spool")


@pytest.mark.parametrize(
    ("error", "room_again"),
    [
        (FULL_DISK, False),
        (NoSuchBucket("no such bucket"), True),
        pytest.param(FULL_DISK, True, marks=pytest.mark.stated),
        pytest.param(NoSuchBucket("no such bucket"), False, marks=pytest.mark.stated),
    ],
)
def test_on_a_full_disk_answers_go_on_and_rows_wait_or_are_told_as_lost(
    models: ProductionWorld, caplog: pytest.LogCaptureFixture, error: Exception, room_again: bool
) -> None:
    models.put_in_production(models.register(1))
    full = Full(models, error)
    log = BackgroundLog(PredictionLog(full, models.project, "server-1", "all"), every=0.01)  # type: ignore[arg-type]
    with serving(models, log=log) as client:
        for seed in range(5):
            ask(client, png(seed))
        assert full.refused.wait(60)
        health, numbers = client.get("/health").json(), client.get("/metrics").text
        assert health["status"] == "ok" and health["log"]["problem"] is not None
        assert "visionops_serve_log_waiting_rows" in numbers
        full.is_full = not room_again
    kept, lost = len(spooled(models)), log.dropped
    assert (kept, lost) == ((5, 0) if room_again else (0, 5))
    assert log.to_json()["written"] == kept and log.to_json()["dropped"] == lost
    said = [record.message for record in caplog.records]
    assert len([line for line in said if "the prediction log waits: " in line]) == 1
    require_told("the disk of the spool is full while `serve` answers", *said)
    assert any("goes on: 5 rows" in line for line in said) == room_again
    assert any("5 rows of the prediction log are lost, 5 in all: " in line for line in said) != room_again


def test_a_batch_that_cannot_be_logged_is_counted_and_the_log_goes_on(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    models.put_in_production(models.register(1))
    log = BackgroundLog(PredictionLog(models.spool, models.project, "server-1", "all"), every=0.01)
    failed = threading.Event()

    def fails(*_: object, **__: object) -> None:
        failed.set()
        raise ArithmeticError("no row can be made of it")

    with serving(models, log=log) as client:
        with monkeypatch.context() as patched:
            patched.setattr(prediction_log, "log_rows", fails)
            ask(client, png(1))
            assert failed.wait(60)
        ask(client, png(2))
    assert len(spooled(models)) == 1 and log.dropped == 1
    assert "1 rows of the prediction log are lost" in caplog.text
