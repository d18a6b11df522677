"""A name that is not there: what the person may have meant is said, and nothing that is far from it."""

import pytest
from pydantic import BaseModel

from resources.nearest import did_you_mean, fields_beside, meant_field, nearest, there_are

WEEKS = [f"week-{number:02d}" for number in range(1, 25)]


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("digts", ["digits", "parts"], ["digits"]),
        ("week-3", WEEKS, ["week-03"]),
        ("Week_07", WEEKS, ["week-07"]),
        ("week 12", WEEKS, ["week-12"]),
        ("wek-01", ["week-01", "week-02"], ["week-01"]),
        ("mian", ["main", *WEEKS], ["main"]),
        ("champ", ["champion", "challenger"], ["champion"]),
        ("20261130T021127", ["20261130T021127-9f4e747fd233", "20261130T021048-1b512b58fa67"], None),
        ("optimizer", ["optimiser", "epochs"], ["optimiser"]),
        ("zebra", ["digits", "parts"], []),
        ("x", [], []),
        ("", ["digits"], []),
    ],
)
def test_what_is_near_is_named_and_nothing_else(
    typed: str, known: list[str], meant: list[str] | None
) -> None:
    assert nearest(typed, known) == (known[:1] if meant is None else meant)


def test_names_that_are_as_near_are_all_named_up_to_three() -> None:
    assert len(nearest("week-", WEEKS)) == 3
    assert len(nearest("week-99", WEEKS)) <= 3


def test_a_message_ends_with_what_was_meant_and_what_there_is() -> None:
    assert there_are("digts", ["digits", "parts"]) == "did you mean digits? There are: digits, parts"
    assert there_are("zebra", ["digits"]) == there_are("", ["digits"]) == "there are: digits"
    assert there_are("digits", ["digits", "parts"]) == "there are: digits, parts", "it was typed right"
    assert there_are("zebra", []) == "there are: none"
    assert there_are("zebra", WEEKS).startswith("there are: 24, the last of them week-15")
    assert did_you_mean("zebra", ["digits"]) == "" and did_you_mean("zebra", ["digits"], ".") == "."


class Inner(BaseModel):
    rate: float = 0


class Other(BaseModel):
    degrees: float = 0


class Outer(BaseModel):
    inner: Inner | None = None
    several: tuple[Inner | Other, ...] = ()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (("innner",), ["inner", "several"]),
        (("inner", "rat"), ["rate"]),
        (("several", 0, "degree"), ["degrees", "rate"]),
        (("nowhere", "at", "all"), ["inner", "several"]),
    ],
)
def test_the_fields_beside_a_wrong_one_are_found_at_any_depth(
    path: tuple[str | int, ...], fields: list[str]
) -> None:
    assert fields_beside(Outer, path) == fields


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        (("degrees",), "; did you mean several.degrees?"),
        (("rate",), "; did you mean inner.rate or several.rate?"),
        (("innner",), "; did you mean inner?"),
        (("inner", "Degrees"), "; did you mean several.degrees?"),
        (("degreees",), "; did you mean several.degrees?"),
        (("inner", "rat"), "; did you mean rate?"),
        (("zebra",), ": none"),
    ],
)
def test_a_field_that_stands_in_the_wrong_place_is_named_where_it_belongs(
    path: tuple[str | int, ...], meant: str
) -> None:
    assert meant_field(Outer, path, ": none") == meant
