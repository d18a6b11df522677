"""JSON and XML as strangers have them, of bounded depth: JSON of hundreds of megabytes is never held as objects,
but read item by item; XML is in the encoding that it declares, or the one that is stated, and without entities.
"""

import codecs
import json
import re
import xml.etree.ElementTree as ElementTree
import xml.parsers.expat.errors as expat
from collections.abc import Iterator
from typing import Any

from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.plain_text import encoding_of, is_whole, not_text, open_text
from visionops_assets.dataset.importing.source_files import DEPTH, VALUE, SourceFile, source_limits, too_much

_JSON_AT_ONCE = 1 << 20
_SPACE = " \t\n\r"
_DECLARED = re.compile(rb"\s*<\?xml[^>]*encoding")
_HEAD = 1 << 16
_XML_AT_ONCE = 1 << 16
# What expat finds, by its messages, at the line that is added.
_FOUND = {
    expat.XML_ERROR_NO_ELEMENTS: "it ends before anything else does",
    expat.XML_ERROR_UNCLOSED_TOKEN: "what begins at line {} does not end",
    expat.XML_ERROR_UNCLOSED_CDATA_SECTION: "what begins at line {} does not end",
    expat.XML_ERROR_TAG_MISMATCH: "line {} closes another element than the one that is open",
    expat.XML_ERROR_DUPLICATE_ATTRIBUTE: "line {} has an attribute twice in one element",
    expat.XML_ERROR_JUNK_AFTER_DOC_ELEMENT: "line {} goes on after the end of all",
    expat.XML_ERROR_UNDEFINED_ENTITY: "line {} has an & that begins no entity; write &amp; for it",
    expat.XML_ERROR_UNKNOWN_ENCODING: "line {} says an encoding that is not known; save it as UTF-8",
    expat.XML_ERROR_INCORRECT_ENCODING: "line {} says another encoding than the file is in",
}


class JSONFile:
    """The members of the object that a JSON file holds, in their order."""

    def __init__(self, path: SourceFile, encoding: str | None = None) -> None:
        self._path, self._encoding = path, encoding_of(path, encoding)
        self._decode = json.JSONDecoder().raw_decode

    def members(self, streamed: frozenset[str]) -> Iterator[tuple[str, int, Any]]:
        """Each member as (key, -1, value); of a list whose key is `streamed`, each item as (key, its number, item), and
        before them (key, -1, []), as of any other list."""
        with self._path.open() as file:
            text = _JSONText(self._path, file, self._encoding)
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
            yield from enumerate(_JSONText(self._path, file, self._encoding).items(self._decode))


def parsed_json(text: str, what: object) -> Any:
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


class _JSONText:
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
            data = self._file.read(max(_JSON_AT_ONCE, len(self._text) - self._at))
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


def xml_root_is(path: SourceFile, name: str) -> bool:
    """Whether the root of an XML file may be called so, by its beginning."""
    return re.search(rb"<" + name.encode() + rb"[\s>/]", path.head(_HEAD).replace(b"\0", b"")) is not None


def read_xml(path: SourceFile, encoding: str | None) -> ElementTree.Element:
    """A whole file. Raises `SourceError` naming it."""
    root = None
    for element in xml_elements(path, encoding):
        root = element
    if root is None:
        raise SourceError(f"{path}: is not XML that can be read: it is empty")
    return root


def xml_elements(path: SourceFile, encoding: str | None) -> Iterator[ElementTree.Element]:
    """Each element once it has ended, the root last. Raises `SourceError`."""
    head = path.head(_HEAD).replace(b"\0", b"")
    target = _PlainXML(path)
    parser = ElementTree.XMLParser(target=target)
    # What the file declares itself comes before what is stated of all of them.
    own = encoding is None or _DECLARED.match(head) is not None
    try:
        with path.open() if own else open_text(path, encoding) as stream:
            while part := stream.read(_XML_AT_ONCE):
                parser.feed(part)
                yield from target.taken()
        parser.close()
        yield from target.taken()
    except (ElementTree.ParseError, UnicodeError, LookupError) as error:
        supposed = encoding_of(path, None if own else encoding)
        if not _DECLARED.match(head) and not _is_text_file(path, supposed):
            raise not_text(path, supposed) from error
        raise SourceError(f"{path}: is not XML that can be read: {_xml_error_in_words(error)}") from error


def _xml_error_in_words(error: ElementTree.ParseError | UnicodeError | LookupError) -> str:
    if not isinstance(error, ElementTree.ParseError):
        return "it says an encoding that it is not in, or that is not known; save it as UTF-8"
    line, column = error.position
    found = _FOUND.get(expat.messages.get(error.code, ""))
    return found.format(line) if found else f"line {line}, character {column + 1} is none; is it complete?"


class _PlainXML(ElementTree.TreeBuilder):
    """Elements that have ended, of a document without declarations, which annotations do not need: an entity of a few
    bytes may stand for gigabytes, or for another file."""

    def __init__(self, path: SourceFile) -> None:
        super().__init__()
        self._path, self._deepest, self._depth = path, source_limits().depth, 0
        self._ended: list[ElementTree.Element] = []

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Called where a declaration begins, before what stands in it."""
        raise SourceError(f"{self._path}: declares entities, which annotations do not need; it is not read")

    def start(self, tag: str, attributes: dict[str, str]) -> ElementTree.Element:
        """An element begins."""
        self._depth += 1
        if self._depth > self._deepest:
            raise too_much(self._path, f"nests more than {self._deepest} deep", DEPTH)
        return super().start(tag, attributes)

    def end(self, tag: str) -> ElementTree.Element:
        """An element has ended."""
        self._depth -= 1
        found = super().end(tag)
        self._ended.append(found)
        return found

    def taken(self) -> list[ElementTree.Element]:
        """Those that ended since it was asked before."""
        ended, self._ended = self._ended, []
        return ended


def _is_text_file(path: SourceFile, encoding: str) -> bool:
    try:
        with open_text(path, encoding) as stream:
            while stream.read(1 << 20):
                pass
    except UnicodeError:
        return False
    return True
