"""`visionops webhook`: what lakeFS calls after a commit, so that the sensor looks at once."""

import logging
import os
from typing import Annotated

import typer

from visionops.listening import TlsCert, TlsKey

PORT = 9322
PATH = "/lakefs"

app = typer.Typer(help="Have the sensor look as soon as lakeFS commits.", no_args_is_help=True)


@app.command("serve")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = PORT,
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
    from resources.escaping import log_to_stderr
    from resources.webhook_token import webhook_token
    from visionops import services
    from visionops.receiver.app import receiver_app
    from visionops.receiver.events import Guard
    from visionops.receiver.loading import CodeLocation, warm_up
    from visionops.receiver.looking import Looking, launch_through
    from visionops.serving.prediction_server import Access, PredictionServer
    from webserver.guard import ANY_HOST
    from webserver.limits import ServerLimits

    log_to_stderr()
    logging.getLogger("visionops.webhook").setLevel(logging.INFO)
    if missing := why_not():
        raise ValueError(missing)
    guard = Guard(webhook_token())
    launch = launch_through(dagster or os.environ.get("DAGSTER_UI_URL") or "http://127.0.0.1:3000")
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
        server.run(lambda: typer.echo(f"lakeFS may call {server.address}{PATH}"))


@app.command("install")
def install(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    url: Annotated[
        str, typer.Option(help="Where lakeFS reaches the receiver.")
    ] = f"http://127.0.0.1:{PORT}{PATH}",
) -> None:
    """Commit the action that calls the receiver to the `main` of the project's repository.

    The lakeFS server needs LAKEFSACTION_VISIONOPS_TOKEN in its environment; the embedded one has it.
    """
    from visionops import services
    from visionops.receiver import action

    found = services.project(project)
    commit = action.install(services.lakefs(), found.repository, url)
    where = f"{found.repository}/main {action.PATH}"
    if commit is None:
        typer.echo(f"{where} calls {url} already")
    else:
        typer.echo(f"{where} calls {url} from now on (commit {commit[:12]})")


def why_not() -> str | None:
    """Why no call could be known for lakeFS's, in words: a lakeFS of one's own has to be given the token."""
    from resources.webhook_token import LAKEFS_TOKEN, TOKEN

    if not os.environ.get("LAKEFS_ENDPOINT") or os.environ.get(TOKEN):
        return None
    return (
        f"set {TOKEN} to a secret here, and {LAKEFS_TOKEN} to the same in the environment of the lakeFS server: it is "
        "how lakeFS is known"
    )
