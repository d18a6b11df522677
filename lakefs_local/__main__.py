"""`python -m lakefs_local serve --data DIR`: the command line of the embedded server."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = _parser().parse_args(arguments)
    # Imported late: `--help` and mistakes should not wait for the web server.
    from lakefs_local import serve

    return serve.serve(
        serve.Options(
            data=options.data,
            host=options.host,
            port=options.port,
            import_from=options.import_from,
            idle_exit=options.idle_exit,
            max_upload=options.max_upload,
        )
    )


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
        "--import-from",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder that imports may read; may be repeated",
    )
    serve.add_argument(
        "--idle-exit", type=float, metavar="SECONDS", help="leave after this long without a request"
    )
    serve.add_argument(
        "--max-upload", type=int, default=5 << 30, metavar="BYTES", help="largest object taken"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
