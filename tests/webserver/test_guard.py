"""Who may ask a server: by token, by the name it is called, over TLS, and not through another site's page."""

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from visionops.serving.prediction_server import Access, CannotListen, PredictionServer, in_thread

TOKEN = "a-token-that-nobody-guesses"


async def yes(_: Request) -> PlainTextResponse:
    return PlainTextResponse("yes")


APP = Starlette(routes=[Route("/", yes, methods=["GET", "POST"]), Route("/health", yes)])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[broken"}, 403),
    ],
)
def test_another_sites_page_may_not_ask(headers: dict[str, str], status: int):
    with in_thread(APP) as server:
        assert httpx.post(server.address, headers=headers).status_code == status
        assert httpx.get(server.address, headers=headers).status_code == 200
        own = {"origin": server.address}
        assert httpx.post(server.address, headers=own).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("serve:8080", 200),
        ("10.0.0.7", 200),
        ("[::1]:80", 200),
        ("models.example.com", 200),
        ("MODELS.example.com:443", 200),
        ("evil.example", 403),
        ("[broken", 403),
    ],
)
def test_a_name_that_somebody_pointed_here_is_refused(host: str, status: int):
    access = Access(hosts=["models.example.com"])
    with in_thread(APP, access=access) as server:
        answer = httpx.get(server.address, headers={"host": host})
        assert answer.status_code == status
        assert status == 200 or "--allow-host" in answer.json()["error"]
    with in_thread(APP, access=Access(hosts=["*"])) as server:
        assert httpx.get(server.address, headers={"host": "evil.example"}).status_code == 200


def test_with_a_token_everything_but_health_carries_it():
    with in_thread(APP, access=Access(token=TOKEN)) as server:
        refused = httpx.get(server.address)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        for wrong in ("", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"):
            answer = httpx.get(server.address, headers=[(b"authorization", wrong.encode())])
            assert answer.status_code == 401
            assert TOKEN not in answer.text
        right = {"authorization": f"Bearer {TOKEN}", "host": "any.example.com"}
        assert httpx.get(server.address, headers=right).status_code == 200
        assert httpx.get(f"{server.address}/health").status_code == 200


def test_a_token_that_can_be_guessed_is_refused():
    with pytest.raises(ValueError, match="the token has 5 characters, 16 are the least"):
        PredictionServer(APP, "127.0.0.1", 0, access=Access(token="short"))


def certificate(folder: Path) -> tuple[Path, Path]:
    made = folder / "cert.pem", folder / "key.pem"
    asked = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run(["openssl", *asked.split(), *names, *files], check=True, capture_output=True)
    return made


def test_over_tls(tmp_path: Path):
    cert, key = certificate(tmp_path)
    with in_thread(APP, access=Access(certificate=cert, key=key)) as server:
        assert server.address.startswith("https://")
        trusted = ssl.create_default_context(cafile=cert)
        assert httpx.get(server.address, verify=trusted).text == "yes"
        long = {"x": "a" * 40_000}
        assert httpx.get(server.address, verify=trusted, headers=long).status_code == 431
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.address.replace("https", "http"))


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path):
    cert, key = certificate(tmp_path)
    with pytest.raises(ValueError, match="both --tls-cert and --tls-key"):
        PredictionServer(APP, "127.0.0.1", 0, access=Access(certificate=cert))
    with pytest.raises(CannotListen, match=r"gone\.pem"):
        PredictionServer(APP, "127.0.0.1", 0, access=Access(certificate=tmp_path / "gone.pem", key=key))
    key.write_text("no key")
    with pytest.raises(CannotListen, match="cannot be used"):
        PredictionServer(APP, "127.0.0.1", 0, access=Access(certificate=cert, key=key))
