"""One look at every image of a batch: hash, header, decode."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from visionops_assets.dataset.decode import decode_whole
from visionops_assets.dataset.duplicates import phash
from visionops_assets.dataset.formats.source import SourceImage
from visionops_assets.dataset.image_header import UnreadableImage, probe

_AT_ONCE = 16


class Examined(NamedTuple):
    """What an image is; `error` says why it cannot be used, and then the rest may be empty."""

    name: str
    sha256: str = ""
    phash: int = 0
    format: str = ""
    frames: int = 1
    height: int = 0
    width: int = 0
    size: int = 0
    error: str | None = None


def examine(
    images: Sequence[SourceImage], threads: int = 2, progress: Callable[[int, int], None] | None = None
) -> Iterator[Examined]:
    """Read and decode each image once, in order, a bounded number at a time."""
    with ThreadPoolExecutor(threads, thread_name_prefix="examine") as pool:
        running: deque[Future[list[Examined]]] = deque()
        done = 0

        def finish() -> Iterator[Examined]:
            nonlocal done
            for one in running.popleft().result():
                done += 1
                yield one
            if progress:
                progress(done, len(images))

        for start in range(0, len(images), _AT_ONCE):
            running.append(pool.submit(_examine_some, images[start : start + _AT_ONCE]))
            if len(running) > 2 * threads:
                yield from finish()
        while running:
            yield from finish()


def _examine_some(images: Sequence[SourceImage]) -> list[Examined]:
    return [examine_one(image.name, image.read) for image in images]


def examine_one(name: str, read: Callable[[], bytes]) -> Examined:
    """Examine one image; what is wrong with it is in `error`, never raised."""
    try:
        data = read()
    except OSError as error:
        return Examined(name, error=f"cannot be read: {error.strerror or error}")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        header = probe(data, name)
        pixels = decode_whole(data, name, 1)
    except UnreadableImage as error:
        return Examined(name, sha256, size=len(data), error=error.reason)
    return Examined(
        name, sha256, phash(pixels), header.format, header.frames, header.height, header.width, len(data)
    )
