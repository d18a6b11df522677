"""The command line: one module a verb."""

import inspect
from itertools import zip_longest
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from visionops import terminal, tick
from visionops.cli import (
    compare,
    dataset,
    demo,
    fleet,
    homes,
    importing,
    init,
    listening,
    named_models,
    old_spellings,
    overview,
    predict,
    projects,
    promotion,
    rollback,
    rollout,
    submit,
    train,
    up,
)

app = typer.Typer(
    name="visionops",
    cls=old_spellings.OldSpellingsGroup,
    help="Every data commit becomes a better model, or a clear reason why not.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Add --debug to any command to see the traceback of an error.",
)


def _say_version(asked: bool) -> None:
    if asked:
        terminal.say_version()
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """What comes before every command."""
    terminal.escape_output()


app.command("demo")(demo.demo_command)
app.command("init")(init.init_command)
app.command("inspect")(importing.inspect_command)
app.command("doctor")(overview.doctor_command)
app.add_typer(projects.project_app, name="project")
app.add_typer(homes.home_app, name="home")
app.command("up")(up.up_command)
app.command("tick")(tick.command)
app.command("import")(importing.import_command)
app.add_typer(predict.labels_app, name="labels")
app.add_typer(dataset.export_app, name="export")
app.command("diff")(compare.diff_command)
app.command("findings")(dataset.findings_command)
app.command("verify")(dataset.verify_command)
app.command("retract")(dataset.retract_command)
app.command("models")(named_models.models_command)
app.add_typer(named_models.weights_app, name="weights")
app.command("train")(train.train_command)
app.command("submit")(submit.submit_command)
app.command("predict")(predict.predict_command)
app.command("serve")(listening.serve_command)
app.add_typer(fleet.fleet_app, name="fleet")
app.add_typer(rollout.rollout_app, name="rollout")
app.command("metrics")(listening.metrics_command)
app.add_typer(listening.webhook_app, name="webhook")
app.command("compare")(compare.compare_command)
app.command("what-if")(compare.what_if_command)
app.command("comment")(compare.comment_command)
app.command("status")(overview.status_command)
app.command("why")(overview.why_command)
app.command("approve")(promotion.approve_command)
app.command("reject")(promotion.reject_command)
app.command("override")(promotion.override_command)
app.command("promote")(promotion.promote_command)
app.command("rollback")(rollback.rollback_command)
app.command("hold")(rollback.hold_command)
app.command("release")(promotion.release_command)
app.command("reproduce")(train.reproduce_command)


class PlainNumbersCommand(TyperCommand):
    """A command whose options take a number as people write it: Python reads `1_0` as 10."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read arguments. Raises `BadParameter` for a number with underscores."""
        numbers = self._options_of_numbers()
        words = args[: args.index("--")] if "--" in args else args
        for word, following in zip_longest(words, words[1:], fillvalue=""):
            option, equals, value = word.partition("=")
            given = value if equals else following
            plain = given.replace("_", "")
            if option in numbers and plain != given and plain.lstrip("+-").replace(".", "", 1).isdigit():
                raise typer.BadParameter(f"{given!r} is no number: write {plain}", ctx, param_hint=option)
        return super().parse_args(ctx, args)

    def _options_of_numbers(self) -> set[str]:
        assert self.callback is not None
        hints = get_type_hints(inspect.unwrap(self.callback))
        numbers = {name for name, kind in hints.items() if {int, float} & {kind, *get_args(kind)}}
        return {option for each in self.params if each.name in numbers for option in each.opts}


def _flowing(text: str) -> str:
    """A docstring whose paragraphs wrap where the terminal ends, not where the source does."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _prepare(commands: typer.Typer) -> None:
    """What holds for all commands alike."""
    for command in commands.registered_commands:
        command.cls = PlainNumbersCommand
        if command.callback is not None and command.help is None:
            command.help = _flowing(command.callback.__doc__ or "")
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _prepare(group.typer_instance)


_prepare(app)
