"""What checks found: a table of (check, image, what, why, severity), with details where a check has them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd

from resources.escaping import LONGEST_NAME, one_line

Severity = Literal["ERROR", "WARN"]
# What a finding names that concerns a source as a whole, and the checks for a source of boxes without one, and for
# one of another task than the project's.
WHOLE = "the source"
ANY_ANNOTATED, OF_THE_TASK = "any annotated", "of the task"
DETAILS = ("suspected", "confidence", "box", "other")


class Finding(NamedTuple):
    """`image` is the path (or another object's name), `what` is wrong with it, and `why` that matters and how
    it is mended. An ERROR keeps a batch from `main`, a WARN is shown.

    Details, where there are any: the label that is `suspected` instead, with what `confidence`, in which `box` (`x`,
    `y`, `w`, `h` in pixels), and the path of the `other` image that it is like.
    """

    check: str
    image: str
    what: str
    why: str
    severity: Severity = "ERROR"
    suspected: str | None = None
    confidence: float | None = None
    box: Mapping[str, Any] | None = None
    other: str | None = None


# Characters of a line, and of all lines that are not shortened to that.
_LONGEST, _IN_FULL = 170, 2000


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings as a table, in the order given; without the columns of details that none of them has.

    Bytes of a name that are no UTF-8 are shown as escapes: every table can be written.
    """
    rows = [[_writable(value) for value in each] for each in findings]
    return _without_empty_details(pd.DataFrame(rows, columns=list(Finding._fields), dtype=object))


def _writable(value: Any) -> Any:
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode(errors="backslashreplace").decode()


def join_findings(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several tables of findings as one, errors first."""
    joined = pd.concat([findings_table([]), *tables], ignore_index=True).astype(object)
    return joined.where(joined.notna(), None).sort_values("severity", kind="stable", ignore_index=True)


def sides_of(box: Mapping[str, Any]) -> dict[str, float]:
    """Left, top, width and height of a box, without what else is known of it."""
    return {side: float(box[side]) for side in "xywh"}


def _without_empty_details(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[name for name in DETAILS if table[name].isna().all()])


def has_errors(findings: pd.DataFrame) -> bool:
    """Whether any finding is an ERROR."""
    return bool((findings["severity"] == "ERROR").any())


def findings_in_words(findings: pd.DataFrame, most: int = 5, lines: int = 0) -> str:
    """One line a check: how many findings, and the first few with what and why. "No findings." when there are none.
    A single one is not counted, since it may be about many images.

    Of more than so many `lines` (0: all) those are left out that say the same again: the first of each check stay.
    """
    if findings.empty:
        return "No findings."
    groups = list(findings.groupby(["severity", "check"], sort=True))
    shown = [min(most, len(rows)) for _, rows in groups]
    told = groups if not lines else groups[: max(1, (lines - 1) // 2)]
    while lines and sum(
        1 + number + (number < len(rows)) for number, (_, rows) in zip(shown, told, strict=False)
    ) > (lines - (len(told) < len(groups))):
        longest = max(range(len(told)), key=lambda place: shown[place])
        if shown[longest] == 0:
            break
        shown[longest] -= 1
    text, room = [], _IN_FULL
    for ((severity, check), rows), number in zip(told, shown, strict=False):
        text.append(f"{severity} {one_line(check)}{f': {len(rows):,}' if len(rows) > 1 else ''}")
        each = (
            f"  {one_line(row.image, LONGEST_NAME)}: {one_line(row.what)}; {one_line(row.why)}"
            for row in rows.head(number).itertuples()
        )
        for place, line in enumerate(each):
            # The first of a check says all of it, how it is mended included, as long as there is room.
            whole = not lines or (place == 0 and len(line) <= room)
            room -= len(line) if whole else 0
            text.append(line if whole else _shortened(line))
        if len(rows) > number:
            text.append(f"  and {len(rows) - number:,} more")
    if len(told) < len(groups):
        text.append(f"and {len(groups) - len(told)} more checks")
    return "\n".join(text)


def _shortened(line: str) -> str:
    """A line of bounded length; a command that it tells to type stays whole."""
    return line if len(line) <= _LONGEST or "`" in line[_LONGEST:] else f"{line[:_LONGEST]}…"


def grouped(findings: pd.DataFrame) -> list[dict[str, Any]]:
    """Findings of one check, reason, folder and suffix together, with their number and the first of them."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in findings.itertuples():
        folder, _, name = str(row.image).rpartition("/")
        suffix = f".{name.rpartition('.')[2]}".lower() if "." in name else ""
        groups.setdefault((row.severity, row.check, row.why, folder, suffix), []).append(row)
    return [
        {
            "severity": severity,
            "check": check,
            "reason": why,
            "folder": folder,
            "suffix": suffix,
            "number": len(rows),
            "first": {"image": rows[0].image, "what": rows[0].what},
        }
        for (severity, check, why, folder, suffix), rows in groups.items()
    ]
