"""Which labelled images of a day stand for all of it. Pure; one (model, device group).

Captures are kept, and labels asked for, where the model is unsure or the image is new: such images teach most, and a
model looks worse on them than it is, the one that was unsure more than any other. So a share of the captures is drawn
by the digest of the image, whatever the model says, and these are asked for in the order of their digests. As far as
that order is labelled without a gap it is a simple random sample of the day.
"""

import pandas as pd

_DIGITS = 13


def drawn(digests: pd.Series, share: float) -> pd.Series:
    """Whether each image is among a `share` of all, chosen by its SHA-256: the same image always or never."""
    return digests.map(lambda digest: place(digest) < share).astype(bool)


def place(image_sha256: str) -> float:
    """Where a digest lies among all digests, 0 to 1."""
    return float(int(image_sha256[:_DIGITS], 16) / 16**_DIGITS)


def counted(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """The labelled rows that performance is counted on, each image once, in the order of `rows`.

    All of them where every image is labelled. Else of the captures those drawn by a `share`, by digest, up to the
    first that has no label. Labelled images that were not captured were chosen by whoever labelled them, and count.
    """
    images = rows.sort_values(["image_sha256", "capture"], kind="stable").drop_duplicates("image_sha256")
    labelled, captured = images["label"].notna(), images["capture"].notna()
    if not labelled.all():
        waiting = images["image_sha256"][captured & ~labelled & drawn(images["image_sha256"], share)]
        first = waiting.min() if len(waiting) else "g"
        by_lot = drawn(images["image_sha256"], share) & (images["image_sha256"] < first)
        images = images[labelled & (~captured | by_lot)]
    return images.sort_index()
