"""What checks found: a table of (check, image, what, why, severity), with details where a check has them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd

from resources.escaping import LONGEST_NAME, one_line

Severity = Literal["ERROR", "WARN"]


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


DETAILS = ("suspected", "confidence", "box", "other")


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings as a table, in the order given; without the columns of details that none of them has."""
    return _without_empty_details(pd.DataFrame(list(findings), columns=list(Finding._fields), dtype=object))


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


def findings_in_words(findings: pd.DataFrame, most: int = 5) -> str:
    """One line a check: how many, and the first few with what and why. "No findings." when there are none."""
    if findings.empty:
        return "No findings."
    lines = []
    for (severity, check), rows in findings.groupby(["severity", "check"], sort=True):
        lines.append(f"{severity} {one_line(check)}: {len(rows):,}")
        told = (
            (one_line(row.image, LONGEST_NAME), one_line(row.what), one_line(row.why))
            for row in rows.head(most).itertuples()
        )
        lines += [f"  {image}: {what}; {why}" for image, what, why in told]
        if len(rows) > most:
            lines.append(f"  and {len(rows) - most:,} more")
    return "\n".join(lines)
