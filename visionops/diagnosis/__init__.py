"""What `visionops doctor` looks at."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Line:
    """One thing that was checked. `fix` says what to do about it, where it is not ok."""

    state: State
    subject: str
    what: str
    fix: str = ""
