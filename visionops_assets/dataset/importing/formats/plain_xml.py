"""XML as annotation tools write it: in the encoding that it declares, or the one that is stated; without entities."""

import re
import xml.etree.ElementTree as ElementTree
import xml.parsers.expat.errors as expat
from collections.abc import Iterator

from visionops_assets.dataset.importing.plain_text import encoding_of, not_text, open_text
from visionops_assets.dataset.importing.source import SourceError
from visionops_assets.dataset.importing.source_files import SourceFile
from visionops_assets.dataset.importing.source_limits import DEPTH, source_limits, too_much

_DECLARED = re.compile(rb"\s*<\?xml[^>]*encoding")
_HEAD = 1 << 16
_AT_ONCE = 1 << 16
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


def root_is(path: SourceFile, name: str) -> bool:
    """Whether the root of an XML file may be called so, by its beginning."""
    return re.search(rb"<" + name.encode() + rb"[\s>/]", path.head(_HEAD).replace(b"\0", b"")) is not None


def read_xml(path: SourceFile, encoding: str | None) -> ElementTree.Element:
    """A whole file. Raises `SourceError` naming it."""
    root = None
    for element in elements(path, encoding):
        root = element
    if root is None:
        raise SourceError(f"{path}: is not XML that can be read: it is empty")
    return root


def elements(path: SourceFile, encoding: str | None) -> Iterator[ElementTree.Element]:
    """Each element once it has ended, the root last. Raises `SourceError`."""
    head = path.head(_HEAD).replace(b"\0", b"")
    target = _Plain(path)
    parser = ElementTree.XMLParser(target=target)
    # What the file declares itself comes before what is stated of all of them.
    own = encoding is None or _DECLARED.match(head) is not None
    try:
        with path.open() if own else open_text(path, encoding) as stream:
            while part := stream.read(_AT_ONCE):
                parser.feed(part)
                yield from target.taken()
        parser.close()
        yield from target.taken()
    except (ElementTree.ParseError, UnicodeError, LookupError) as error:
        supposed = encoding_of(path, None if own else encoding)
        if not _DECLARED.match(head) and not _is_text(path, supposed):
            raise not_text(path, supposed) from error
        raise SourceError(f"{path}: is not XML that can be read: {_in_words(error)}") from error


def _in_words(error: ElementTree.ParseError | UnicodeError | LookupError) -> str:
    if not isinstance(error, ElementTree.ParseError):
        return "it says an encoding that it is not in, or that is not known; save it as UTF-8"
    line, column = error.position
    found = _FOUND.get(expat.messages.get(error.code, ""))
    return found.format(line) if found else f"line {line}, character {column + 1} is none; is it complete?"


class _Plain(ElementTree.TreeBuilder):
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


def _is_text(path: SourceFile, encoding: str) -> bool:
    try:
        with open_text(path, encoding) as stream:
            while stream.read(1 << 20):
                pass
    except UnicodeError:
        return False
    return True
