"""The embedded server answers as the recorded lakeFS did, step by step."""

import json
from argparse import Namespace
from pathlib import Path

import conformance
import pytest
from scenario import scenario

from lakefs_local.discovery import serving

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())["steps"]
SECTIONS = sorted({name.partition("/")[0] for name in GOLDEN})

UNRECORDED = "unrecorded/"
"""Begins the names of steps that this project relies on and that no real lakeFS has been asked yet."""

EXCEPTIONS: dict[str, str] = {}
"""Steps that differ on purpose, with the reason."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the embedded server answers to every step."""
    folder = tmp_path_factory.mktemp("conformance")
    imports = folder / "imports"
    imports.mkdir()
    with serving(folder / "data", import_from=[imports]) as server:
        arguments = Namespace(
            endpoint=server.endpoint,
            key=server.access_key_id,
            secret=server.secret_access_key,
            import_dir=str(imports),
            only="",
            settle=0,
        )
        session = conformance.Session(arguments, GOLDEN)
        scenario(session)
        return session.got


@pytest.mark.parametrize("section", SECTIONS)
def test_every_recorded_answer_is_given_again(answers: dict, section: str) -> None:
    problems = []
    for name, want in GOLDEN.items():
        have = answers.get(name)
        if name.partition("/")[0] != section or name in EXCEPTIONS:
            continue
        parts = [part for part in sorted(want) if part != "request" and (have or {}).get(part) != want[part]]
        if have is None or (parts and not (parts == ["body"] and conformance.only_wording(want, have))):
            problems.append(f"{name}: {want.get('request')}\n{conformance.told_apart(want, have, parts)}")
    assert not problems, "\n".join(problems)


def test_the_scenario_takes_every_recorded_step(answers: dict) -> None:
    assert {name for name in answers if not name.startswith(UNRECORDED)} == set(GOLDEN)


def test_steps_not_yet_recorded_succeed(answers: dict) -> None:
    unrecorded = {name: answer for name, answer in answers.items() if name.startswith(UNRECORDED)}
    assert {answer["status"] for answer in unrecorded.values()} == {200}
    assert all(len(answer["body"]["results"]) == 1 for answer in unrecorded.values())


def test_exceptions_name_recorded_steps_only() -> None:
    assert set(EXCEPTIONS) <= set(GOLDEN)
