"""What commands print, safe for a terminal: names and messages of others move no cursor and set no colour, and the
secrets of this environment are not shown.

It stands in place of standard output and error, so that no command has to think of it. What draws on purpose, Rich's
bars and Typer's help, is let through, and escapes the names that it draws.
"""

import sys
from importlib.metadata import version
from typing import Any, TextIO

from resources.escaping import visible
from resources.masking import without_secrets


class EscapingStream:
    """A stream of text on which control characters, and what no encoding can hold, are shown and not sent, and secrets
    neither."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def rich_proxied_file(self) -> TextIO:
        """Where Rich writes what it draws, by its own name for it."""
        return self._stream

    def write(self, text: str) -> int:
        """Write a text; its lines stay lines."""
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(
            visible(without_secrets(text)).encode(encoding, "backslashreplace").decode(encoding)
        )
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write texts."""
        for text in lines:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        # Who found the bytes below could write past this.
        if name in ("buffer", "raw", "detach"):
            raise AttributeError(name)
        return getattr(self._stream, name)


def escape_output() -> None:
    """Have everything escaped that this process prints from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, EscapingStream):
            setattr(sys, name, EscapingStream(stream))


def say_version() -> None:
    """Print which VisionOps this is."""
    print(f"visionops {version('visionops')}")
