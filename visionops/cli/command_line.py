"""The command line: one module a verb."""

import inspect
from typing import Annotated

import typer

from visionops import (
    approve,
    comment,
    compare,
    diff,
    doctor,
    export,
    findings,
    hold,
    home,
    import_batch,
    inspect_source,
    labels,
    metrics,
    predict,
    project,
    promote,
    reject,
    release,
    reproduce,
    retract,
    rollback,
    rollout,
    serve,
    status,
    terminal,
    tick,
    train,
    verify,
    webhook,
    what_if,
    why,
)
from visionops.cli import demo, fleet, init, submit, up

app = typer.Typer(
    name="visionops",
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
app.command("inspect")(inspect_source.command)
app.command("doctor")(doctor.command)
app.add_typer(project.app, name="project")
app.add_typer(home.app, name="home")
app.command("up")(up.up_command)
app.command("tick")(tick.command)
app.command("import")(import_batch.command)
app.add_typer(labels.app, name="labels")
app.command("export")(export.command)
app.command("diff")(diff.command)
app.command("findings")(findings.command)
app.command("verify")(verify.command)
app.command("retract")(retract.command)
app.command("train")(train.command)
app.command("submit")(submit.submit_command)
app.command("predict")(predict.command)
app.command("serve")(serve.command)
app.add_typer(fleet.fleet_app, name="fleet")
app.add_typer(rollout.app, name="rollout")
app.command("metrics")(metrics.command)
app.add_typer(webhook.app, name="webhook")
app.command("compare")(compare.command)
app.command("what-if")(what_if.command)
app.command("comment")(comment.command)
app.command("status")(status.command)
app.command("why")(why.command)
app.command("approve")(approve.command)
app.command("reject")(reject.command)
app.command("promote")(promote.command)
app.command("rollback")(rollback.command)
app.command("hold")(hold.command)
app.command("release")(release.command)
app.command("reproduce")(reproduce.command)


def _flowing(text: str) -> str:
    """A docstring whose paragraphs wrap where the terminal ends, not where the source does."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _let_help_flow(commands: typer.Typer) -> None:
    for command in commands.registered_commands:
        if command.callback is not None and command.help is None:
            command.help = _flowing(command.callback.__doc__ or "")
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _let_help_flow(group.typer_instance)


_let_help_flow(app)
