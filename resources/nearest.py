"""What a person may have meant by a name that is not there: the end of a message that says so."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel

SHOWN = 10
_ALIKE = 0.6
# What is that much less alike than the best is not worth naming beside it.
_LESS_ALIKE = 0.1
_MOST = 3


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names that a typed one resembles, best first, at most three.

    Case, zeros before a number and what parts words count for nothing; what begins with the name resembles it.
    """
    typed = _plain(name)
    plain = {each: _plain(each) for each in known}
    if same := [each for each, other in plain.items() if other == typed]:
        return same[:_MOST]
    if begun := [each for each, other in plain.items() if len(typed) > 2 and other.startswith(typed)]:
        return begun[-_MOST:]
    alike = {each: difflib.SequenceMatcher(None, typed, other).ratio() for each, other in plain.items()}
    least = max(_ALIKE, max(alike.values(), default=0) - _LESS_ALIKE)
    return sorted((each for each in alike if alike[each] >= least), key=lambda each: -alike[each])[:_MOST]


def there_are(name: str, known: Sequence[str]) -> str:
    """`did you mean week-03? There are: week-01, week-02, week-03`, to be put behind what is not there."""
    # Typed right, it is not there for another reason.
    meant = [] if name in known else nearest(name, known)
    shown = listed(known)
    return f"did you mean {' or '.join(meant)}? There are: {shown}" if meant else f"there are: {shown}"


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`; did you mean lr?`, else `otherwise`, where listing all that is known would not help."""
    meant = nearest(name, known)
    return f"; did you mean {' or '.join(meant)}?" if meant else otherwise


def listed(known: Sequence[str]) -> str:
    """Names in a row; of many, given oldest first, how many and the last."""
    shown = ", ".join(known[-SHOWN:]) or "none"
    return f"{len(known)}, the last of them {shown}" if len(known) > SHOWN else shown


def fields_beside(model: "type[BaseModel]", path: Sequence[str | int]) -> list[str]:
    """The fields that a pydantic model has where one of a path is unknown to it."""
    models = [model]
    for part in path[:-1]:
        parts = [each.model_fields[str(part)] for each in models if str(part) in each.model_fields]
        models = [found for field in parts for found in _models_in(field.annotation)] or models
    return sorted({name for each in models for name in each.model_fields})


def meant_field(model: "type[BaseModel]", path: Sequence[str | int], otherwise: str = "") -> str:
    """`; did you mean production.captures?` for a field that is unknown where it stands, else `otherwise`.

    One of its name elsewhere is meant rather than one beside it that is merely like it.
    """
    name, beside = str(path[-1]), fields_beside(model, path)
    elsewhere: dict[str, list[str]] = {}
    for each in _paths_in(model, ()):
        elsewhere.setdefault(each[-1], []).append(".".join(each))
    same = [other for other in elsewhere if _plain(other) == _plain(name)]
    if any(_plain(other) == _plain(name) for other in beside) or not same:
        said = did_you_mean(name, beside)
        if said:
            return said
    meant = [each for other in same or nearest(name, elsewhere) for each in elsewhere[other]]
    return f"; did you mean {' or '.join(meant[:_MOST])}?" if meant else otherwise


def _paths_in(
    model: "type[BaseModel]", within: "tuple[type[BaseModel], ...]", before: tuple[str, ...] = ()
) -> "Iterator[tuple[str, ...]]":
    if model in within:
        return
    for name, field in model.model_fields.items():
        yield (*before, name)
        for inner in _models_in(field.annotation):
            yield from _paths_in(inner, (*within, model), (*before, name))


def _models_in(annotation: Any) -> "list[type[BaseModel]]":
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _plain(name: str) -> str:
    return re.sub(r"0+(?=\d)", "", re.sub(r"[\s_.]+", "-", name.casefold()))
