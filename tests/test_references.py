"""What docs/ and README say of settings, of the project file and of the command line is what the code says."""

import re
from importlib import util
from pathlib import Path

import pytest

from resources.home import ROOT
from resources.settings import VARIABLES

SPEC = util.spec_from_file_location("references", ROOT / "docs" / "references.py")
assert SPEC is not None and SPEC.loader is not None
references = util.module_from_spec(SPEC)
SPEC.loader.exec_module(references)
PAGES: dict[Path, str] = references.pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_as_the_code_says(page: Path) -> None:
    assert page.is_file() and page.read_text() == PAGES[page], (
        f"{page.relative_to(ROOT)} is not what the code says: run `make docs`, and commit what it writes"
    )


def test_a_table_that_was_edited_by_hand_is_made_anew() -> None:
    page = "a\n<!-- settings: VISIONOPS_HOME -->\nmy own words\n<!-- end of settings -->\nb\n"
    made = references.with_settings(page, "docs/")
    assert "my own words" not in made and "| `VISIONOPS_HOME` |" in made
    assert made.startswith("a\n") and made.endswith("b\n")
    assert references.with_settings(made, "docs/") == made


def test_every_field_of_the_project_file_says_what_it_is() -> None:
    text = PAGES[ROOT / "docs" / "project-file.md"]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    assert len(rows) > 120
    assert [field for field, told in rows if not told.strip()] == []


def test_every_setting_stands_in_the_table_for_operators() -> None:
    told = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(VARIABLES)


@pytest.mark.parametrize("page", ["command-line.md", "project-file.md"])
def test_every_link_within_a_page_leads_somewhere(page: str) -> None:
    text = PAGES[ROOT / "docs" / page]
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    links = re.findall(r"\]\(#([\w-]+)\)", text)
    assert len(links) > 20 and set(links) <= anchors


def test_where_a_setting_says_more_there_is_a_page() -> None:
    for page, text in PAGES.items():
        for link in re.findall(r"\[more\]\(([^)#]+)", text):
            assert (page.parent / link).is_file(), f"{page.name} leads to {link}"


def test_nothing_of_this_machine_is_in_a_page() -> None:
    for text in PAGES.values():
        assert str(ROOT) not in text and str(Path.home()) + "/" not in text
