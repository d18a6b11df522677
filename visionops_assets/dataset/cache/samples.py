"""The decoded samples of a dataset version, fetched from lakeFS once and read from the cache ever after."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd

from edge.images.decode import Resize
from resources.settings import Cache
from visionops_assets.common.progress import tell
from visionops_assets.dataset.cache.sample_cache import FillReport, SampleCache
from visionops_assets.dataset.cache.sample_view import SampleView


class DecodeSize(Protocol):
    """What images are decoded to; a recipe's `input` is one."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def resize(self) -> Resize: ...


class ImageReader(Protocol):
    """Gives the bytes of images by path; `resources.lakefs.client.LakeFSResource` is one."""

    def read_many(
        self, repository: str, reference: str, paths: Sequence[str]
    ) -> Iterator[tuple[str, bytes]]: ...


def load_samples(
    lakefs: ImageReader,
    repository: str,
    commit: str,
    manifest: pd.DataFrame,
    cache_root: Path,
    size: DecodeSize,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SampleView, FillReport]:
    """The images of the manifest's rows, in their order, as a view of uint8 [H, W, C].

    Only what no earlier version brought is fetched. Raises what `SampleCache.fill` and lakeFS raise, and `ValueError`
    naming a setting of the cache that cannot be read.
    """
    heard = progress or (lambda done, of: tell(f"image {done:,} of {of:,}", done, of))
    given = Cache.read()
    cache = SampleCache(
        cache_root,
        size.height,
        size.width,
        size.channels,
        size.resize,
        encoded=given.keeps == "encoded",
        max_bytes=None if given.mib is None else int(given.mib * (1 << 20)),
    )
    wanted = list(zip(manifest["path"], manifest["sha256"], manifest["size"], strict=True))
    report = cache.fill(wanted, lambda paths: lakefs.read_many(repository, commit, paths), heard)
    return cache.view(list(manifest["sha256"])), report
