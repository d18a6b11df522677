"""What time it is, here and elsewhere: each machine dates what it records by a clock of its own."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# Further apart, clocks are named.
TOLERANCE = timedelta(minutes=1)
# The date of an answer has whole seconds.
_EXACT_TO = timedelta(seconds=2)
_UNITS = ((172_800, 86_400, "days"), (7_200, 3_600, "h"), (600, 60, "min"), (0, 1, "s"))


def now() -> datetime:
    """The time by this machine's clock, in UTC. Whoever decides by time asks here."""
    return datetime.now(UTC)


def ahead(theirs: datetime, asked: datetime, answered: datetime) -> timedelta:
    """How far a clock is ahead that showed `theirs` between two times of ours; 0 where that cannot be told."""
    waited = (answered - asked) / 2
    found = theirs - (asked + waited)
    return found if abs(found) > _EXACT_TO + waited else timedelta(0)


def ahead_by_header(date: str | None, asked: datetime, answered: datetime) -> timedelta | None:
    """The same of the Date of an HTTP answer; None where it has none."""
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    # It is cut to the second.
    theirs = (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) + timedelta(milliseconds=500)
    return ahead(theirs, asked, answered)


def in_words(span: timedelta) -> str:
    """The length of a span in its largest unit: `90 s`, `14 min`, `23 h`, `3 days`."""
    seconds = abs(span.total_seconds())
    size, unit = next((size, unit) for least, size, unit in _UNITS if seconds >= least)
    return f"{seconds / size:.0f} {unit}"


class FirstSeen:
    """When things happened by this machine's clock, whatever they are dated.

    What is dated in the future happened when it was first seen: by its date it would be waited for until then, be it a
    day or a year. `before` is what `seen` was at an earlier look, times in ISO 8601 by name.
    """

    def __init__(self, at: datetime, before: Mapping[str, str]) -> None:
        self.seen: dict[str, str] = {}
        self.now, self._before = at, before

    def when(self, what: str, dated: datetime) -> datetime:
        """When `what` happened; never later than now."""
        if dated <= self.now:
            return dated
        known = self._before.get(what)
        # A clock that was set back since makes what was seen one of the future too.
        first = min(datetime.fromisoformat(known), self.now) if known else self.now
        self.seen[what] = first.isoformat()
        return first
