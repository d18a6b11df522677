"""Pages at lakeFS's own UI addresses: every link opens, nothing stored can run."""

import struct
import zlib
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin

import pytest
from lakefs_api import Answer, Api, Repository

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
    return api.send("GET", target, headers={"Authorization": api.authorization})


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


def test_a_browser_is_asked_for_the_key_pair(api: Api, shown: Repository) -> None:
    answer = api.send("GET", f"/repositories/{shown.name}/objects?ref=main&path=")
    assert (answer.status, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")
    assert shown.name not in answer.body.decode()
    assert "www-authenticate" not in api.send("GET", "/api/v1/repositories").headers


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
