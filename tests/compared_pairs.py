"""What pairs of small pictures show of each other, found once: most tests start from the same few batches.

An import, an audit and a verdict each compare all the pictures of a world, where pairs in doubt took a third of a tick.
"""

import sys
from collections.abc import Callable
from typing import Any

_MODULE = "visionops_assets.dataset.deduplication.exposures"
# Pixels of the larger picture, and pairs, of some 300 bytes each.
_SMALL, _KEPT = 1024, 1 << 16


def keep() -> None:
    """Do so in this process, and in those forked from it, if the comparison is imported by now."""
    exposures = sys.modules.get(_MODULE)
    if exposures is None or hasattr(exposures.evidence, "__wrapped__"):
        return
    evidence: Callable[..., float] = exposures.evidence
    known: dict[tuple[Any, ...], float] = {}

    def known_evidence(one: Any, other: Any) -> float:
        if max(one.grey.size, other.grey.size) > _SMALL:
            return evidence(one, other)
        key = tuple(None if each is None else (each.shape, each.tobytes()) for each in (*one, *other))
        if key not in known:
            if len(known) >= _KEPT:
                known.clear()
            known[key] = evidence(one, other)
        return known[key]

    known_evidence.__wrapped__ = evidence  # type: ignore[attr-defined]
    exposures.evidence = known_evidence  # type: ignore[attr-defined]
