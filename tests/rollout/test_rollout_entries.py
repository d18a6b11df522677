"""A rollout is the fold of its entries: whatever is written twice or late, it stands where they say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from resources.models.model_versions import TAG_LENGTH
from visionops_assets.config.rollout_rules import BadWaves
from visionops_assets.rollout.rollouts import (
    ENDS,
    KINDS,
    Asked,
    BadEntry,
    Entry,
    Rollout,
    RolloutRefused,
    folded,
    in_progress,
    led_on,
    start,
)

NOW = datetime(2026, 11, 29, 17, 15, tzinfo=UTC)
ASKED = Asked("digits", "line-1", 2, (0.1, 0.5, 1.0), ("line-1", "line-3"), 20, passed=True, base=1)
BY = {"who": "ada", "why": "it is time"}


def begun(**changes: Any) -> Entry:
    return start(replace(ASKED, **changes), [], when=NOW, **BY)


def step(kind: Any, minutes: int = 1, **changes: Any) -> Entry:
    first = begun()
    return Entry(first.rollout, first.group, kind, NOW + timedelta(minutes=minutes), "ada", "so", **changes)


def stands(*entries: Entry) -> Rollout:
    (found,) = folded([begun(), *entries])
    return found


def test_a_rollout_goes_through_its_waves_to_its_end() -> None:
    found = stands()
    assert (found.id, found.wave, found.wave_began) == ("20261129T171500-line-1-v2", 0, NOW)
    found = stands(step("wave", 5, wave=1), step("pause"), step("wave", 9, wave=2))
    assert (found.wave, found.last_wave, found.paused) == (2, True, True)
    assert found.wave_began == NOW + timedelta(minutes=9)
    assert stands(step("pause"), step("resume")).paused is False
    assert stands(step("hold")).held == "so" and stands(step("hold"), step("wave", wave=1)).held == ""
    for kind, said in ENDS.items():
        assert stands(step(kind)).end == step(kind)
        assert stands(step(kind), step("wave", wave=1), step("complete")).ended == said


def test_what_a_person_said_in_any_script_fits_a_tag() -> None:
    """Else a rollback with a long reason in Chinese would keep the rollout from its end, and all others with it."""
    entry = replace(step("moved"), why="\u5de5" * 2000)
    assert len(entry.to_json()) <= TAG_LENGTH and Entry.from_json(entry.to_json()) == entry


@given(some.lists(some.tuples(some.sampled_from(KINDS), some.integers(0, 4)), max_size=12), some.data())
def test_an_entry_that_is_written_twice_changes_nothing(told: list[tuple[Any, int]], data: Any) -> None:
    entries = [begun(), *(step(kind, number, wave=wave) for number, (kind, wave) in enumerate(told))]
    at = data.draw(some.integers(0, len(entries) - 1))
    (once,), (twice,) = folded(entries), folded([*entries[: at + 1], entries[at], *entries[at + 1 :]])
    assert once == twice and 0 <= once.wave < len(once.waves)
    # Waves only rise, whatever comes.
    waves = [folded(entries[: size + 1])[0].wave for size in range(len(entries))]
    assert waves == sorted(waves)


def test_entries_are_stored_and_read_back() -> None:
    for entry in (begun(), step("wave", wave=1)):
        assert Entry.from_json(entry.to_json()) == entry
    for wrong in ("", "5", "{}", begun().to_json().replace('"format": 1', '"format": 2')):
        with pytest.raises(BadEntry):
            Entry.from_json(wrong)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"group": "line-2"}, "digits has no device group line-2 that follows .*There are: line-1"),
        (
            {"passed": False},
            "version 2 of digits has neither a PASS nor an override: `visionops why digits --model-version 2`",
        ),
        ({"on_hold": "FAIL at 17:16"}, r"line-1 is on hold \(FAIL at 17:16\): `visionops release digits"),
        ({"base": 2}, "line-1 runs version 2 already"),
        ({"base": None}, "line-1 runs nothing that its devices could go back to: `visionops promote digits"),
        ({"devices": 0}, "no device of line-1 was heard of.*`visionops fleet status digits`"),
    ],
)
def test_what_cannot_be_rolled_out_is_one_line_with_the_fix(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RolloutRefused, match=said):
        begun(**changes)


def test_a_group_has_one_rollout_at_a_time_and_waves_rise() -> None:
    first = folded([begun()])
    with pytest.raises(RolloutRefused, match="line-1 has the rollout 20261129T171500-line-1-v2 in progress"):
        start(replace(ASKED, version=3), first, when=NOW, **BY)
    assert start(replace(ASKED, group="line-3"), first, when=NOW, **BY).group == "line-3"
    ended = folded([begun(), step("abort")])
    assert in_progress(ended, "line-1") is None
    assert start(replace(ASKED, version=3), ended, when=NOW, **BY).version == 3
    with pytest.raises(BadWaves, match="waves rise"):
        begun(waves=(0.5, 0.1, 1.0))


def test_a_person_leads_on_only_what_is_in_progress_and_says_why() -> None:
    found = stands()
    assert led_on(found, "wave", when=NOW, **BY).wave == 1
    assert stands(led_on(found, "pause", when=NOW, **BY)).paused
    for kind, at, said in (
        ("resume", found, "is not paused"),
        ("pause", stands(step("pause")), "is paused already"),
        ("wave", stands(step("wave", wave=2)), "in its last wave"),
        ("pause", stands(step("complete")), r"is over \(complete\): start another"),
    ):
        with pytest.raises(RolloutRefused, match=said):
            led_on(at, kind, when=NOW, **BY)  # type: ignore[arg-type]
    with pytest.raises(RolloutRefused, match="say why"):
        led_on(found, "abort", when=NOW, who="ada", why=" ")
