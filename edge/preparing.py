"""Models are compiled for this machine while others answer, and while the device looks for news.

A build takes minutes, perhaps hours: it is begun, counted before it is, and glanced at until it ends or a look is due.
One runs at a time, and it ends with the agent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge import states
from edge.engines import CPU, Build, Engine, Prepare
from edge.formats import MODEL
from edge.kept import Kept
from edge.state_file import Bundle

# Between two glances at a build.
GLANCE_SECONDS = 0.5

# A model by its engine held to its golden answers, as `edge.selftest`.
Examined = Callable[[Bundle, Engine], "tuple[str | None, str] | None"]


@dataclass
class _UnderWay:
    """The engine that is being made."""

    name: str
    engine: Engine
    build: Build


class Preparing:
    """The builds of one device. `go_on` says whether nothing else is due, `reopen` lets the new engine answer."""

    def __init__(
        self,
        kept: Kept,
        prepare: Prepare,
        examined: Examined,
        go_on: Callable[[], bool],
        reopen: Callable[[], None],
    ) -> None:
        self._kept, self._prepare, self._examined = kept, prepare, examined
        self._go_on, self._reopen = go_on, reopen
        self._building: _UnderWay | None = None

    def candidate(self, candidate: Bundle) -> bool:
        """Compile the candidate, while the good model answers. False where a look is due first."""
        kept, engines = self._kept, self._kept.engines
        if engines.has(candidate):
            kept.change(states.prepared, kept.now())
            return True
        if not self._is_under_way(candidate):
            kept.change(states.prepare_starts, engines.name(candidate), kept.now())
            if kept.state.phase != "PREPARE":
                return True
        compiled = self._compiled(candidate)
        if compiled is None:
            return False
        engine, said = compiled
        if said == "":
            engines.keep(candidate, engine)
            kept.change(states.prepared, kept.now())
            return True
        engines.discard(engine)
        if said is not None:
            kept.change(states.failed, "unprepared", kept.now(), said)
        return True

    def what_serves(self) -> bool:
        """Another runtime or driver, or a bad disk: what answers by the CPU provider gets its engine, tested first.

        False where a look is due first.
        """
        kept, serving, problems = self._kept, self._kept.state.serving, self._kept.problems
        if serving is None or kept.engines.has(serving):
            problems.pop("engine", None)
            return True
        under_way = self._is_under_way(serving)
        if self._building is not None and not under_way:
            # A candidate's comes first.
            return True
        name = kept.engines.name(serving)
        without = f"release {serving.release} answers by {CPU}"
        if not under_way:
            if not states.may_prepare(kept.state, name, kept.now()):
                problems.setdefault(
                    "engine", f"{without}: its engine could not be made, and is tried again a day later"
                )
                return True
            kept.change(states.prepare_starts, name, kept.now())
        compiled = self._compiled(serving)
        if compiled is None:
            return False
        engine, said = compiled
        if said == "":
            found = self._examined(serving, engine)
            said = "its self-test died" if found is None else "" if found[0] is None else found[1]
        if said != "":
            kept.engines.discard(engine)
            problems["engine"] = f"{without}: {said or 'its process died'}"
            return True
        kept.engines.keep(serving, engine)
        problems.pop("engine", None)
        self._reopen()
        return True

    def leave_what_nobody_wants(self) -> None:
        """End a build whose candidate was withdrawn, or whose runtime is another now."""
        wanted = (self._kept.state.candidate, self._kept.state.serving)
        if not any(each is not None and self._is_under_way(each) for each in wanted):
            self.end()

    def end(self) -> None:
        """End what is being made; nothing is kept of it."""
        if self._building is not None:
            self._building.build.close()
            self._kept.engines.discard(self._building.engine)
            self._building = None

    def _is_under_way(self, bundle: Bundle) -> bool:
        return self._building is not None and self._building.name == self._kept.engines.name(bundle)

    def _compiled(self, bundle: Bundle) -> tuple[Engine, str | None] | None:
        """What the provider made and said; None where a look is due first: it goes on meanwhile."""
        if not self._is_under_way(bundle):
            self.end()
            engines, state = self._kept.engines, self._kept.state
            engine = engines.begin(bundle, f"{state.boots}-{state.preparing[1]}")
            model = self._kept.files.path(f"blobs/{bundle.digest(MODEL)}")
            self._building = _UnderWay(engines.name(bundle), engine, self._prepare(model, engine))
        made = self._building
        assert made is not None
        while not made.build.ended(GLANCE_SECONDS):
            if not self._go_on():
                return None
        self._building = None
        return made.engine, made.build.said()
