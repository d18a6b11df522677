"""What `visionops doctor` says of webhooks and metrics."""

import socket

import pytest
from hook import SECRET

from visionops import metrics
from visionops.diagnosis import services_in_use
from visionops.exporter.app import metrics_app
from visionops.exporter.collector import Exporter
from visionops.serving.server import in_thread
from visionops.up import _Beside


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
            monkeypatch.setenv("VISIONOPS_ERROR_WEBHOOK", address)
            monkeypatch.delenv("VISIONOPS_VERDICT_WEBHOOK", raising=False)
            errors, verdicts = services_in_use.webhooks()
            assert (errors.state, verdicts.state) == (state, "ok"), address
            assert bool(errors.fix) == (state != "ok")
            assert SECRET not in errors.what + errors.fix
            assert "nobody is told: VISIONOPS_VERDICT_WEBHOOK is not set" in verdicts.what


def test_the_usual_port_of_the_metrics_is_ours_somebody_else_s_or_free(monkeypatch: pytest.MonkeyPatch):
    with in_thread(metrics_app(Exporter({}))) as server:
        port = int(server.address.rpartition(":")[2])
        monkeypatch.setattr(metrics, "PORT", port)
        (line,) = services_in_use.metrics()
        assert (line.state, line.what) == ("ok", f"http://127.0.0.1:{port}/metrics answers")
        assert _port_of_up(port) not in (0, port), "`up` takes another"
        with pytest.raises(RuntimeError, match=f"`visionops up --metrics-port {port + 1}`"):
            _port_of_up(port, asked=port)
    (line,) = services_in_use.metrics()
    assert (line.state, "nothing answers" in line.what) == ("ok", True)
    assert _port_of_up(port) == port
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(metrics, "PORT", other.getsockname()[1])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("httpx.get", _no_http)
            (line,) = services_in_use.metrics()
    assert (line.state, bool(line.fix)) == ("warning", True)


def _port_of_up(usual: int, asked: int | None = None) -> int:
    return _Beside("metrics", "/metrics", ("metrics",), usual, asked).port("127.0.0.1")


def _no_http(*_: object, **__: object) -> None:
    import httpx

    raise httpx.RemoteProtocolError("no HTTP")
