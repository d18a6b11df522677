"""Run by a test: commands one after the other, and how often they tried to reach somebody.

`python alone.py network|proxy REPORT COMMANDS.json`. In an empty `network` of its own nothing but the loopback is
reached, and the kernel counts what was to go elsewhere: names that are looked up, and connections by whatever code.
Where no process may have one, a `proxy` refuses and counts what asks it, which sees most clients and not all.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

_GET, _SET, _UP = 0x8913, 0x8914, 1


def loopback_up() -> None:
    """Let the processes of this network reach each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, _GET, request))[1]
        fcntl.ioctl(control, _SET, struct.pack("16sH14x", b"lo", flags | _UP))


def without_way() -> int:
    """How many packets of this network were to go where no way leads, so far."""
    lines = [
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")
    ]
    found = int(dict(zip(*lines, strict=True))["OutNoRoutes"])
    for line in Path("/proc/net/snmp6").read_text().splitlines():
        name, value = line.split()
        found += int(value) if name == "Ip6OutNoRoutes" else 0
    return found


class RefusingProxy:
    """Ends every connection at once, and counts them."""

    def __init__(self) -> None:
        self.asked = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
            os.environ[name] = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._refuse, daemon=True).start()

    def count(self) -> int:
        return self.asked

    def _refuse(self) -> None:
        while True:
            connection, _ = self._server.accept()
            self.asked += 1
            connection.close()


def main() -> None:
    report, commands = Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
    if sys.argv[1] == "network":
        loopback_up()
        tried = without_way
    else:
        tried = RefusingProxy().count
    told = []
    for command in commands:
        before = tried()
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=dict(os.environ))
        told.append([done.returncode, tried() - before, done.stdout + done.stderr])
    report.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
