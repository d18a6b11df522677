"""Numbers as annotation files write them, read as what they say."""

from typing import Any


def stated_size(width: Any, height: Any) -> tuple[int, int]:
    """The size that a source states of an image; (0, 0) where it states none."""
    sides = whole(width), whole(height)
    if any(side is None or not 0 < side < 1 << 31 for side in sides):
        return 0, 0
    return sides[0] or 0, sides[1] or 0


def whole(value: Any) -> int | None:
    """A whole number, also written as text or as 3.0; None for anything else. Never through floating point."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    text = str(value).strip()
    digits, _, rest = text.partition(".")
    if rest.strip("0"):
        return None
    try:
        return int(digits)
    except ValueError:
        return None


def key_of(value: Any) -> str | None:
    """An identity as what it says: `"1"`, 1 and 1.0 are the same; None where there is none."""
    if value is None or isinstance(value, (bool, list, dict)):
        return None
    text = str(value).strip()
    # 007 is no number but a name.
    number = None if len(text) > 1 and text.startswith("0") and not text.startswith("0.") else whole(value)
    return str(number) if number is not None else text or None


def says_yes(value: Any) -> bool:
    """Whether a flag is set, as a number, a boolean or text."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "0.0", "false", "no", "none")
    return bool(value)
