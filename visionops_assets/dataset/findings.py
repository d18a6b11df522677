"""What checks found: a table of (check, image, what, why, severity)."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import pandas as pd

Severity = Literal["ERROR", "WARN"]


class Finding(NamedTuple):
    """`image` is the path (or another object's name), `what` is wrong with it, and `why` that matters and how
    it is mended. An ERROR keeps a batch from `main`, a WARN is shown."""

    check: str
    image: str
    what: str
    why: str
    severity: Severity = "ERROR"


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings as a table of text, in the order given."""
    return pd.DataFrame(list(findings), columns=list(Finding._fields), dtype=object)


def join_findings(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several tables of findings as one, errors first."""
    joined = pd.concat([findings_table([]), *tables], ignore_index=True)
    return joined.sort_values("severity", kind="stable", ignore_index=True)


def has_errors(findings: pd.DataFrame) -> bool:
    """Whether any finding is an ERROR."""
    return bool((findings["severity"] == "ERROR").any())


def findings_in_words(findings: pd.DataFrame, most: int = 5) -> str:
    """One line a check: how many, and the first few with what and why. "No findings." when there are none."""
    if findings.empty:
        return "No findings."
    lines = []
    for (severity, check), rows in findings.groupby(["severity", "check"], sort=True):
        lines.append(f"{severity} {check}: {len(rows):,}")
        lines += [f"  {row.image}: {row.what}; {row.why}" for row in rows.head(most).itertuples()]
        if len(rows) > most:
            lines.append(f"  and {len(rows) - most:,} more")
    return "\n".join(lines)
