"""Addresses of DVC data: repository, path and revision are told apart."""

from pathlib import Path

import pytest

from visionops.dvc.source_address import DVCAddress, DVCError, parse_address


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "parts" / ".dvc").mkdir(parents=True)
    (tmp_path / "parts" / "odd@name").mkdir()
    return tmp_path / "parts"


@pytest.mark.parametrize(
    ("given", "path", "revision"),
    [
        ("", "", None),
        ("/data/images", "data/images", None),
        ("/data/images@v1.2", "data/images", "v1.2"),
        ("/data/images@feature/lens", "data/images", "feature/lens"),
        ("//data/images@HEAD~1", "data/images", "HEAD~1"),
        ("/data.dvc@v1", "data", "v1"),
        ("/odd@name", "odd@name", None),
    ],
)
def test_a_local_repository_is_found_above_its_path(local: Path, given: str, path: str, revision: str | None):
    assert parse_address(f"dvc://{local}{given}") == DVCAddress(str(local), path, revision)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "https://git.example.com/vision/parts//data@v1",
            DVCAddress("https://git.example.com/vision/parts", "data", "v1"),
        ),
        (
            "https://ada:secret@git.example.com/vision/parts.git",
            DVCAddress("https://ada:secret@git.example.com/vision/parts.git", "", None),
        ),
        (
            "git@git.example.com:vision/parts//data@v1",
            DVCAddress("git@git.example.com:vision/parts", "data", "v1"),
        ),
        ("git@git.example.com:vision/parts", DVCAddress("git@git.example.com:vision/parts", "", None)),
        ("ssh://git@git.example.com/parts//a/b", DVCAddress("ssh://git@git.example.com/parts", "a/b", None)),
    ],
)
def test_a_git_url_has_its_path_after_two_slashes(given: str, expected: DVCAddress):
    found = parse_address(f"dvc://{given}")
    assert found == expected
    assert "secret" not in found.shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "names no path"),
        ("{}/data@", "names no revision after @"),
        ("{}//../elsewhere", "leads out of the repository"),
        ("{}/../elsewhere", "is a DVC repository"),
        ("{}/..", "is a DVC repository"),
    ],
)
def test_an_address_that_cannot_be_says_why(local: Path, given: str, said: str):
    with pytest.raises(DVCError, match=said):
        parse_address(f"dvc://{given.format(local)}")
