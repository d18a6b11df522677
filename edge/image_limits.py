"""How much an image may ask for before it is refused; each bound is a setting in the environment."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace

MEMORY = "VISIONOPS_IMAGE_MIB"
SCANS = "VISIONOPS_IMAGE_SCANS"
FRAMES = "VISIONOPS_IMAGE_FRAMES"
DIRECTORIES = "VISIONOPS_IMAGE_DIRECTORIES"
SECONDS = "VISIONOPS_IMAGE_SECONDS"
WORKERS = "VISIONOPS_IMAGE_WORKERS"

# A machine that is busy gives a decoder less than its time; only one that sleeps takes longer than this.
WALL_TIMES_CPU = 10


@dataclass(frozen=True)
class ImageLimits:
    """The most that one image may have: `memory` in bytes once decoded, `scans` of a progressive JPEG, `frames` of an
    animation, `directories` of a TIFF and entries of each, and `seconds` of processor time to decode it.
    """

    memory: int = 256 << 20
    scans: int = 100
    frames: int = 1000
    directories: int = 1000
    seconds: float = 10.0
    seconds_setting: str = SECONDS

    @property
    def worker_memory(self) -> int:
        """What a worker may take in all: decoders hold an image up to three times."""
        return 3 * self.memory + (64 << 20)

    @property
    def wall_seconds(self) -> float:
        """How long a decoder is waited for by the clock."""
        return self.seconds * WALL_TIMES_CPU

    def within(self, seconds: float, setting: str = SECONDS) -> ImageLimits:
        """The same with another deadline, and how it is set."""
        return replace(self, seconds=seconds, seconds_setting=setting)


@functools.cache
def image_limits() -> ImageLimits:
    """The limits of this process, read from the environment once. Raises `ValueError` naming a setting."""
    return ImageLimits(
        memory=int(_number(MEMORY, ImageLimits.memory >> 20, 1)) << 20,
        scans=int(_number(SCANS, ImageLimits.scans, 1)),
        frames=int(_number(FRAMES, ImageLimits.frames, 1)),
        directories=int(_number(DIRECTORIES, ImageLimits.directories, 1)),
        seconds=_number(SECONDS, ImageLimits.seconds, 0.01),
    )


@functools.cache
def image_workers() -> int:
    """How many workers decode what does not stay in this process. Raises `ValueError` naming the setting."""
    return int(_number(WORKERS, min(4, max(2, os.cpu_count() or 1)), 1))


def _number(name: str, default: float, least: float) -> float:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not least <= found < 1e9:
        raise ValueError(f"{name} is {text[:40]!r}: it takes a number of at least {least:g}")
    return found
