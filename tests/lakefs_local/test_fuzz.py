"""Anything at all may be sent: the answer is never a crash, never tells of the inside, never leaves the folder."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakefs_api import Answer, Api, Repository

from lakefs_local.http.router import operations

NOT_SUPPORTED = 501
OPERATIONS = operations()
ANY_TEXT = st.text(max_size=40)
ODD_TEXT = st.sampled_from(
    ["", ".", "..", "../../etc/passwd", "/etc/passwd", "%00", "\x00", "a\r\nX: y", "main", "main~1", "main@", "$", "~",
     "^^^", "-1", "1e9", "99999999999999999999", "{}", "[]", "null", "true", "%ff", "é" * 200, "a" * 3000]
)  # fmt: skip
TEXT = ODD_TEXT | ANY_TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["name", "source", "message", "metadata", "paths", "ref", "id", "type", "path", "commit", "strategy", "keys",
     "storage_namespace", "default_branch", "staging", "checksum", "size_bytes", "src_path", "set", "parent_number",
     "date", "mtime", "content_type", "force", "allow_empty", "user_metadata", "commit_overrides"]
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(FIELDS, JSON, max_size=5).map(lambda value: json.dumps(value).encode()),
)
QUERIES = st.dictionaries(
    st.sampled_from(
        ["path", "prefix", "after", "amount", "delimiter", "ref", "id", "type", "force", "user_metadata", "since",
         "dest_path", "stop_at", "objects", "prefixes", "limit", "presign", "compare"]
    ),
    TEXT,
    max_size=4,
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Range", "If-None-Match", "If-Match", "Content-Type", "x-lakefs-meta-a", "Sec-Fetch-Site", "Expect-Nothing"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60).map(str.strip),
    max_size=3,
)  # fmt: skip

FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck))


def check(answer: Answer) -> None:
    """What must hold of any answer to anything."""
    assert answer.status < 500 or answer.status == NOT_SUPPORTED, answer
    assert b"Traceback" not in answer.body and b".py" not in answer.body
    if answer.status >= 400 and answer.body:
        assert answer.message or answer.status == 409


@pytest.fixture(scope="module")
def target(api: Api) -> Repository:
    """A repository to throw things at, which keeps one object."""
    made = Repository(api, "target")
    made.put("main", "kept", b"kept")
    made.commit("main")
    made.branch("odd")
    return made


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_no_request_crashes_the_server(target: Repository, data: Path, count) -> None:  # type: ignore[no-untyped-def]
    outside = files(data.parent) - files(data)
    passwords = Path("/etc/passwd").read_bytes()

    @settings(FUZZ, max_examples=count(150, 5_000))
    @given(st.sampled_from(OPERATIONS), st.data(), QUERIES, HEADERS, BODIES)
    def throw(operation, draw, query, headers, body) -> None:  # type: ignore[no-untyped-def]
        method, template, name = operation
        if name in ("delete_repository", "get_physical_address"):
            # The first would take the target away; the second answers 500 to `presign`, as the recorded lakeFS does.
            return
        path = ""
        for segment in template.strip("/").split("/"):
            if segment == "{repository}":
                segment = "target"
            elif segment.startswith("{"):
                segment = quote(draw.draw(st.just("main") | TEXT), safe="")
            path += f"/{segment}"
        answer = target.api.send(
            method,
            f"/api/v1{path}?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items()),
            body if method not in ("GET", "HEAD") else None,
            {"Authorization": target.api.authorization, **headers},
        )
        check(answer)
        assert passwords not in answer.body

    throw()
    assert files(data.parent) - files(data) == outside
    assert target.get("main@", "kept").status in (200, 404)
    assert target.api.call("GET", "/repositories/target").status == 200


VALID_BODIES = {
    "": ("POST", {"name": "other-repository", "storage_namespace": "local://other"}),
    "/target/metadata": ("POST", {"metadata": {"a": "b"}}),
    "/target/branches": ("POST", {"name": "made", "source": "main", "hidden": False}),
    "/target/branches/odd": ("PUT", {"type": "object", "path": "a"}),
    "/target/branches/odd/commits": ("POST", {"message": "m", "date": 1, "metadata": {}, "allow_empty": True}),
    "/target/branches/odd/revert": ("POST", {"ref": "main", "parent_number": 0, "commit_overrides": {"message": "m"}}),
    "/target/branches/odd/cherry-pick": ("POST", {"ref": "main", "parent_number": 1}),
    "/target/branches/odd/objects/delete": ("POST", {"paths": ["a"]}),
    "/target/branches/odd/objects/copy": ("POST", {"src_path": "kept", "src_ref": "main"}),
    "/target/branches/odd/objects/stat/user_metadata": ("PUT", {"set": {"a": "b"}}),
    "/target/branches/odd/staging/backing": (
        "PUT",
        {"staging": {"physical_address": "local:///a"}, "checksum": "c", "size_bytes": 1, "mtime": 1,
         "content_type": "x", "user_metadata": {}},
    ),
    "/target/branches/odd/import": (
        "POST",
        {"paths": [{"type": "object", "path": "local:///a", "destination": "a"}],
         "commit": {"message": "m", "date": 1}},
    ),
    "/target/refs/main/merge/odd": ("POST", {"message": "m", "metadata": {}, "strategy": "", "squash_merge": True}),
    "/target/tags": ("POST", {"id": "made", "ref": "main"}),
}  # fmt: skip
ODD_VALUES = [None, True, 0, -1, 1 << 61, -(1 << 61), 1 << 80, 1.5, "", "..", "x\0y", "\ud800", "x" * 3000, [], [None],
              {}, {"a": 1}, {"\ud800": ""}]  # fmt: skip


def mutated(value: object) -> Iterator[object]:
    """The value with one part of it at a time replaced by something odd, or gone."""
    yield from ODD_VALUES
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {name: other for name, other in value.items() if name != key}
            yield from ({**value, key: odd} for odd in mutated(inner))
    if isinstance(value, list):
        yield from ([odd] for odd in mutated(value[0]))


@pytest.mark.parametrize("path", VALID_BODIES, ids=lambda path: path.rpartition("/")[2] or "repositories")
def test_no_field_of_a_body_crashes_the_server(target: Repository, path: str) -> None:
    method, valid = VALID_BODIES[path]
    for body in mutated(valid):
        check(target.api.call(method, f"/repositories{path}", {"path": "a", "dest_path": "a"}, data=body))
    assert target.api.call("GET", "/repositories/target").status == 200


@pytest.mark.parametrize("since", ["0001-01-01", "9999-12-31T23:59:59", "x", "2020-13-01T00:00:00Z", "1e400"])
def test_a_log_since_an_odd_time_is_given_or_refused(target: Repository, since: str) -> None:
    assert target.call("GET", "/refs/main/commits", {"since": since}).status in (200, 400)


@settings(FUZZ, max_examples=200)
@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,4}-\d{0,4}(, ?\d{0,3}-\d{0,3})?", fullmatch=True))
def test_a_range_gives_those_bytes_or_is_refused(api: Api, target: Repository, header: str) -> None:
    try:
        header.encode("latin-1")
    except UnicodeEncodeError:
        return
    if any(ord(character) < 32 or ord(character) == 127 for character in header):
        return
    whole = b"0123456789"
    target.put("main", "ranged", whole)
    answer = target.get("main", "ranged", Range=header)
    check(answer)
    assert answer.status in (200, 206, 400, 416)
    if answer.status == 206:
        span, _, total = answer.headers["content-range"].removeprefix("bytes ").partition("/")
        first, last = map(int, span.split("-"))
        assert (answer.body, int(total)) == (whole[first : last + 1], len(whole))


RAW = [
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET \x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /api/v1/repositories HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /api/v1/repositories HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /api/v1/../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/repositories/%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("sent", RAW, ids=range(len(RAW)))
def test_broken_http_is_refused_and_the_next_client_served(api: Api, sent: bytes) -> None:
    with socket.create_connection((api.host, api.port or 0), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    assert b"Traceback" not in received and b"root:" not in received
    assert b" 200 " not in received.split(b"\r\n")[0]
    assert api.call("GET", "/healthcheck").status == 204


def test_an_upload_that_breaks_off_stores_nothing(api: Api, target: Repository, data: Path) -> None:
    with socket.create_connection((api.host, api.port or 0), timeout=10) as connection:
        head = (
            "POST /api/v1/repositories/target/branches/main/objects?path=broken HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {api.authorization}\r\nContent-Length: 3000000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"x" * 2_000_000)
    assert target.stat("main", "broken").status == 404
    assert api.call("GET", "/healthcheck").status == 204
    # Its thread may come to it late, but comes.
    while list((data / "incoming").iterdir()):
        assert api.call("GET", "/healthcheck").status == 204


MULTIPART = [
    (b"", "multipart/form-data; boundary=x"),
    (b"--x\r\n", "multipart/form-data; boundary=x"),
    (b"no boundary here", "multipart/form-data; boundary=x"),
    (
        b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
    ),
    (b'--x\r\nContent-Disposition: form-data; name="content"\r\n\r\ncut', "multipart/form-data; boundary=x"),
    (b"--x\r\nA: " + b"b" * 40_000 + b"\r\n\r\n1\r\n--x--\r\n", "multipart/form-data; boundary=x"),
    (b"1", "multipart/form-data"),
    (b"1", "multipart/form-data; boundary="),
]


@pytest.mark.parametrize(("body", "kind"), MULTIPART, ids=range(len(MULTIPART)))
def test_a_broken_multipart_upload_is_refused(target: Repository, body: bytes, kind: str) -> None:
    answer = target.call(
        "POST", "/branches/main/objects", {"path": "multi"}, body=body, headers={"Content-Type": kind}
    )
    assert answer.status == 400, answer
    assert target.stat("main", "multi").status == 404


@given(st.integers(1, 40), st.binary(max_size=300))
@settings(FUZZ, max_examples=60)
def test_a_multipart_upload_stores_its_content_however_it_is_cut(size: int, content: bytes) -> None:
    import asyncio

    from lakefs_local.http.content import ContentPart

    form = (
        b'--bound\r\nContent-Disposition: form-data; name="other"\r\n\r\nnot this\r\n'
        b'--bound\r\nContent-Disposition: form-data; name="content"; filename="f"\r\nContent-Type: image/png\r\n\r\n'
        + content
        + b'\r\n--bound\r\nContent-Disposition: form-data; name="content"\r\n\r\nnor this\r\n--bound--\r\n'
    )

    async def pieces():  # type: ignore[no-untyped-def]
        for start in range(0, len(form), size):
            yield form[start : start + size]

    async def read() -> tuple[bytes, str]:
        part = ContentPart("bound")
        return b"".join([chunk async for chunk in part.chunks(pieces())]), part.content_type

    if b"--bound" not in content:
        assert asyncio.run(read()) == (content, "image/png")
