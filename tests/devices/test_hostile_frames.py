"""What a camera, or whoever stands before it, makes to do harm: the frame is unreadable, and nothing else notices."""

import io
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge.runner import BadImage, ProcessRunner
from tests.devices.small_fleet import Device, Fleet, frame


def hostile_frames() -> dict[str, bytes]:
    """What a decoder would take minutes, gigabytes or its life for, by what is said of it."""
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(0, 256, (3000, 3000, 3), dtype=np.uint8))
    busy, cut = io.BytesIO(), io.BytesIO()
    noise.save(busy, "WEBP", lossless=True, quality=0, method=0)
    noise.save(cut, "TIFF")
    bitmap = b"BM" + struct.pack("<IHHIIiiHH", 54, 0, 0, 54, 40, 60000, 60000, 1, 24)
    return {
        "claims 60000×60000 pixels": bitmap + bytes(24),
        # The last of each on a machine that has no time.
        "processor time|took more than": busy.getvalue(),
        "truncated|cannot be decoded|took more than": cut.getvalue()[:-1000],
    }


def test_a_hostile_frame_is_unreadable_and_neither_model_nor_agent_notice(
    fleet: Fleet, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONOPS_IMAGE_SECONDS", "0.1")
    fleet.publish(fleet.bundle(2))
    device.open_runner = ProcessRunner
    agent = device.start()
    agent.look()
    agent.settle()
    assert agent.state.phase == "TRIAL"
    try:
        for said, image in hostile_frames().items():
            with pytest.raises(BadImage, match=said):
                agent.answer(image)
        assert agent.answer(frame())["model"]["release"] == 2
    finally:
        agent.close()
    assert agent.state.phase == "TRIAL" and not agent.state.quarantine
    assert [each["event"] for each in device.events()].count("rolled_back") == 0


def test_where_nothing_can_be_decoded_no_model_is_blamed_and_the_image_waits(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: object) -> None:
        raise OSError("the image decoder could not be started (SIGKILL)")

    # Whether one was started by an earlier test or not.
    monkeypatch.setattr("edge.images.decode_pool.Workers._take", no_process)
    agent = device.start()
    bitmap = io.BytesIO()
    Image.new("L", (8, 8)).save(bitmap, "BMP")
    with pytest.raises(OSError, match=r"no image can be decoded here.*could not be started"):
        agent.answer(bitmap.getvalue())
    assert agent.answer(frame())["model"]["release"] == 1


def test_an_answer_is_waited_for_longer_than_a_decoder_may_take() -> None:
    """Else a model would be taken for dead over an image."""
    from edge.images.bounds import image_limits

    waited: list[float] = []

    class Waiting(ProcessRunner):
        def __init__(self) -> None: ...

        def _read(self, seconds: float) -> dict[str, Any]:
            waited.append(seconds)
            return {}

    runner = Waiting()
    runner._process = SimpleNamespace(stdin=io.BytesIO())  # type: ignore[assignment]
    runner.answer(b"x")
    assert waited[0] - image_limits().wall_seconds >= 60
