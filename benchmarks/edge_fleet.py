"""A thousand devices with real files, TUF and HTTP in one process, and what a static server answers.

Prints each measure beside its budget; exit code 1 where one is missed.
"""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

DEVICES = int(os.environ.get("DEVICES", "1000"))
POLLS = 20_000


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ask(host: str, port: int, path: str, number: int) -> None:
    """Poll as devices do, over connections that stay."""
    import socket

    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    with socket.create_connection((host, port)) as line:
        for _ in range(number):
            line.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += line.recv(65536)
            head, _, body = answer.partition(b"\r\n\r\n")
            length = next(
                int(each.split(b":")[1])
                for each in head.split(b"\r\n")
                if each.lower().startswith(b"content-length")
            )
            while len(body) < length:
                body += line.recv(65536)


def main() -> int:
    """Measure."""
    import logging
    from urllib.parse import urlsplit

    from tests.devices.small_fleet import PROJECT, Fleet, frame
    from visionops.edge_repository import EdgeFiles
    from visionops.serving.prediction_server import in_thread

    logging.disable(logging.WARNING)
    missed = 0

    def told(what: str, found: float, budget: float, unit: str, *, least: bool = False) -> None:
        nonlocal missed
        fine = found >= budget if least else found <= budget
        missed += not fine
        print(
            f"{'ok  ' if fine else 'MISS'} {what}: {found:,.1f} {unit} (budget {budget:,} {unit})", flush=True
        )

    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder))
        fleet.publish(fleet.bundle(1, padding=100_000), observe={"frames": 1})
        with in_thread(EdgeFiles(Path(folder) / "repository")) as server:  # type: ignore[arg-type]
            url = f"{server.address}/{PROJECT}"
            agents = []
            before = cpu()
            for number in range(DEVICES):
                device = fleet.device(f"cam-{number}", url=url)
                agent = device.start()
                agent.look()
                agent.settle()
                agent.answer(frame())
                agents.append((agent, device))
                agent.close()
            assert all(agent.state.phase == "IDLE" for agent, _ in agents)
            told(
                f"{DEVICES} devices installed, server included", cpu() - before, 60 * DEVICES / 1000, "s CPU"
            )
            before, requests = cpu(), sum(device.client.requests for _, device in agents)
            for agent, _ in agents:
                agent.look()
            asked = sum(device.client.requests for _, device in agents) - requests
            told("requests a poll without news", asked / DEVICES, 2, "requests")
            print(
                f"     a poll without news: {(cpu() - before) / DEVICES * 1000:.1f} ms CPU, server included"
            )
            place = urlsplit(server.address)
            assert place.hostname is not None and place.port is not None
            path = f"/{PROJECT}/metadata/timestamp.json"
            asking = [
                multiprocessing.get_context("spawn").Process(
                    target=ask, args=(place.hostname, place.port, path, POLLS // 2)
                )
                for _ in range(2)
            ]
            before = cpu()
            started = time.perf_counter()
            for each in asking:
                each.start()
            for each in asking:
                each.join()
            seconds = cpu() - before
            told("answers of the static server a second of one core", POLLS / seconds, 2000, "/s", least=True)
            print(
                f"     {POLLS / (time.perf_counter() - started):,.0f} /s by the clock, clients on the same machine"
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
