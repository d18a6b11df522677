"""JSON as strangers have it, of bounded depth; a file of hundreds of megabytes is never held as objects, but read item
by item."""

import codecs
import json
from collections.abc import Iterator
from typing import Any

from visionops_assets.dataset.importing.plain_text import encoding_of, is_whole, not_text
from visionops_assets.dataset.importing.source import SourceError
from visionops_assets.dataset.importing.source_files import SourceFile
from visionops_assets.dataset.importing.source_limits import DEPTH, VALUE, source_limits, too_much

_AT_ONCE = 1 << 20
_SPACE = " \t\n\r"


class JSONFile:
    """The members of the object that a JSON file holds, in their order."""

    def __init__(self, path: SourceFile, encoding: str | None = None) -> None:
        self._path, self._encoding = path, encoding_of(path, encoding)
        self._decode = json.JSONDecoder().raw_decode

    def members(self, streamed: frozenset[str]) -> Iterator[tuple[str, int, Any]]:
        """Each member as (key, -1, value); of a list whose key is `streamed`, each item as (key, its number, item), and
        before them (key, -1, []), as of any other list."""
        with self._path.open() as file:
            text = _Text(self._path, file, self._encoding)
            text.expect("{")
            if text.peek() == "}":
                return
            while True:
                key = text.value(self._decode)
                text.expect(":")
                if text.peek() == "[":
                    yield key, -1, []
                    # Others are passed over, however long they are.
                    for number, item in enumerate(text.items(self._decode)):
                        if key in streamed:
                            yield key, number, item
                else:
                    yield key, -1, text.value(self._decode)
                if text.next_of(",}") == "}":
                    return

    def items(self) -> Iterator[tuple[int, Any]]:
        """The items of the list that the file holds."""
        with self._path.open() as file:
            yield from enumerate(_Text(self._path, file, self._encoding).items(self._decode))


def parsed(text: str, what: object) -> Any:
    """The value that a text is. Raises `ValueError` for no JSON, and `SourceError` naming `what` for one too deep."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep(what) from None
    _check_depth(value, text, 0, len(text), what)
    return value


def _check_depth(value: Any, text: str, begin: int, end: int, what: object) -> None:
    most = source_limits().depth
    # Nearly all have too few brackets to be deep, which is known without going through them.
    if text.count("[", begin, end) + text.count("{", begin, end) <= most:
        return
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        if depth > most:
            raise _too_deep(what)
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]


def _too_deep(what: object) -> SourceError:
    return too_much(what, f"nests more than {source_limits().depth} deep", DEPTH)


class _Text:
    """The text of a file, a part at a time."""

    def __init__(self, path: SourceFile, file: Any, encoding: str) -> None:
        self._path, self._file, self._name = path, file, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._text, self._at, self._before, self._ended = "", 0, 0, False

    def expect(self, wanted: str) -> None:
        if self.peek() != wanted:
            raise self.broken(f"expected {wanted!r}")
        self._at += 1

    def next_of(self, wanted: str) -> str:
        found = self.peek()
        if not found or found not in wanted:
            raise self.broken(f"expected one of {wanted!r}")
        self._at += 1
        return found

    def peek(self) -> str:
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def items(self, decode: Any) -> Iterator[Any]:
        self.expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value(decode)
            if self.next_of(",]") == "]":
                return

    def value(self, decode: Any) -> Any:
        if not self.peek():
            raise self.broken("it ends too early")
        while True:
            try:
                value, end = decode(self._text, self._at)
            except ValueError as error:
                most = source_limits().value
                if len(self._text) - self._at > most:
                    raise too_much(
                        self._path, f"has a value of more than {most:,} characters", VALUE
                    ) from None
                if not self._more():
                    self._at = getattr(error, "pos", self._at)
                    raise self.broken("a value is broken or cut off") from None
                continue
            except RecursionError:
                raise _too_deep(self._path) from None
            # A number may go on in the next part.
            if end < len(self._text) or not self._more():
                _check_depth(value, self._text, self._at, end, self._path)
                if not is_whole(self._text, self._at, end):
                    raise self.broken("has half of a character (\\ud800 to \\udfff alone) in a value")
                self._at = end
                return value

    def broken(self, why: str) -> SourceError:
        return SourceError(
            f"{self._path}: is not JSON that can be read: {why} at character {self._before + self._at:,}; is it "
            "complete?"
        )

    def _more(self) -> bool:
        if self._ended:
            return False
        try:
            data = self._file.read(max(_AT_ONCE, len(self._text) - self._at))
            more = self._decoder.decode(data, final=not data)
        except UnicodeError:
            raise not_text(self._path, self._name) from None
        self._ended = not data
        self._text, self._before, self._at = (
            self._text[self._at :] + more,
            self._before + self._at,
            0,
        )
        return bool(more) or not self._ended
