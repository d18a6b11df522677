"""Running the server: who may write, who may sign in, limits, logs, metrics, stopping."""

import base64
import errno
import json
import logging
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lakefs_api import Api, Repository
from processes import ServerProcess

from lakefs_local.data_folder import (
    Authenticator,
    DataFolder,
    FolderError,
    KeyPair,
    cannot_write,
    load_keys,
    load_or_create_keys,
)
from lakefs_local.discovery import Server, serving
from lakefs_local.serve import RecordFormatter
from lakefs_local.store import Store
from webserver.asgi import bind


def test_a_second_writer_is_refused_and_told_who_the_first_is(server: Server, data: Path) -> None:
    with pytest.raises(
        FolderError, match=f"already being served by process {server.pid} at {server.endpoint}"
    ):
        Store(DataFolder(data))
    command = [sys.executable, "-m", "lakefs_local", "serve", "--data", str(data), "--port", "0"]
    second = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert second.returncode == 2
    assert str(server.pid) in second.stderr and "Traceback" not in second.stderr


def test_a_folder_of_another_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "format.json").write_text('{"format": 2}')
    with pytest.raises(FolderError, match="has format 2"):
        Store(DataFolder(tmp_path))
    assert not (tmp_path / "metadata.db").exists()


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.db").write_bytes(b"something")
    with pytest.raises(FolderError, match="not a data folder"):
        Store(DataFolder(tmp_path))


def test_credentials_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    (pair,) = load_or_create_keys(path)
    assert load_or_create_keys(path) == [pair]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(pair.access_key_id) == 20 and len(pair.secret_access_key) == 40


def test_all_key_pairs_of_the_file_sign_in(tmp_path: Path) -> None:
    pairs = [
        {"access_key_id": f"key-{number}", "secret_access_key": f"secret-{number}"} for number in range(3)
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "credentials.json").write_text(json.dumps(pairs))
    with serving(tmp_path / "data") as server:
        for pair in pairs:
            api = Api(Server(server.endpoint, pair["access_key_id"], pair["secret_access_key"], server.pid))
            assert api.call("GET", "/user").status == 200
        mixed = Api(Server(server.endpoint, "key-0", "secret-1", server.pid))
        assert mixed.call("GET", "/user").status == 401


@pytest.mark.parametrize("content", ["", "{}", "[]", '[{"access_key_id": "x"}]'])
def test_a_damaged_credentials_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "credentials.json").write_text(content)
    with pytest.raises(FolderError, match=r"credentials\.json"):
        load_keys(tmp_path / "credentials.json")


@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Basic !!!", "Bearer abc", "Basic " + base64.b64encode(b"key").decode()]
)
def test_what_is_no_basic_authentication_is_refused(header: str | None) -> None:
    assert Authenticator([KeyPair("key", "secret")]).key_of(header) is None


def test_every_pair_is_compared_whatever_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared: list[bytes] = []
    compare = hmac.compare_digest

    def recorded(known: bytes, sent: bytes) -> bool:
        compared.append(known)
        return compare(known, sent)

    monkeypatch.setattr(hmac, "compare_digest", recorded)
    authenticator = Authenticator([KeyPair("one", "1"), KeyPair("two", "2")])
    for pair in (b"one:1", b"two:x", b"nobody:x"):
        compared.clear()
        authenticator.key_of("Basic " + base64.b64encode(pair).decode())
        assert compared == [b"one", b"1", b"two", b"2"]


def test_the_server_listens_on_this_machine_only(server: Server) -> None:
    assert server.endpoint.startswith("http://127.0.0.1:")


def test_the_server_listens_where_it_is_told(tmp_path: Path) -> None:
    with serving(tmp_path / "data", host="0.0.0.0") as server:
        assert server.endpoint.startswith("http://0.0.0.0:")
        assert Api(server).call("GET", "/user").status == 200


def test_small_answers_are_not_held_back_by_the_network_stack() -> None:
    # asyncio sets TCP_NODELAY only on connections of a socket that is said to be TCP.
    with bind("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_the_first_keys_and_all_private_files_are_their_owners_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, import_from=[tmp_path]) as server:
        repository = Repository(Api(server), "private")
        repository.put("main", "a", b"private")
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        blobs = [path for path in (data / "blobs").rglob("*") if path.is_file()]
        private = [data / "credentials.json", data / "server.json", data / "signing.key", *blobs]
        assert len(blobs) == 1
        assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "data", max_upload=3_000_000) as server:
        repository = Repository(Api(server), "limited")
        repository.put("main", "fits", b"x" * 3_000_000)
        refused = repository.call("POST", "/branches/main/objects", {"path": "large"}, body=b"x" * 3_000_001)
        assert refused.status == 413
        assert repository.paths("main") == ["fits"]
        assert list((tmp_path / "data" / "incoming").iterdir()) == []


def test_a_json_body_beyond_the_limit_is_refused(api: Api) -> None:
    body = b'{"name": "' + b"a" * (17 << 20) + b'"}'
    answer = api.call("POST", "/repositories", body=body, headers={"Content-Type": "application/json"})
    assert answer.status == 413


def test_requests_from_another_site_change_nothing(repository: Repository) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    refused = repository.call("POST", "/branches/main/objects", {"path": "a"}, body=b"x", headers=foreign)
    assert refused.status == 403
    assert repository.call("GET", "/branches/main", headers=foreign).status == 200


def test_stored_pages_do_not_run_in_a_browser(repository: Repository) -> None:
    repository.put("main", "page.html", b"<script>alert(1)</script>", Content_Type="text/html")
    headers = repository.get("main", "page.html").headers
    assert "sandbox" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("kind", ["text/plain\r\nX-Evil: 1", "日本", "x" * 2000])
