"""`python -m lakefs_local serve | gc | fsck --data DIR`: the command line of the embedded server."""

import argparse
import base64
import http.client
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from lakefs_local import discovery
from lakefs_local.data_folder import DataFolder, FolderError
from lakefs_local.maintenance import check_data, collect
from lakefs_local.store import Gate, Store

_TIMEOUT = 3600


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = _parser().parse_args(arguments)
    from lakefs_local.data_folder import SAID_BY, FolderError

    try:
        return int(options.run(options))
    except FolderError as problem:
        print(f"{SAID_BY}{problem}", file=sys.stderr)
        return 2


# Each command imports what it needs: `--help` and mistakes should not wait for the web server.


def _serve(options: argparse.Namespace) -> int:
    from lakefs_local.serve import Options, serve

    return serve(
        Options(
            data=options.data,
            host=options.host,
            port=options.port,
            prefer=options.prefer_port,
            import_from=options.import_from,
            idle_exit=options.idle_exit,
            max_upload=options.max_upload,
            wait=options.wait,
            login=options.login,
        )
    )


def _gc(options: argparse.Namespace) -> int:

    for name, number in collect_garbage(options.data).items():
        print(f"{name.replace('_', ' ')} removed: {number}")
    return 0


def _fsck(options: argparse.Namespace) -> int:

    problems = 0
    for line in check_folder(options.data):
        problems += 1
        print(line)
    print(f"{problems} problems found" if problems else "no problems found")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lakefs_local", description="An embedded lakeFS-API server."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a data folder")
    serve.add_argument("--data", type=Path, required=True, help="the data folder; made if it is not there")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    serve.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one")
    serve.add_argument(
        "--prefer-port",
        type=int,
        action="append",
        default=[],
        metavar="PORT",
        help="a port to try before --port; may be repeated",
    )
    serve.add_argument(
        "--import-from",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder that imports may read; may be repeated",
    )
    serve.add_argument(
        "--idle-exit",
        type=float,
        metavar="SECONDS",
        help="leave after this long in which no process uses the server and nothing asks it",
    )
    serve.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="how long to wait for another server of the folder to leave (default: refuse at once)",
    )
    serve.add_argument(
        "--login",
        action="store_true",
        help="have the pages ask whoever sits at this machine for the key pair too",
    )
    serve.add_argument(
        "--max-upload", type=int, default=5 << 30, metavar="BYTES", help="largest object taken"
    )
    serve.set_defaults(run=_serve)
    for name, run, about in (
        ("gc", _gc, "remove what no branch or tag reaches"),
        ("fsck", _fsck, "check every reference, commit, tree and blob"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("--data", type=Path, required=True, help="the data folder")
        command.set_defaults(run=run)
    return parser


def collect_garbage(data: Path) -> dict[str, int]:
    """Collect garbage; how much was removed. Raises FolderError."""
    folder = DataFolder(data)
    folder.check_format()
    server = discovery.running(data)
    if server is not None:
        return _ask_to_collect(server)
    store = Store(folder)
    try:
        return collect(store, Gate()).told()
    finally:
        store.close()


def check_folder(data: Path) -> Iterator[str]:
    """What is wrong with a data folder. Raises FolderError."""
    return check_data(DataFolder(data))


def _ask_to_collect(server: discovery.Server) -> dict[str, int]:
    address = urlsplit(server.endpoint)
    pair = f"{server.access_key_id}:{server.secret_access_key}"
    headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT)
    try:
        connection.request("POST", "/_lakefs_local/collect", headers=headers)
        answer = connection.getresponse()
        said: dict[str, int] = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise FolderError(f"the server at {server.endpoint} did not collect: {problem}") from problem
    finally:
        connection.close()
    if answer.status != 200:
        raise FolderError(f"the server at {server.endpoint} did not collect: {said.get('message')}")
    return said


if __name__ == "__main__":
    sys.exit(main())
