"""What `visionops doctor` says of webhooks, pages and metrics."""

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from resources.error_family import Unavailable
from visionops.cli import listening
from visionops.cli.up import _Beside
from visionops.diagnosis import servers
from visionops.diagnosis.checking import rows
from visionops.serving.exporter import Exporter, metrics_app
from visionops.serving.prediction_server import in_thread

SECRET = "T0-B1-very-secret"
VARIABLE = "VISIONOPS_ERROR_WEBHOOK"


def test_webhooks_are_reached_without_a_message_and_named_without_their_secret(
    monkeypatch: pytest.MonkeyPatch,
):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        addresses = {
            f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}": "ok",
            f"http://127.0.0.1:{closed.getsockname()[1]}/{SECRET}": "broken",
            f"mailto:{SECRET}": "broken",
            f"http://{SECRET}:port/": "broken",
        }
        for address, state in addresses.items():
            monkeypatch.setenv(VARIABLE, address)
            monkeypatch.delenv("VISIONOPS_VERDICT_WEBHOOK", raising=False)
            checks = [check for check in servers.checks([]) if check.subject.startswith("webhook for")]
            errors, verdicts = rows(checks)
            assert (errors.state, verdicts.state) == (state, "ok"), address
            assert bool(errors.fix) == (state != "ok")
            assert SECRET not in str(errors)
            assert verdicts.what == "nobody is told"
        server.setblocking(False)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(100) == b"", "nothing was sent"


def test_a_webhook_behind_a_proxy_is_reached_through_it(monkeypatch: pytest.MonkeyPatch):
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for answered, state in (("200 Connection established", "ok"), ("403 Forbidden", "broken")):
        with _proxy(answered) as (address, asked):
            monkeypatch.setenv("HTTPS_PROXY", address)
            monkeypatch.setenv(VARIABLE, f"https://hooks.example.com/{SECRET}")
            found = servers.webhook(VARIABLE)
        assert found.state == state
        assert asked == [b"CONNECT hooks.example.com:443 HTTP/1.1"]
    assert "the proxy does not connect to hooks.example.com (status 403)" in found.what
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert "the proxy 127.0.0.1 cannot be reached" in servers.webhook(VARIABLE).what


def test_a_webhook_whose_certificate_nobody_signed_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with _self_signed(tmp_path) as port:
        monkeypatch.setenv(VARIABLE, f"https://localhost:{port}/{SECRET}")
        found = servers.webhook(VARIABLE)
    assert found.state == "broken"
    assert "localhost has no certificate that is trusted here" in found.what


def test_a_page_for_browsers_need_not_be_reached_from_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_UI_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DAGSTER_UI_URL", "dagster.example.com")
    states = {row.subject: row.state for row in rows(servers.checks([])) if "pages" in row.subject}
    assert states == {"MLflow's pages": "warning", "Dagster's pages": "broken"}


@contextmanager
def _proxy(answered: str) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that answers one request so, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(1000).splitlines()[0])
                connection.sendall(f"HTTP/1.1 {answered}\r\n\r\n".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join()


@contextmanager
def _self_signed(folder: Path) -> Iterator[int]:
    """The port of a server with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate = folder / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate.write_bytes(private + made.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


def test_the_usual_port_of_the_metrics_is_ours_somebody_else_s_or_free(monkeypatch: pytest.MonkeyPatch):
    with in_thread(metrics_app(Exporter({}))) as server:
        port = int(server.address.rpartition(":")[2])
        monkeypatch.setattr(listening, "METRICS_PORT", port)
        line = servers.metrics()
        assert (line.state, line.what) == ("ok", f"http://127.0.0.1:{port}/metrics answers")
        assert _port_of_up(port) not in (0, port), "`up` takes another"
        with pytest.raises(Unavailable, match=f"`visionops up --metrics-port {port + 1}`"):
            _port_of_up(port, asked=port)
    line = servers.metrics()
    assert (line.state, "nothing answers" in line.what) == ("ok", True)
    assert _port_of_up(port) == port
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(listening, "METRICS_PORT", other.getsockname()[1])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("httpx.get", _no_http)
            line = servers.metrics()
    assert (line.state, bool(line.fix)) == ("warning", True)


def _port_of_up(usual: int, asked: int | None = None) -> int:
    return _Beside("metrics", "/metrics", ("metrics",), usual, asked).port("127.0.0.1")


def _no_http(*_: object, **__: object) -> None:
    import httpx

    raise httpx.RemoteProtocolError("no HTTP")
