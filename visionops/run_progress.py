"""What a run in this process is doing, for whoever waits for it: its phases, and how far a training is."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from visionops.progress import Doing, shown_line
from visionops_assets.common.progress import watched

if TYPE_CHECKING:
    import dagster as dg

PHASES = {
    "incoming_batch": "importing the batch",
    "manifest": "reading the dataset version",
    "challenger": "training",
    "evaluation": "judging",
    "champion": "carrying out the verdict",
    "make_again": "making the version again",
}
# As a training says each epoch: in Dagster's log, and in the process that makes a version again.
_EPOCH = re.compile(r"epoch (\d+) of (\d+): (loss [\d.naif]+)(.*)")
_wanted: ContextVar[bool] = ContextVar("progress_wanted", default=False)
Hear = Callable[["dg.EventLogEntry"], None]


class Follower:
    """Puts together what is told of one phase after the other."""

    def __init__(self, show: Callable[[Doing], None], phase: str = "") -> None:
        self._show, self._phase, self._validated = show, phase, ""

    def enter(self, phase: str) -> None:
        """Another phase begins."""
        self._phase, self._validated = phase, ""
        self._show(Doing(phase))

    def hear(self, doing: str, done: float, of: float) -> None:
        """Something of the phase is so far done; the last epoch's validation still holds."""
        self._show(Doing(self._phase, f"{doing}{self._validated if 'epoch' in doing else ''}", done, of))

    def read(self, text: str) -> bool:
        """Take what a line says of an epoch that ended; False where it says nothing of one."""
        found = _EPOCH.search(text)
        if found is None:
            return False
        epoch, epochs, loss, self._validated = int(found[1]), int(found[2]), found[3], found[4]
        self.hear(f"epoch {epoch} of {epochs}, {loss}", epoch, epochs)
        return True


@contextmanager
def shown_progress(wanted: bool = True) -> Iterator[None]:
    """Show what runs of the block do, on standard error."""
    before = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(before)


@contextmanager
def progress_of(about: str) -> Iterator[Hear]:
    """What is to hear the events of one run, where somebody wants to see them."""
    if not _wanted.get():
        yield lambda entry: None
        return
    with shown_line(about) as line:
        follower = Follower(line.show)

        def hear(entry: "dg.EventLogEntry") -> None:
            event = entry.dagster_event
            if event is not None and event.event_type_value == "STEP_START" and event.step_key is not None:
                asset = event.step_key.partition("__")[2] or event.step_key
                # A check is a moment between two phases.
                if asset in PHASES:
                    follower.enter(PHASES[asset])
            else:
                follower.read(entry.user_message or "")

        with watched(follower.hear):
            yield hear
