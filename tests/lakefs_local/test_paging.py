"""Every listing pages alike: 100 by default, 1,000 at most, the offset exclusive."""

import pytest
from lakefs_api import Api, Repository

COUNT = 101


@pytest.fixture(scope="module")
def filled(api: Api) -> Repository:
    """A repository with 101 of everything that is listed."""
    repository = Repository(api, "filled")
    repository.branch("side")
    for number in range(COUNT):
        repository.put("side", f"{number:03d}")
        repository.commit("side")
        repository.put("main", f"{number:03d}")
        repository.branch(f"branch-{number:03d}")
        made = repository.call("POST", "/tags", data={"id": f"tag-{number:03d}", "ref": "side"})
        assert made.status == 201
    return repository


LISTINGS = [
    "/branches?prefix=branch-",
    "/tags",
    "/refs/side/objects/ls",
    "/refs/main/objects/ls",
    "/branches/main/diff",
    "/refs/main/diff/side",
    "/refs/main/diff/side?type=two_dot",
]


def test_a_page_holds_a_hundred_by_default_and_the_next_follows_its_offset(filled: Repository) -> None:
    for listing in [*LISTINGS, "/refs/side/commits?stop_at=main"]:
        path, _, filters = listing.partition("?")
        query = dict(item.split("=") for item in filters.split("&") if item)
        page = filled.call("GET", path, query).json
        # The log ends with the commit that it stops at.
        total = COUNT + ("stop_at" in filters)
        assert len(page["results"]) == 100 and page["pagination"]["results"] == 100, listing
        assert page["pagination"]["has_more"] and page["pagination"]["max_per_page"] == 1000
        last = page["results"][-1]
        assert page["pagination"]["next_offset"] == last.get("path", last.get("id"))
        rest = filled.call("GET", path, {**query, "after": page["pagination"]["next_offset"]}).json
        assert len(rest["results"]) == total - 100 and not rest["pagination"]["has_more"]
        assert rest["pagination"]["next_offset"] == ""
        for most in (0, -1, 1000):
            assert len(filled.call("GET", path, {**query, "amount": most}).json["results"]) == total
        assert filled.pages(path, **query, amount=7) == page["results"] + rest["results"]


@pytest.mark.parametrize("amount", ["1001", "-2", "x", "1.5", "1e3", " 1", "9" * 30])
def test_an_amount_beyond_the_limits_is_refused(repository: Repository, amount: str) -> None:
    for listing in [*LISTINGS, "/refs/main/commits"]:
        path = listing.partition("?")[0].replace("side", "main")
        refused = repository.call("GET", path, {"amount": amount})
        assert refused.status == 400 and "amount" in refused.message


def test_an_offset_beyond_the_end_gives_an_empty_page(filled: Repository) -> None:
    for listing in LISTINGS:
        page = filled.call("GET", listing.partition("?")[0], {"after": "zzz"}).json
        assert page["results"] == [] and page["pagination"]["next_offset"] == ""


def test_repositories_are_paged_too(api: Api) -> None:
    for number in range(3):
        Repository(api, f"paged-{number}")
    page = api.call("GET", "/repositories", {"prefix": "paged-", "amount": 2}).json
    assert [item["id"] for item in page["results"]] == ["paged-0", "paged-1"]
    rest = api.call("GET", "/repositories", {"prefix": "paged-", "after": "paged-1"}).json
    assert [item["id"] for item in rest["results"]] == ["paged-2"]
