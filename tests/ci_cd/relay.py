"""`visionops` as an executable whose work a child does that has imported everything: it starts in no time."""

import contextlib
import functools
import json
import os
import socketserver
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tests import processes

_SENDING = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as relay:
    relay.connect({address!r})
    told = {{"words": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
    relay.sendall(json.dumps(told).encode() + b"\\n")
    answer = json.loads(relay.makefile().readline())
sys.stdout.write(answer["said"])
sys.exit(answer["code"])
"""


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        told = json.loads(self.rfile.readline())
        with tempfile.TemporaryDirectory() as folder:
            ended = processes.visionops(
                *told["words"],
                environment={**told["environment"], "PYTHONPATH": os.environ["PYTHONPATH"]},
                said=Path(folder, "said"),
                before=functools.partial(os.chdir, told["folder"]),
            )
        self.wfile.write(json.dumps({"said": ended.said, "code": ended.code}).encode() + b"\n")


@contextlib.contextmanager
def relayed(folder: Path) -> Iterator[None]:
    """Put `visionops` into a folder, which works while the context lasts."""
    # An address of a socket is short, a test's folder is not.
    with tempfile.TemporaryDirectory() as short:
        address = str(Path(short, "relay"))
        with socketserver.ThreadingUnixStreamServer(address, _Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            executable = folder / "visionops"
            executable.write_text(_SENDING.format(python=sys.executable, address=address))
            executable.chmod(0o755)
            try:
                yield
            finally:
                server.shutdown()
