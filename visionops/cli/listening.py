"""`visionops serve`, `metrics` and `webhook`: what listens. Predictions over HTTP, what Prometheus reads of all
projects, and what lakeFS calls after a commit, so that the sensor looks at once.
"""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resources.error_family import Invalid
from resources.settings import Dagster, given
from visionops import interruption

if TYPE_CHECKING:
    from visionops.serving.prediction_server import Access


AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A name that clients call this server, beside its address; `*` for any. May be repeated.",
    ),
]
TlsCert = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Certificate, with those that lead to it: speak HTTPS.")
]
TlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's private key.")]
_BATCH, _LOOK_EVERY, _DECODE_SECONDS = 64, 2.0, 2.0
METRICS_PORT = 9321
WEBHOOK_PORT = 9322
WEBHOOK_PATH = "/lakefs"
webhook_app = typer.Typer(help="Have the sensor look as soon as lakeFS commits.", no_args_is_help=True)


def access_of(
    token: str, allow_host: list[str] | None, tls_cert: Path | None, tls_key: Path | None
) -> "Access":
    """Who may ask a server; `token` names the variable that may hold its token."""
    from visionops.serving.prediction_server import Access

    return Access(token=given(token), hosts=allow_host or [], certificate=tls_cert, key=tls_key)


def serve_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    allow_host: AllowHost = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    device: Annotated[str, typer.Option(help="How the log names this server; by default the host.")] = "",
    log: Annotated[bool, typer.Option(help="Write the inference log.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="The most images answered together.")] = _BATCH,
    queue: Annotated[
        int, typer.Option(min=1, help="The most requests that wait; others are told to come again (429).")
    ] = 1024,
    decode_seconds: Annotated[
        float, typer.Option(min=0.05, help="Processor time that one image may take to be decoded.")
    ] = _DECODE_SECONDS,
    threads: Annotated[
        int,
        typer.Option(
            min=0, help="Threads of the model a batch; 0: one where several are answered, else all there are."
        ),
    ] = 0,
    look_every: Annotated[
        float, typer.Option(min=0.05, help="Seconds between two looks at what is in production.")
    ] = _LOOK_EVERY,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Answer by assignment, as the device that `visionops fleet provision` made this folder of, named by "
            "--device too.",
        ),
    ] = None,
) -> None:
    """Answer images over HTTP: `curl -F file=@image.png http://127.0.0.1:8080/predict`, or as the body itself.

    Each answer names its model. A promotion or rollback swaps the model between two batches: no request is dropped.
    With --state it is a device of its group: it takes what that is assigned, signed, after a self-test, and reports.

    GET /health and /metrics say how it does. With VISIONOPS_SERVE_TOKEN every request but for /health carries it as
    `Authorization: Bearer`.
    """
    interruption.keep("what was answered is logged")
    from resources.escaping import log_to_stderr
    from visionops import services
    from visionops.serving.assigned_app import AssignedApp, opened_device
    from visionops.serving.prediction_app import PredictionApp
    from visionops.serving.prediction_log import BackgroundLog, PredictionLog, this_machine
    from visionops.serving.prediction_server import PredictionServer
    from visionops.serving.request_handling import CurrentModel

    log_to_stderr()
    logging.getLogger("visionops").setLevel(logging.INFO)
    found = services.project(project)
    if state is not None:
        said = {
            "--batch": batch != _BATCH,
            "--threads": threads != 0,
            "--look-every": look_every != _LOOK_EVERY,
            "--decode-seconds": decode_seconds != _DECODE_SECONDS,
            "--no-log": not log,
        }
        _require_of_a_device(project, state, device, [name for name, differs in said.items() if differs])
        access = access_of("VISIONOPS_SERVE_TOKEN", allow_host, tls_cert, tls_key)
        named = {"project": found.delivered_as, "device": device, "group": group}
        with opened_device(state, **named) as opened:
            assigned = AssignedApp(project, opened, queue)
            server = PredictionServer(assigned, host, port, access=access)
            server.run(
                lambda: typer.echo(f"{assigned.answers()} at {server.address}/predict; Ctrl-C stops it")
            )
        return
    registry = services.registry()
    note = services.check_group(registry, project, group)
    current = CurrentModel(registry, project, group, threads)
    if note is not None:
        typer.echo(note, err=True)
    written = None
    if log:
        written = BackgroundLog(PredictionLog(services.spool(), found, device or this_machine(), group))
    app = PredictionApp(
        project,
        group,
        current,
        written,
        batch=batch,
        look_every=look_every,
        queue=queue,
        decode_seconds=decode_seconds,
    )
    access = access_of("VISIONOPS_SERVE_TOKEN", allow_host, tls_cert, tls_key)
    server = PredictionServer(app, host, port, access=access)
    server.run(
        lambda: typer.echo(
            f"version {current.model.version} of {project} answers at {server.address}/predict: "
            f"`curl -F file=@image.png {server.address}/predict`; Ctrl-C stops it"
        )
    )
    if written is not None and written.dropped:
        interruption.keep(f"{written.dropped:,} rows of what was answered are lost to the log")


