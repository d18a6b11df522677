"""Command lines as the release before spelled them: each works once more, and says on standard error how it is
spelled now. With the next release this module goes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

# By verb, an option's old name and the present one; all of them take a value.
OPTIONS: dict[tuple[str, ...], dict[str, str]] = {
    ("train",): {"--version": "--dataset-version"},
    ("what-if",): {"--version": "--dataset-version"},
    ("why",): {"--version": "--model-version"},
    ("reproduce",): {"--version": "--model-version"},
    ("promote",): {"--version": "--model-version"},
    ("fleet", "publish"): {"--version": "--model-version"},
    ("rollback",): {"--to": "--model-version"},
}
# What no command takes any more, and yet has a value where it is met.
_GONE = {"--dvc", "--project"}


@dataclass(frozen=True)
class Respelled:
    """Arguments as they are spelled now; `notices` are the lines that say what changed."""

    arguments: list[str]
    notices: tuple[str, ...] = ()


class OldSpellingsGroup(TyperGroup):
    """The commands, under the spellings of the release before too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read arguments, old spellings as present ones. Raises `RunNotFound` for a run that `submit` is to name."""
        respelled = respell(self, args)
        for notice in respelled.notices:
            typer.echo(notice, err=True)
        return super().parse_args(ctx, respelled.arguments)


def respell(commands: TyperGroup, arguments: Sequence[str]) -> Respelled:
    """A command line in present spellings; one without an old spelling comes back as it is.

    Raises what `project_of_run` raises, where `submit` names a run alone.
    """
    whole = {"export": _export, "promote": _promote, "submit": _submit}
    if arguments and arguments[0] in whole:
        found = whole[arguments[0]](commands, list(arguments))
        if found is not None:
            return found
    verb, rest = _split(commands, arguments)
    old = OPTIONS.get(verb, {})
    notices = []
    for place, word in _options(commands, verb, rest):
        name, equals, value = word.partition("=")
        if name in old:
            rest[place] = f"{old[name]}{equals}{value}"
            notices.append(_notice(f"{' '.join(verb)} … {name}", f"{' '.join(verb)} … {old[name]}"))
    return Respelled([*verb, *rest], tuple(notices))


def _notice(old: str, new: str) -> str:
    return f"`visionops {old}` is spelled `visionops {new}` now; the old spelling goes with the next release"


def _export(commands: TyperGroup, arguments: list[str]) -> Respelled | None:
    rest = arguments[1:]
    for place, word in _options(commands, ("export",), rest):
        name, equals, value = word.partition("=")
        if name == "--dvc":
            rest[place] = f"--to{equals}{value}"
            said = _notice("export PROJECT VERSION --dvc FOLDER", "export dvc PROJECT VERSION --to FOLDER")
            return Respelled(["export", "dvc", *rest], (said,))
    return None


def _promote(commands: TyperGroup, arguments: list[str]) -> Respelled | None:
    rest = arguments[1:]
    for place, word in _options(commands, ("promote",), rest):
        if word == "--override":
            del rest[place]
            said = _notice("promote PROJECT --override", "override PROJECT")
            return Respelled(["override", *rest], (said,))
    return None


def _submit(commands: TyperGroup, arguments: list[str]) -> Respelled | None:
    """`submit RUN [--project PROJECT]`: which project the run is of may have to be asked."""
    rest = arguments[1:]
    options = list(_options(commands, ("submit",), rest))
    taken = {place for place, _ in options} | {place + 1 for place, word in options if word == "--project"}
    words = [word for place, word in enumerate(rest) if place not in taken and word != "--"]
    named = next(((place, word) for place, word in options if word.split("=")[0] == "--project"), None)
    if len(words) != 1 or "--help" in rest:
        return None
    if named is not None:
        place, word = named
        _, equals, value = word.partition("=")
        project = value if equals else "".join(rest[place + 1 : place + 2])
        del rest[place : place + (1 if equals else 2)]
        said = _notice("submit RUN --project PROJECT", "submit PROJECT RUN")
    else:
        from visionops import services
        from visionops.cli.submit import project_of_run

        if any(each.project == words[0] for each in services.projects()):
            # The run is what is missing.
            return None
        project = project_of_run(services.registry(), words[0])
        said = _notice("submit RUN", "submit PROJECT RUN")
    return Respelled(["submit", project, *rest], (said,))


def _split(commands: TyperGroup, arguments: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The words that name a command, and what comes after them."""
    verb: tuple[str, ...] = ()
    for word in arguments:
        command = _command(commands, verb)
        if not isinstance(command, TyperGroup) or word not in command.commands:
            break
        verb += (word,)
    return verb, list(arguments[len(verb) :])


def _command(commands: TyperGroup, verb: tuple[str, ...]) -> Any:
    # Typer brings its own click, whose classes have no public name.
    found: Any = commands
    for word in verb:
        found = found.commands.get(word) if isinstance(found, TyperGroup) else None
    return found


def _options(commands: TyperGroup, verb: tuple[str, ...], rest: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Options by their places, last first; the values of options are none, whatever they look like."""
    command = _command(commands, verb)
    valued = {*OPTIONS.get(verb, ()), *_GONE}
    for parameter in command.params if command is not None else ():
        if isinstance(parameter, TyperOption) and not parameter.is_flag:
            valued.update(parameter.opts)
    found: list[tuple[int, str]] = []
    place = 0
    while place < len(rest) and rest[place] != "--":
        word = rest[place]
        if word.startswith("-"):
            found.append((place, word))
            place += word in valued
        place += 1
    yield from reversed(found)
