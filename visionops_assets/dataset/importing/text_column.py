"""Texts as one Arrow array, put together without an object for each."""

from array import array
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class TextColumn:
    """Takes texts one by one, or None; also texts that are no Unicode, as names of files may be."""

    def __init__(self, texts: Iterable[str | None] = ()) -> None:
        # What came before the first text takes no room.
        self._none_before = 0
        self._content, self._ends, self._known = bytearray(), array("i", [0]), bytearray()
        for text in texts:
            self.add(text)

    def add(self, text: str | None) -> None:
        """One more."""
        if text is None and not self._known:
            self._none_before += 1
            return
        if not self._known:
            self._begin()
        if text is not None:
            self._content += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._content))
        self._known.append(text is not None)

    def array(self) -> pa.Array:
        """All of them as bytes, None as null. Takes no more after that."""
        if not self._known:
            self._begin()
        known = None
        if 0 in self._known:
            known = pa.py_buffer(np.packbits(np.frombuffer(self._known, bool), bitorder="little"))
        buffers = [known, pa.py_buffer(self._ends), pa.py_buffer(self._content)]
        return pa.Array.from_buffers(pa.binary(), len(self._known), buffers)

    def array_if_any(self) -> pa.Array | None:
        """The same, or None where no text came."""
        return self.array() if self._known else None

    def _begin(self) -> None:
        self._ends.extend([0] * self._none_before)
        self._known += bytes(self._none_before)


def decoded(text: bytes) -> str:
    """What a `TextColumn` encoded."""
    return text.decode("utf-8", "surrogatepass")


def in_order(texts: pa.Array) -> NDArray[np.int64]:
    """The places of texts, sorted by their bytes, int64 (N,)."""
    return pc.sort_indices(texts).to_numpy().view(np.int64)