def _require_of_a_device(project: str, state: Path, device: str, given: list[str]) -> None:
    if not device:
        raise Invalid(
            f"with --state name the device, too: --device NAME, as `visionops fleet provision {project} --group GROUP "
            f"--device NAME --to {state}` made it"
        )
    if given:
        raise Invalid(
            f"{', '.join(given)} and --state exclude one another: how often a device looks and what it logs its "
            "assignment says, and `threads` its device.json; it answers one image at a time"
        )


def metrics_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = METRICS_PORT,
    allow_host: AllowHost = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Answer Prometheus at /metrics: champions, verdicts, drift, performance, freshness, runs, sensors, alarms.

    A service that is away is `visionops_up` 0; everything else goes on being told. With VISIONOPS_METRICS_TOKEN every
    request but for /health carries it as `Authorization: Bearer`.
    """
    # A page that is waited for: MLflow's own patience would be twenty seconds.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")

    from resources.escaping import log_to_stderr
    from visionops import services
    from visionops.serving.exporter import Exporter, metrics_app, readings
    from visionops.serving.prediction_server import PredictionServer
    from webserver.guard import ServerLimits

    log_to_stderr()
    with services.dagster() as instance:
        access = access_of("VISIONOPS_METRICS_TOKEN", allow_host, tls_cert, tls_key)
        app = metrics_app(Exporter(readings(instance)))
        server = PredictionServer(app, host, port, access=access, limits=ServerLimits())
        server.run(lambda: typer.echo(f"metrics of all projects at {server.address}/metrics"))


@webhook_app.command("serve")
def webhook_serve_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = WEBHOOK_PORT,
    dagster: Annotated[
        str | None,
        typer.Option(help="Address of the Dagster webserver that takes runs; by default DAGSTER_UI_URL."),
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Take lakeFS's calls at /lakefs: each has the commit sensor look at once and hands its run to Dagster's queue.

    A call has to carry `Authorization: Bearer` and VISIONOPS_WEBHOOK_TOKEN. Forged and repeated calls start nothing.
    """
    from resources.environ import webhook_token
    from resources.escaping import log_to_stderr
    from visionops import services
    from visionops.serving.commit_look import CodeLocation, Looking, launch_through, warm_up
    from visionops.serving.prediction_server import Access, PredictionServer
    from visionops.serving.webhook import WebhookGuard, receiver_app
    from webserver.guard import ANY_HOST, ServerLimits

    log_to_stderr()
    logging.getLogger("visionops.webhook").setLevel(logging.INFO)
    if missing := why_no_webhook():
        raise Invalid(missing)
    guard = WebhookGuard(webhook_token())
    launch = launch_through(dagster or Dagster.read().ui_url)
    location = CodeLocation()
    defs, projects = location.load()
    defs.get_repository_def()
    warm_up(services.lakefs(), projects)
    with services.dagster() as instance:
        looking = Looking(instance, location.load, launch)
        # lakeFS is known by the token, and may call this machine as it likes.
        access = Access(hosts=[ANY_HOST], certificate=tls_cert, key=tls_key)
        app = receiver_app(guard, looking.look)
        server = PredictionServer(app, host, port, access=access, limits=ServerLimits())
        server.run(lambda: typer.echo(f"lakeFS may call {server.address}{WEBHOOK_PATH}"))


@webhook_app.command("install")
def webhook_install_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    url: Annotated[
        str, typer.Option(help="Where lakeFS reaches the receiver.")
    ] = f"http://127.0.0.1:{WEBHOOK_PORT}{WEBHOOK_PATH}",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Commit the action that calls the receiver to the `main` of the project's repository.

    The lakeFS server needs LAKEFSACTION_VISIONOPS_TOKEN in its environment; the embedded one has it.
    """
    from visionops import services
    from visionops.serving import webhook

    found = services.project(project)
    commit = webhook.install_action(services.lakefs(), found.repository, url)
    if as_json:
        told = {"repository": found.repository, "path": webhook.ACTION_PATH, "calls": url, "commit": commit}
        typer.echo(json.dumps(told, indent=1))
        return
    where = f"{found.repository}/main {webhook.ACTION_PATH}"
    if commit is None:
        typer.echo(f"{where} calls {url} already")
    else:
        typer.echo(f"{where} calls {url} from now on (commit {commit[:12]})")


def why_no_webhook() -> str | None:
    """Why no call could be known for lakeFS's, in words: a lakeFS of one's own has to be given the token."""
    from resources.environ import LAKEFS_ACTION_TOKEN, WEBHOOK_TOKEN

    if not given("LAKEFS_ENDPOINT") or given(WEBHOOK_TOKEN):
        return None
    return (
        f"set {WEBHOOK_TOKEN} to a secret here, and {LAKEFS_ACTION_TOKEN} to the same in the environment of the lakeFS "
        "server: it is how lakeFS is known"
    )
