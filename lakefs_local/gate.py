"""Lets changes that take several transactions run side by side, and a collection only when none of them runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Busy(RuntimeError):
    """Changes were running for longer than the collection was willing to wait."""


class Gate:
    """Many may be `shared` at once, `exclusive` is alone. Who waits for `exclusive` does not hold up `shared`."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Wait while the gate is taken exclusively."""
        with self._condition:
            self._condition.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @contextmanager
    def exclusive(self, wait_seconds: float) -> Iterator[None]:
        """Raises Busy."""
        deadline = time.monotonic() + wait_seconds
        with self._condition:
            free = self._condition.wait_for(
                lambda: not self._inside and not self._closed, max(0.0, deadline - time.monotonic())
            )
            if not free:
                raise Busy("imports or changes with hooks are running: try again when they have ended")
            self._closed = True
        try:
            yield
        finally:
            with self._condition:
                self._closed = False
                self._condition.notify_all()
