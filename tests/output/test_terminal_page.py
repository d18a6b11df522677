"""A page in a terminal: what somebody copies stays whole, words wrap, and HTML has the pictures."""

import re

from visionops_assets.pages.html_page import to_html
from visionops_assets.pages.page import (
    Bullets,
    Card,
    Facts,
    Gallery,
    Heading,
    Link,
    Page,
    Paragraph,
    Picture,
    Sentence,
    Table,
)
from visionops_assets.pages.terminal_page import WIDTH

ADDRESS = f"https://here.example/{'a' * 120}"
DIGEST = "0123456789abcdef" * 4
LONG = "a reason of many words " * 12


def test_what_is_copied_is_neither_cut_nor_broken() -> None:
    rows = ((DIGEST, DIGEST, LONG), ("short", "–", "a"))
    page = Page(
        "t", (Facts((("commit", Link("main", ADDRESS)), ("why", LONG))), Table(("a", "b", "why"), rows))
    )
    lines = page.to_text().splitlines()
    assert any(ADDRESS in line.split() for line in lines)
    assert any(line.split()[:2] == [DIGEST, DIGEST] for line in lines)
    assert " ".join(page.to_text().split()).count("reason") == 24
    words = [line for line in lines if DIGEST not in line and ADDRESS not in line]
    assert max(map(len, words)) <= 2 * len(DIGEST) + 40


def test_words_wrap_at_the_width_and_nothing_ends_in_blanks() -> None:
    page = Page(
        LONG, (Heading("h"), Paragraph(LONG), Bullets((LONG, LONG)), Table(("n", "why"), (("1", LONG),)))
    )
    text = page.to_text()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert not re.search(r"[ \t]$", text, re.MULTILINE)


def test_numbers_stand_under_each_other_and_a_table_without_rows_has_its_head() -> None:
    text = Page("t", (Table(("batch", "images"), (("week-1", "5"), ("week-2", "1,250"))),)).to_text()
    assert "week-1       5\n" in text and "week-2   1,250\n" in text
    assert "batch" in Page("t", (Table(("batch", "images"), ()),)).to_text()


def test_a_command_keeps_its_backticks_and_a_gallery_says_what_its_cards_are() -> None:
    card = Card("week-1/3.png", (("label", "ring"),), ("data:image/png;base64,",))
    said = Paragraph(Sentence("see `visionops diff my_parts a@b`.", "FAIL"))
    text = Page("t", (said, Gallery((card,)), Picture(b"", "a sheet"))).to_text()
    assert "FAIL see `visionops diff my_parts a@b`." in text
    assert "week-1/3.png" in text and "label: ring" in text and "a sheet" in text and "data:" not in text


def test_html_shows_a_picture_with_its_caption_and_cards_beside_each_other() -> None:
    cards = Gallery((Card("one", (("a", "b"),), ("pictures/1.png",)), Card("two", ())))
    page = to_html(Page("t", (Picture(b"png", "a <sheet>"), cards)))
    assert '<figure><img src="data:image/png;base64,cG5n" alt="a &lt;sheet&gt;"' in page
    assert "<figcaption>a &lt;sheet&gt;</figcaption>" in page
    assert (
        page.count("<ul class=") == 1
        and '<img src="pictures/1.png"' in page
        and "<em>no picture</em>" in page
    )
