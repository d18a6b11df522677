"""Killed before any single thing that it does: nothing is half there, nothing is promoted, the same command goes on."""

import itertools
import json
import os
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from homes import Home
from verbs import Verb, marked

from tests import processes
from tests.effects import Effect, Ended, effects
from visionops_assets.champions.history import production
from visionops_assets.evaluation.verdict_store import listed

# Change nothing, never end, are many of these, or go on by another command, as `init` does by `import`.
WITHOUT = ("serve", "verify", "why", "status", "doctor", "demo", "init")
# Half of them ask, and the command ends by itself.
SENT = ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, 143))
# Of what happens often, as of a training's files, no more is tried than of what happens once.
BY_KIND = 0.5


def moments(found: Sequence[Effect], count: int, generator: random.Random) -> list[int]:
    """Numbers of effects: half of them of all alike, half first by what they are."""
    kinds: dict[str, list[int]] = {}
    for effect in found:
        kinds.setdefault(f"{effect.kind} {Path(effect.about).name[:12]}", []).append(effect.number)
    chosen = []
    for _ in range(count):
        among = list(range(1, len(found) + 1))
        if generator.random() < BY_KIND:
            among = kinds[generator.choice(sorted(kinds))]
        chosen.append(generator.choice(among))
    return chosen


def stays_lawful(home: Home, verb: Verb, whole: Mapping[str, bytes]) -> None:
    """What a kill left: it is named, nothing runs without a reason, and no output is there in part."""
    here = verb.left(home)
    registry = here.registry()
    for name in registry.models.projects():
        model = registry.models.get(name)
        now, verdicts = production(model), listed(model.tags)
        assert not now.foreign
        if now.version is None:
            continue
        brought = now.arrival(now.version)
        assert brought is not None, f"version {now.version} came by nothing on record"
        assert brought.kind == "override" or verdicts[brought.verdict or ""].outcome == "PASS"
        said = here.visionops("status", name, "--json")
        assert said.code in (0, 1) and "Traceback" not in said.said, said.said
        told = json.loads(said.said[said.said.index("{\n") :])
        assert told["champion"]["version"] == now.version
        assert bool(told["incomplete"]) == (now.incomplete is not None), told
    left = verb.outputs(home.root)
    for name in verb.writes:
        part = {
            path: content for path, content in left.items() if path == name or path.startswith(f"{name}/")
        }
        all_of_it = {path for path in whole if path == name or path.startswith(f"{name}/")}
        assert not part or set(part) == all_of_it, f"{name} is there in part: {sorted(part)[:5]}"
        assert all(part.values()), f"an empty file under {name}"


def nothing_runs_on(home: Home) -> None:
    """Nobody works for a command that was killed: whoever does ends. The embedded lakeFS stays a while for the next."""
    working = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        place = (process.info["environ"] or {}).get("VISIONOPS_HOME", "")
        line = " ".join(process.info["cmdline"] or [])
        if place.startswith(f"{home.root}{os.sep}") and "lakefs_local" not in line:
            working.append(process)
    _, alive = psutil.wait_procs(working, timeout=processes.WITHIN)
    assert not alive, [each.cmdline() for each in alive]


def end_of(home: Home, verb: Verb) -> tuple[object, ...]:
    """What an undisturbed command and one that was killed and typed again have in common."""
    here = verb.left(home)
    registry = here.registry()
    champions = []
    for name in sorted(registry.models.projects()):
        model = registry.models.get(name)
        now = production(model)
        weights = registry.models.version(name, now.version).weights_sha256 if now.version else None
        decided = sorted({(each.outcome, each.challenger) for each in listed(model.tags).values()})
        champions.append((name, weights, len(now.intervals), now.incomplete, decided))
    beside = sorted(path.name for path in home.root.iterdir() if not path.name.startswith(("said", "trace")))
    return champions, sorted(verb.outputs(home.root)), beside


@pytest.mark.slow
@pytest.mark.parametrize("verb", marked("findings", without=WITHOUT))
def test_a_command_killed_before_anything_it_does_goes_on_when_it_is_typed_again(
    verb: Verb, home_of: Callable[[Verb], Home], count: Callable[[int, int], int]
) -> None:
    undisturbed = home_of(verb)
    done = undisturbed.visionops(
        *verb.inputs(undisturbed), before=Ended(undisturbed.root, undisturbed.root / "trace")
    )
    assert done.code == 0, done.said
    found, whole = effects(undisturbed.root / "trace"), verb.outputs(undisturbed.root)
    ending = end_of(undisturbed, verb)
    generator = random.Random(f"kills of {verb.line}")
    for number, (sent, code) in zip(
        moments(found, count(1, 6), generator), itertools.cycle(SENT), strict=False
    ):
        home = home_of(verb)
        line = verb.inputs(home)
        killed = home.visionops(*line, before=Ended(home.root, home.root / "trace", number, sent))
        about = f"{sent.name} at {number}, {found[number - 1]}: "
        # Of two runs, one may do a thing less.
        assert killed.code in (0, code) and "Traceback" not in killed.said, about + killed.said
        nothing_runs_on(home)
        stays_lawful(home, verb, whole)
        again = home.visionops(*line)
        assert again.code in verb.again and "Traceback" not in again.said, about + again.said
        assert end_of(home, verb) == ending, about + again.said
        after = verb.left(home).visionops("tick")
        assert after.code == 0 and "error" not in after.said, about + after.said
