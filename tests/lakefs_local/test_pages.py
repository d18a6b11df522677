"""Pages at lakeFS's own UI addresses: every link opens, nothing stored can run."""

import os
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from lakefs_api import Answer, Api, Repository

from lakefs_local.discovery import serving

EVIL = '<script>alert("1")</script>'


def png() -> bytes:
    """A picture of one grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0\x80"))
        + chunk(b"IEND", b"")
    )


class Links(HTMLParser):
    """Collects where a page leads, and what it runs."""

    def __init__(self, page: str):
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            if name == "href":
                self.links.append(value or "")
            if name == "src":
                self.pictures.append(value or "")
            if name.startswith("on") or (value or "").lower().startswith("javascript:"):
                self.handlers.append(f"{name}={value}")


def visit(api: Api, address: str, **query: str) -> Answer:
    target = address + (f"?{urlencode(query)}" if query else "")
    return api.send("GET", target)


@pytest.fixture
def shown(repository: Repository) -> Repository:
    """A repository with pictures, odd names, a link in a commit, a branch and a tag."""
    for number in range(105):
        repository.put("main", f"batches/week 1/images/{number:03d}.png", png())
    repository.put("main", f"batches/{EVIL}/x.html", EVIL.encode(), Content_Type="text/html")
    repository.put("main", "fake.png", EVIL.encode(), Content_Type="image/png")
    repository.put("main", "drawing.svg", f"<svg>{EVIL}</svg>".encode(), Content_Type="image/svg+xml")
    repository.put("main", "notes.txt", "ünïcödé & <b>".encode(), x_lakefs_meta_note=EVIL)
    metadata = {
        "::lakefs::Dagster::url[url:ui]": "http://127.0.0.1:3000/runs/1",
        "::lakefs::Evil::url[url:ui]": "javascript:alert(1)",
        EVIL: EVIL,
    }
    repository.commit("main", f"first {EVIL}", metadata=metadata)
    repository.branch("side")
    repository.put("side", "only-there.png", png())
    repository.delete("side", "notes.txt")
    repository.commit("side", "on the side")
    repository.call("POST", "/tags", data={"id": "v1", "ref": "main"})
    return repository


def test_every_link_of_every_page_opens(api: Api, shown: Repository) -> None:
    start = f"/repositories/{shown.name}"
    pending, seen = [f"{start}/objects?ref=main&path=", f"{start}/compare?ref=main&compare=side"], set()
    while pending:
        address = pending.pop()
        if address in seen or address.startswith("http"):
            continue
        seen.add(address)
        answer = visit(api, address)
        assert answer.status == 200, (address, answer)
        if not answer.headers["content-type"].startswith("text/html; charset"):
            continue
        page = Links(answer.body.decode())
        assert "script" not in page.tags and page.handlers == [], address
        assert "script-src" not in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        pending += [urljoin(address, link) for link in page.links if not link.startswith("http")]
    kinds = ("objects", "object", "commits", "branches", "tags", "preview")
    assert all(
        any(f"/{shown.name}/{kind}" in address for address in seen) or kind == "preview" for kind in kinds
    )
    assert len(seen) > 120


def test_a_folder_shows_its_pictures_and_the_way_back(api: Api, shown: Repository) -> None:
    answer = visit(api, f"/repositories/{shown.name}/objects", ref="main", path="batches/week 1/images/")
    page = Links(answer.body.decode())
    assert len(page.pictures) == 100
    picture = visit(api, page.pictures[0])
    assert (picture.status, picture.headers["content-type"], picture.body) == (200, "image/png", png())
    assert f"/repositories/{shown.name}/objects?ref=main&path=batches%2F" in page.links
    following = Links(visit(api, page.links[-1]).body.decode())
    assert len(following.pictures) == 5


def test_what_is_no_raster_image_is_never_shown_as_one(api: Api, shown: Repository) -> None:
    for path in ["fake.png", "drawing.svg", f"batches/{EVIL}/x.html", "notes.txt"]:
        refused = visit(api, f"/repositories/{shown.name}/preview", ref="main", path=path)
        assert refused.status == 415
        assert refused.headers["content-type"].startswith("text/html; charset")
        assert EVIL not in refused.body.decode()


def test_stored_text_is_shown_escaped(api: Api, shown: Repository) -> None:
    page = visit(
        api, f"/repositories/{shown.name}/object", ref="main", path=f"batches/{EVIL}/x.html"
    ).body.decode()
    assert "&lt;script&gt;" in page and EVIL not in page
    notes = visit(api, f"/repositories/{shown.name}/object", ref="main", path="notes.txt").body.decode()
    assert "ünïcödé &amp; &lt;b&gt;" in notes and EVIL not in notes


def test_a_commit_shows_its_changes_and_its_link_back(api: Api, shown: Repository) -> None:
    commit = shown.head("side")
    page = visit(api, f"/repositories/{shown.name}/commits/{commit}").body.decode()
    assert "only-there.png" in page and ">added<" in page and ">removed<" in page
    first = shown.log("main")[0]["id"]
    told = Links(visit(api, f"/repositories/{shown.name}/commits/{first}").body.decode())
    assert "http://127.0.0.1:3000/runs/1" in told.links
    assert not any(link.startswith("javascript") for link in told.links)


def test_a_comparison_shows_what_a_merge_would_bring(api: Api, shown: Repository) -> None:
    page = visit(api, f"/repositories/{shown.name}/compare", ref="main", compare="side").body.decode()
    assert "only-there.png" in page and "notes.txt" in page


def test_an_object_is_downloaded_byte_for_byte_and_shown_by_no_browser(api: Api, shown: Repository) -> None:
    path = f"batches/{EVIL}/x.html"
    answer = visit(api, f"/repositories/{shown.name}/download", ref="main", path=path)
    assert (answer.status, answer.body) == (200, EVIL.encode())
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''x.html"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:8000", "[::1]:8000", "127.9.9.9:1"])
def test_whoever_sits_at_the_machine_needs_no_key_pair_for_pages(
    api: Api, repository: Repository, host: str
) -> None:
    page = f"/repositories/{repository.name}/commits?ref=main"
    assert api.send("GET", page, headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    ],
)
def test_a_link_on_another_systems_page_opens_and_shows_its_pictures(
    api: Api, repository: Repository, sent: dict[str, str]
) -> None:
    assert api.send("GET", f"/repositories/{repository.name}/objects?ref=main", headers=sent).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        # A name of somebody else's that was made to point to this machine.
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Host": "0.0.0.0"},
        {"Host": "192.168.1.5:8000"},
        # Somebody else's page that shows a picture or a frame of ours, or reads it.
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        # A proxy on this machine that asks for somebody on another one.
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"Via": "1.1 proxy"},
        # A key pair that is wrong does no harm, and no good.
        {"Host": "evil.example", "Authorization": "Basic YTpi"},
    ],
)
def test_whoever_asks_from_elsewhere_is_asked_for_the_key_pair(
    api: Api, repository: Repository, sent: dict[str, str]
) -> None:
    page = f"/repositories/{repository.name}/objects?ref=main&path="
    answer = api.send("GET", page, headers=sent)
    assert (answer.status, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")
    assert repository.name not in answer.body.decode()
    if "Authorization" not in sent:
        signed_in = {"Authorization": api.authorization, **sent}
        assert api.send("GET", page, headers=signed_in).status == 200


def test_the_api_always_asks_for_the_key_pair(api: Api, shown: Repository) -> None:
    for address in (
        "/api/v1/repositories",
        f"/api/v1/repositories/{shown.name}/refs/main/objects?path=notes.txt",
    ):
        answer = api.send("GET", address)
        assert answer.status == 401 and "www-authenticate" not in answer.headers
    assert api.send("POST", "/_lakefs_local/collect", b"").status == 401


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"login": True}])
def test_a_server_for_others_too_or_told_to_ask_shows_nothing_without_a_key_pair(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with serving(tmp_path, **options) as server:
        address = urlsplit(server.endpoint)._replace(netloc=f"127.0.0.1:{urlsplit(server.endpoint).port}")
        api = Api(replace(server, endpoint=address.geturl()))
        assert visit(api, "/repositories").status == 401
        assert api.send("GET", "/repositories", headers={"Authorization": api.authorization}).status == 200


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux says whose a connection is")
def test_another_user_of_the_machine_is_asked_for_the_key_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = os.geteuid()
    with serving(tmp_path) as server:
        assert visit(Api(server), "/repositories").status == 200
        # The server runs in this process: it takes itself for another user's, the client stays whose it is.
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        assert visit(Api(server), "/repositories").status == 401


@pytest.mark.parametrize(
    "address",
    [
        "/objects?ref=nowhere",
        "/object?ref=main&path=absent",
        "/object?ref=main",
        "/commits/abc",
        "/compare?ref=main",
    ],
)
def test_what_is_not_there_is_said_on_a_page(api: Api, shown: Repository, address: str) -> None:
    answer = visit(api, f"/repositories/{shown.name}{address}")
    assert answer.status in (400, 404)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_pages_can_only_be_read(api: Api, shown: Repository) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = api.send(
            method, f"/repositories/{shown.name}/objects", b"", {"Authorization": api.authorization}
        )
        assert answer.status == 404
