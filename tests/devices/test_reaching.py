"""How a device reaches its repository: certificates of both sides, a token, a proxy; and what it can run at all."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge import machine
from edge.device import Device as Running
from edge.fetch import Client, Unreachable
from edge.files import Files
from edge.settings import Settings
from tests.devices.small_fleet import GROUP, PROJECT, Device, Fleet, frame, update


class Seen(http.server.SimpleHTTPRequestHandler):
    """Serves the folder of a repository, and keeps what was asked."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        # A proxy is asked by whole addresses.
        self.path = "/" + self.path.split("://", 1)[-1].split("/", 1)[-1]
        super().do_GET()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def started(server: http.server.ThreadingHTTPServer) -> Iterator[None]:
    """Let a server answer meanwhile."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[Any]]]:
    """A server of a folder: its port, and what it was asked."""
    asked: list[Any] = []
    handler = type("Handler", (Seen,), {"asked": asked})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *given: handler(*given, directory=str(folder))
    )
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with started(server):
        yield server.server_port, asked


def certificate(folder: Path, name: str, signer: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """A certificate and its key in `<name>.pem`, by itself or by another."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[0].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), True)
    )
    made = builder.sign(signer[1] if signer else key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.pem").write_bytes(pem)
    return made, key


@pytest.fixture
def closed(tmp_path: Path) -> ssl.SSLContext:
    """TLS of a server that asks for a certificate of ours; `ca.pem`, `server.pem` and `client.pem` are made."""
    ca = certificate(tmp_path, "ca", None)
    for name in ("server", "client"):
        certificate(tmp_path, name, ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_certificates_of_both_sides(fleet: Fleet, closed: ssl.SSLContext, tmp_path: Path) -> None:
    mine: dict[str, Any] = {"certificate": str(tmp_path / "client.pem"), "key": str(tmp_path / "client.pem")}
    with serving(fleet.root / "repository", closed) as (port, _):
        device = fleet.device(url=f"https://127.0.0.1:{port}/{PROJECT}")
        device.client = Client(ca=str(tmp_path / "ca.pem"), **mine)
        assert update(device.start())["model"]["release"] == 1
        fleet.publish(fleet.bundle(2))
        for client in (Client(ca=str(tmp_path / "ca.pem")), Client(**mine)):
            # Without its own certificate, or one to know the server by.
            device.client = client
            agent = device.start()
            with pytest.raises(Unreachable, match=r"https://127\.0\.0\.1:\d+ cannot be reached"):
                agent.look()


def test_a_bearer_token_goes_to_the_repository_and_to_nobody_it_sends_to(
    fleet: Fleet, tmp_path: Path
) -> None:
    with serving(fleet.root / "repository") as (port, asked):
        device = fleet.device(url=f"http://127.0.0.1:{port}/{PROJECT}")
        device.client = Client(token="s3cret")
        assert update(device.start())["model"]["release"] == 1
        assert {given for _, given in asked} == {"Bearer s3cret"}
        asked.clear()

        class Elsewhere(Seen):
            def do_GET(self) -> None:
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{port}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

        moved = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
        with started(moved):
            other = fleet.device("cam-18", url=f"http://127.0.0.1:{moved.server_port}/{PROJECT}")
            other.client = Client(token="s3cret")
            assert update(other.start())["model"]["release"] == 1
        assert {given for _, given in asked} == {None}


def test_a_proxy_is_asked_for_everything(fleet: Fleet) -> None:
    with serving(fleet.root / "repository") as (port, asked):
        device = fleet.device(url=f"http://models.invalid/{PROJECT}")
        device.client = Client(proxy=f"http://127.0.0.1:{port}")
        assert update(device.start())["model"]["release"] == 1
        assert asked and all(path.startswith("http://models.invalid/") for path, _ in asked)


@pytest.mark.parametrize("name", ["ca", "certificate", "certificate_key"])
def test_a_certificate_that_is_gone_is_a_problem_that_names_it(device: Device, name: str) -> None:
    gone: dict[str, Any] = {name: "gone.pem"}
    found = Settings(
        folder=device.folder,
        project=PROJECT,
        group=GROUP,
        device="cam-17",
        repository="https://127.0.0.1:9/x",
        **gone,
    )
    running = Running(found)
    try:
        problem = running.agent.status()["problem"]
        assert f"gone.pem, the `{name}` of device.json, cannot be read (No such file or directory)" in problem
        running.agent.attempt("repository", running.agent.look)
        assert running.agent.problems["repository"].startswith("https://127.0.0.1:9 cannot be reached")
        assert running.answer(frame())["model"]["release"] == 1
    finally:
        running.close()


HERE = {
    "onnxruntime": "1.20.1",
    "machine": "aarch64",
    "memory_mb": 512.0,
    "providers": ["CPUExecutionProvider"],
}


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ({"onnxruntime": "1.21"}, "needs ONNX Runtime 1.21, this is 1.20.1"),
        ({"opset": 22}, "needs ONNX Runtime 1.21"),
        ({"ir": 11}, "needs ONNX Runtime 1.22"),
        ({"machine": ["x86_64"]}, "is for x86_64, this is aarch64"),
        ({"memory_mb": 513}, "needs 513 MB of memory, this machine has 512"),
        ({"providers": ["CUDAExecutionProvider"]}, "needs CUDAExecutionProvider of ONNX Runtime"),
    ],
)
def test_what_a_machine_cannot_run_is_refused_before_a_byte_is_fetched(
    fleet: Fleet, device: Device, requires: dict[str, Any], said: str
) -> None:
    assert machine.unmet({"onnxruntime": "1.20", "opset": 20, "ir": 10, "memory_mb": 512}, HERE) is None
    fleet.publish(fleet.bundle(2, requires=requires))
    device.facts = HERE
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    event = device.events()[-1]
    assert (event["event"], event["why"]) == ("refused", "wrong_runtime") and said in event["detail"]
    files = Files(device.folder / "state")
    assert files.names("incoming") == [] and len(files.names("blobs")) == 2


def test_a_model_that_takes_more_memory_than_it_may_is_refused(fleet: Fleet, device: Device) -> None:
    fleet.publish(fleet.bundle(2, budget={"cpu_ms": 1000.0, "memory_mb": 10}))
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    event = device.events()[-1]
    assert (event["event"], event["why"]) == ("refused", "memory") and "10 MB are allowed" in event["detail"]
