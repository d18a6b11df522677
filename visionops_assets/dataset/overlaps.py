"""How much boxes share."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union [...] of boxes [..., 4] (left, top, width, height) that broadcast to each other."""
    left, top = (np.maximum(one[..., side], other[..., side]) for side in (0, 1))
    right, bottom = (
        np.minimum(one[..., side] + one[..., side + 2], other[..., side] + other[..., side + 2])
        for side in (0, 1)
    )
    shared = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    union = one[..., 2] * one[..., 3] + other[..., 2] * other[..., 3] - shared
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found
