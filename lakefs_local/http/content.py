"""The bytes of an object over HTTP: the first part called `content` of a multipart upload, taken out as it streams
in, and the one range of bytes that a `Range` header asks for, as lakeFS reads it.
"""

import re
from collections.abc import AsyncIterator
from email.message import Message

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from lakefs_local.http.exchange import Refusal

_PART_HEADERS_LIMIT = 16 << 10
_ACCEPTED_RANGES = re.compile(r"bytes=((\d*-\d*,? ?)+)", re.ASCII)
_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class ContentPart:
    """Feeds `MultipartParser` and keeps what belongs to the part called `content`; `content_type` is the part's."""

    def __init__(self, boundary: str):
        self.content_type = ""
        self.found = False
        self._inside = self._ended = False
        self._headers: dict[str, str] = {}
        self._name = self._value = b""
        self._header_bytes = 0
        self._ready: list[bytes] = []
        self._parser = MultipartParser(
            boundary.encode("latin-1"),
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
            },
        )

    async def chunks(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The part's bytes. Raises Refusal (400) if the body is not multipart, is cut short, or has no such part."""
        async for chunk in body:
            try:
                self._parser.write(chunk)
            except MultipartParseError as problem:
                raise Refusal(400, f"request body has an error: {problem}") from None
            for piece in self._ready:
                yield piece
            self._ready.clear()
        if not self.found:
            raise Refusal(400, "multipart upload missing key 'content'")
        if not self._ended:
            raise Refusal(400, "request body has an error: the multipart body ends before its content")

    def _part_begins(self) -> None:
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += self._bounded(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._bounded(data[start:end])

    def _header_ends(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def _headers_end(self) -> None:
        self._header_bytes = 0
        disposition = Message()
        disposition["content-disposition"] = self._headers.get("content-disposition", "")
        name = disposition.get_param("name", header="content-disposition")
        if not self.found and name == "content":
            self.found = self._inside = True
            self.content_type = self._headers.get("content-type", "")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._ready.append(data[start:end])

    def _part_ends(self) -> None:
        if self._inside:
            self._inside, self._ended = False, True

    def _bounded(self, piece: bytes) -> bytes:
        self._header_bytes += len(piece)
        if self._header_bytes > _PART_HEADERS_LIMIT:
            raise Refusal(400, "request body has an error: the headers of a part are too long")
        return piece


def boundary_of(content_type: str) -> str | None:
    """The boundary if this is a multipart form, else None. Raises Refusal (400) for a form without one."""
    header = Message()
    header["content-type"] = content_type
    if header.get_content_type() != "multipart/form-data":
        return None
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 70 or not boundary.isascii():
        raise Refusal(400, "no multipart boundary param in Content-Type")
    return boundary


def parse_range(header: str, size: int, etag: str) -> tuple[int, int]:
    """First and last byte (inclusive) of an object of `size` bytes.

    Raises Refusal: 400 for what is no range, 416 for several, a reversed one, or one outside the object.
    """
    # The length check keeps the repeated group from backtracking over a long header.
    if len(header) > 200 or not _ACCEPTED_RANGES.fullmatch(header):
        raise Refusal(
            400,
            'parameter "Range" in header has an error: string doesn\'t match the regular expression '
            '"^bytes=((\\d*-\\d*,? ?)+)$"',
        )
    match = _ONE_RANGE.fullmatch(header)
    if not match or not (match[1] or match[2]):
        raise _unsatisfiable(etag)
    if not match[1]:
        length = int(match[2])
        if length == 0 or size == 0:
            raise _unsatisfiable(etag, size)
        return max(0, size - length), size - 1
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        raise _unsatisfiable(etag)
    if first >= size:
        raise _unsatisfiable(etag, size)
    return first, min(last, size - 1)


def _unsatisfiable(etag: str, size: int | None = None) -> Refusal:
    headers = {"etag": etag}
    if size is not None:
        headers["content-range"] = f"bytes */{size}"
    return Refusal(416, "Requested Range Not Satisfiable", headers)