def test_a_content_type_that_is_no_header_is_refused(repository: Repository, kind: str) -> None:
    address = repository.call("GET", "/branches/main/staging/backing", {"path": "a"}).json
    body = {"staging": address, "checksum": "abc", "size_bytes": 1, "content_type": kind}
    refused = repository.call("PUT", "/branches/main/staging/backing", {"path": "a"}, data=body)
    assert refused.status == 400


def test_an_address_links_only_the_object_it_was_given_out_for(repository: Repository, data: Path) -> None:
    address = repository.call("GET", "/branches/main/staging/backing", {"path": "a"}).json["physical_address"]
    for path, stolen in [
        ("b", address),
        ("a", address + "0"),
        ("a", "local:///etc/passwd"),
        ("a", f"local://{data}/credentials.json"),
        ("a", f"local://{data}/staged/../credentials.json"),
    ]:
        body = {"staging": {"physical_address": stolen}, "checksum": "abc", "size_bytes": 1}
        refused = repository.call("PUT", "/branches/main/staging/backing", {"path": path}, data=body)
        assert (refused.status, refused.message) == (400, "address is not signed: link address invalid"), (
            stolen
        )
    assert repository.paths("main") == []


def test_metrics_count_requests_by_operation(api: Api, repository: Repository) -> None:
    repository.put("main", "a")
    text = api.send("GET", "/metrics").body.decode()
    assert 'lakefs_local_http_requests_total{operation="upload_object",status="201"}' in text
    assert "lakefs_local_http_request_duration_seconds_bucket" in text
    assert "lakefs_local_database_bytes" in text
    assert repository.name not in text


def test_the_access_log_has_a_line_for_each_request(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        api = Api(server)
        repository = Repository(api, "logged")
        repository.put("main", "a b", b"12345")
        repository.get("main", "a b")
        api.send("GET", "/api/v1/user")
    lines = (data / "access.log").read_text().splitlines()
    assert all(line.isprintable() for line in lines)
    uploads = [
        line
        for line in lines
        if "POST /api/v1/repositories/logged/branches/main/objects?path=a+b 201" in line
    ]
    assert len(uploads) == 1 and server.access_key_id in uploads[0]
    assert [line for line in lines if " - GET /api/v1/user 401 " in line]
    assert server.secret_access_key not in "".join(lines)


def test_stopping_lets_running_uploads_finish(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "data")
    repository = Repository(process.api, "stopped")
    acknowledged: list[str] = []

    def upload() -> None:
        for number in range(1000):
            try:
                repository.put("main", f"{number:04d}")
            except OSError:
                return
            except AssertionError:
                return
            acknowledged.append(f"{number:04d}")

    thread = threading.Thread(target=upload)
    thread.start()
    while len(acknowledged) < 20:
        thread.join(0.001)
    assert process.stop() == 0
    thread.join()
    assert not (tmp_path / "data" / "server.json").exists()
    again = ServerProcess(tmp_path / "data")
    repository.api = again.api
    assert repository.paths("main")[: len(acknowledged)] == acknowledged
    again.stop()


def test_mistakes_on_the_command_line_are_told_without_a_traceback(tmp_path: Path) -> None:
    for arguments in (["serve"], ["fsck", "--data", str(tmp_path)], ["gc", "--data", str(tmp_path)]):
        command = [sys.executable, "-m", "lakefs_local", *arguments]
        answer = subprocess.run(
            command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
        )
        assert answer.returncode == 2
        assert "Traceback" not in answer.stderr and answer.stderr


@pytest.mark.parametrize("most", [0, 10, 100, 1000, 4096, 40_000])
def test_a_start_without_room_for_its_files_says_so_in_one_line(tmp_path: Path, most: int) -> None:
    """Files may be no larger than `most`, which a process can be told as a disk cannot."""
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
        "import sys; from lakefs_local.__main__ import main\n"
        f"sys.exit(main(['serve', '--data', {str(tmp_path / 'data')!r}, '--port', '0', '--idle-exit', '0.1']))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in ended.stderr, ended.stderr
    assert ended.returncode in (0, 2)
    if ended.returncode:
        (line,) = ended.stderr.strip().splitlines()
        assert str(tmp_path / "data") in line


def test_a_log_record_is_one_record_whatever_a_path_is() -> None:
    said = {
        "msg": "GET %s failed",
        "args": ("a\n2026-01-01 ERROR forged\r\x1b[2J\u202e",),
        "levelname": "ERROR",
    }
    shown = RecordFormatter("%(levelname)s %(message)s").format(logging.makeLogRecord(said))
    assert shown == "ERROR GET a\n  2026-01-01 ERROR forged\\r\\x1b[2J\\u202e failed"


def test_a_full_disk_is_named_with_what_mends_it(tmp_path: Path) -> None:
    problem = OSError(errno.ENOSPC, "No space left on device")
    assert "no room is left on the disk" in cannot_write(tmp_path, problem)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_another_site_changes_nothing(repository: Repository, headers: dict[str, str]) -> None:
    answer = repository.call("POST", "/branches", data={"name": "b", "source": "main"}, headers=headers)
    assert (answer.status, "another site" in answer.message) == (403, True)
    own = {"Origin": f"http://{repository.api.host}:{repository.api.port}"}
    made = repository.call("POST", "/branches", data={"name": "b", "source": "main"}, headers=own)
    assert made.status == 201


def test_what_a_client_may_send_is_bounded(repository: Repository) -> None:
    for headers, status in (({"X": "a" * 40_000}, 431), ({}, 200)):
        answer = repository.call("GET", "/branches", headers=headers)
        assert answer.status == status
    assert repository.call("GET", "/branches", {"prefix": "a" * 20_000}).status == 414
    assert "has more than" in repository.call("GET", "/branches", {"prefix": "a" * 20_000}).message
