"""XML as annotation tools write it: in the encoding that it declares, or the one that is stated; without entities."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from visionops_assets.dataset.importing.plain_text import encoding_of, not_text, open_text
from visionops_assets.dataset.importing.source import SourceError
from visionops_assets.dataset.importing.source_files import SourceFile

_DECLARED = re.compile(rb"\s*<\?xml[^>]*encoding")
_HEAD = 1 << 16
_AT_ONCE = 1 << 16


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
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        raise SourceError(f"{path}: declares entities, which annotations do not need; it is not read")
    parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(("end",))
    # What the file declares itself comes before what is stated of all of them.
    own = encoding is None or _DECLARED.match(head) is not None
    try:
        with path.open() if own else open_text(path, encoding) as stream:
            while part := stream.read(_AT_ONCE):
                parser.feed(part)
                yield from _ended(parser)
        parser.close()
        yield from _ended(parser)
    except (ElementTree.ParseError, UnicodeError, LookupError) as error:
        supposed = encoding_of(path, None if own else encoding)
        if not _DECLARED.match(head) and not _is_text(path, supposed):
            raise not_text(path, supposed) from error
        raise SourceError(f"{path}: is not XML that can be read: {error}") from error


def _ended(parser: "ElementTree.XMLPullParser[ElementTree.Element]") -> Iterator[ElementTree.Element]:
    for event in parser.read_events():
        yield event[1]  # type: ignore[misc]


def _is_text(path: SourceFile, encoding: str) -> bool:
    try:
        path.read_bytes().decode(encoding)
    except UnicodeError:
        return False
    return True
