"""When a command looks for garbage: not while it loads, and not at all where it looks once and ends."""

import gc

import pytest

from visionops import __main__ as entry
from visionops import bootstrap
from visionops.cli import command_line


@pytest.mark.parametrize(
    ("verb", "looked_for"), [("status", False), ("why", False), ("train", True), ("up", True)]
)
def test_garbage_is_looked_for_in_commands_that_stay(
    verb: str, looked_for: bool, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    monkeypatch.setattr(bootstrap, "prepare", lambda: seen.append(gc.isenabled()))
    monkeypatch.setattr(command_line, "app", lambda *_, **__: seen.append(gc.isenabled()))
    entry._run([verb, "shapes"])
    assert seen == [False, looked_for]
    assert gc.isenabled()
