"""The `Range` header, as lakeFS reads it: one range of bytes."""

import re

from lakefs_local.http.call import Refusal

_ACCEPTED = re.compile(r"bytes=((\d*-\d*,? ?)+)", re.ASCII)
_ONE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def parse(header: str, size: int, etag: str) -> tuple[int, int]:
    """First and last byte (inclusive) of an object of `size` bytes.

    Raises Refusal: 400 for what is no range, 416 for several, a reversed one, or one outside the object.
    """
    # The length check keeps the repeated group from backtracking over a long header.
    if len(header) > 200 or not _ACCEPTED.fullmatch(header):
        raise Refusal(
            400,
            'parameter "Range" in header has an error: string doesn\'t match the regular expression '
            '"^bytes=((\\d*-\\d*,? ?)+)$"',
        )
    match = _ONE.fullmatch(header)
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
