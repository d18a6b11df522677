"""Whether the images of a dataset version are still there with the bytes they were audited with."""

import hashlib
from collections.abc import Callable

import pandas as pd

from resources.lakefs.client import LakeFSResource
from resources.lakefs_errors import LakeFSError, LakeFSGone, LakeFSNotFound
from visionops_assets.common.findings import Finding, findings_table

Progress = Callable[[int, int], None]


def verify_images(
    lakefs: LakeFSResource,
    repository: str,
    commit: str,
    samples: pd.DataFrame,
    progress: Progress = lambda done, of: None,
) -> pd.DataFrame:
    """Read the images of manifest rows and compare their SHA-256; findings name what is gone, altered, unreadable.

    Memory holds a bounded number of images. Raises `LakeFSUnavailable` only where not one image can be read.
    """
    expected = dict(zip(samples["path"], samples["sha256"], strict=True))
    findings, failed, last = [], 0, None
    for done, (path, data) in enumerate(lakefs.read_each(repository, commit, list(expected)), start=1):
        if isinstance(data, LakeFSError):
            last, gone = data, isinstance(data, LakeFSNotFound | LakeFSGone)
            failed += not gone
            what = "is gone" if gone else f"cannot be read: {data}"
            findings.append(
                Finding("intact", path, what, "restore the object in lakeFS's storage, or retract its batch")
            )
        elif hashlib.sha256(data).hexdigest() != expected[path]:
            why = "restore the object in lakeFS's storage, or import its batch again"
            findings.append(Finding("intact", path, "was altered: its SHA-256 is not the audited one", why))
        progress(done, len(expected))
    if last is not None and failed == len(expected):
        raise last
    return findings_table(findings)


def sample_of(samples: pd.DataFrame, count: int, seed: str) -> pd.DataFrame:
    """At most `count` rows, another choice for another `seed`."""
    if len(samples) <= count:
        return samples
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    return samples.sample(count, random_state=number).sort_values("path")
