"""Odd names and the edges of pages."""

from pathlib import Path

import pytest
from lakefs_api import Repository

NAMES = [
    "plain",
    "with space",
    "ünïcödé/日本.png",
    "per%cent",
    "per%2Fcent",
    "plus+plus",
    "a?b=c&d",
    "hash#tag",
    "..",
    "../up",
    "a/../b",
    "./here",
    "/leading",
    "//double//slash",
    "trailing/",
    'quote"and\\backslash',
    "tab\tand\nnewline",
    "\u0001control",
    "emoji🎉",
    "p" * 1024,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_path_comes_back_as_it_was_given(repository: Repository, name: str) -> None:
    assert repository.put("main", name, name.encode())["path"] == name
    repository.commit("main")
    assert repository.get("main", name).body == name.encode()
    assert repository.stat("main", name).json["path"] == name
    assert repository.paths("main") == [name]
    assert repository.compare("main~1", "main") == {name: "added"}
    repository.delete("main", name)
    assert repository.paths("main") == []


def test_paths_are_listed_in_the_order_of_their_bytes(repository: Repository) -> None:
    names = [name for name in NAMES if len(name) < 100]
    for name in reversed(names):
        repository.put("main", name)
    ordered = sorted(names, key=str.encode)
    assert repository.paths("main", amount=3) == ordered
    repository.commit("main")
    assert repository.paths("main", amount=3) == ordered


def test_a_path_is_counted_in_bytes(repository: Repository) -> None:
    refused = repository.call("POST", "/branches/main/objects", {"path": "é" * 513}, body=b"x")
    assert (refused.status, "1026 is above maximum length (1024)" in refused.message) == (400, True)
    repository.put("main", "é" * 512)


@pytest.mark.parametrize("entries", [0, 1, 999, 1000, 1001])
def test_pages_end_where_they_say(repository: Repository, imports: Path, entries: int) -> None:
    folder = imports / str(entries)
    folder.mkdir()
    names = [f"{number:04d}" for number in range(entries)]
    for name in names:
        (folder / name).touch()
    repository.branch("filled")
    repository.put("filled", "0000")
    repository.commit("filled")
    repository.import_folder("filled", folder)
    first = repository.call("GET", "/refs/filled/objects/ls", {"amount": 1000}).json
    assert len(first["results"]) == min(entries, 1000)
    assert first["pagination"]["has_more"] == (entries > 1000)
    assert first["pagination"]["next_offset"] == ("0999" if entries > 1000 else "")
    assert repository.paths("filled", amount=1000) == names
    assert sorted(repository.compare("main", "filled", amount=1000)) == names


def test_a_common_prefix_is_passed_by_its_offset(repository: Repository) -> None:
    for name in ["a", "b/1", "b/2", "c/1", "d"]:
        repository.put("main", name)
    assert repository.paths("main", delimiter="/", amount=1) == ["a", "b/", "c/", "d"]
    page = repository.call("GET", "/refs/main/objects/ls", {"delimiter": "/", "after": "b/"})
    assert page.paths == ["c/", "d"]


def test_branches_and_tags_take_lakefs_names_only(repository: Repository) -> None:
    for name in ["with/slash", "with.dot", "-dash", "sp ace", "", "ünicode"]:
        answer = repository.call("POST", "/branches", data={"name": name, "source": "main"})
        assert answer.status == 400, name
    for name in ["", "sp ace", "a..b", "x~1", "x^", "x:y", "/x", "x/", "x.lock", "@", "a\x00b", ".hidden"]:
        answer = repository.call("POST", "/tags", data={"id": name, "ref": "main"})
        assert answer.status == 400, name
    repository.branch("ingest-week_07")
    assert repository.call("POST", "/tags", data={"id": "v1.0-rc", "ref": "main"}).status == 201


def test_branch_and_tag_names_do_not_collide(repository: Repository) -> None:
    repository.branch("taken")
    assert repository.call("POST", "/tags", data={"id": "taken", "ref": "main"}).status == 409
