"""The prediction server among clients of whom one means harm: everybody else is answered."""

import contextlib
import io
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import psutil
import pytest
from logged import png
from PIL import Image
from production_world import ProductionWorld
from test_serve import ask, serving

from edge.images.bounds import image_limits, image_workers
from visionops.serving.prediction_app import PredictionApp
from visionops.serving.request_handling import CurrentModel
from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.monitoring.prediction import Answer, picture

# Its tag of the width holds text: a TypeError inside Pillow.
POISON = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHI4s", 256, 2, 2, b"8\0\0\0") + b"\0" * 4


def slow_webp(side: int = 4000) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(buffer, "WEBP", quality=10, method=0)
    return buffer.getvalue()


def test_a_bad_image_is_refused_and_its_neighbours_are_answered(models: ProductionWorld):
    models.put_in_production(models.register(1))
    with serving(models) as client, ThreadPoolExecutor(8) as clients:
        together = [
            clients.submit(client.post, "/predict", content=POISON if number % 4 == 0 else png(1))
            for number in range(64)
        ]
        answers = [each.result() for each in together]
    for number, answer in enumerate(answers):
        assert answer.status_code == (400 if number % 4 == 0 else 200), answer.text


def test_an_image_that_takes_long_delays_nobody_and_ends_at_its_deadline(models: ProductionWorld):
    models.put_in_production(models.register(1))
    bad = slow_webp()
    with serving(models, decode_seconds=0.05) as client, ThreadPoolExecutor(4) as clients:
        refused = [clients.submit(client.post, "/predict", content=bad) for _ in range(4)]
        good = 0
        while not all(each.done() for each in refused):
            ask(client, png(1))
            good += 1
    assert good
    for answer in (each.result() for each in refused):
        assert answer.status_code == 400
        assert "raise --decode-seconds" in answer.json()["error"]


def large_webp() -> bytes:
    """A few kilobytes that are 244 MiB once they are decoded."""
    buffer = io.BytesIO()
    Image.new("RGBA", (8000, 8000)).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def held() -> int:
    """The bytes of memory that this process and its workers have to themselves, and their part of what they share."""
    here, found = psutil.Process(), 0
    for each in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            found += each.memory_full_info().pss
    return found


@pytest.mark.slow
def test_among_hostile_images_all_good_ones_are_answered_within_the_memory_of_the_workers(
    models: ProductionWorld,
):
    models.put_in_production(models.register(1))
    bad = [POISON, slow_webp(2500), large_webp(), b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + b"\0" * 20]
    with serving(models, decode_seconds=0.3) as client, ThreadPoolExecutor(16) as clients:
        client.timeout = httpx.Timeout(600)

        def eight_good_ones() -> set[int]:
            asked = [clients.submit(client.post, "/predict", content=png(number)) for number in range(8)]
            return {each.result().status_code for each in asked}

        assert eight_good_ones() == {200}
        idle = most = held()
        harm = [clients.submit(client.post, "/predict", content=bad[number % 4]) for number in range(8)]
        while not all(each.done() for each in harm):
            assert eight_good_ones() == {200}
            most = max(most, held())
    assert {each.result().status_code for each in harm} <= {200, 400, 429}
    assert most <= idle + image_workers() * image_limits().worker_memory


def test_a_full_queue_says_when_to_come_again_and_nobody_waits_for_ever(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch
):
    models.put_in_production(models.register(1))
    going_on = threading.Event()
    run = ShippedModel.run
    monkeypatch.setattr(
        ShippedModel, "run", lambda *given: run(*given) if going_on.wait(60) else [], raising=True
    )
    with serving(models, queue=2) as client, ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(client.post, "/predict", content=png(1)) for _ in range(2)]
        until = time.monotonic() + 60
        while 'waiting_requests{group="all",project="shapes"} 2.0' not in client.get("/metrics").text:
            assert time.monotonic() < until
        told = client.post("/predict", content=png(1))
        assert told.status_code == 429
        assert told.headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200
        going_on.set()
        assert [each.result().status_code for each in waiting] == [200, 200]
        assert ask(client, png(1))["prediction"]
        assert 'status="429"' in client.get("/metrics").text


def test_a_model_of_another_size_answers_what_was_decoded_for_the_one_before(models: ProductionWorld):
    models.put_in_production(models.register(1))
    current = CurrentModel(models.registry, "shapes", "all", threads=1)
    app = PredictionApp("shapes", "all", current, None, batch=4, look_every=9)
    shipped = current.model.shipped
    before = replace(shipped, input=shipped.input.model_copy(update={"height": 20, "channels": 3}))
    seen = [(picture("a", png(1), each), each.input) for each in (before, shipped)]
    one, other = app._answer(seen)
    assert isinstance(one, Answer) and isinstance(other, Answer)
    assert one.to_json() == other.to_json()


@pytest.mark.slow
def test_stopping_waits_for_no_image_that_takes_long(models: ProductionWorld):
    models.put_in_production(models.register(1))
    bad = slow_webp()
    with ThreadPoolExecutor(8) as clients:
        with serving(models, decode_seconds=60) as client:
            asked = [clients.submit(httpx.post, f"{client.base_url}/predict", content=bad) for _ in range(8)]
            while not any(
                "decode_worker" in " ".join(each.cmdline()) for each in psutil.Process().children()
            ):
                ask(client, png(1))
        answers = [each.result() for each in asked if each.exception() is None]
    assert {answer.status_code for answer in answers} <= {200, 400, 503}
    assert ask_again(models)


def ask_again(models: ProductionWorld) -> bool:
    with serving(models) as client:
        return client.post("/predict", content=slow_webp(40)).status_code == 200
