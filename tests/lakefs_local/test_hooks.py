"""Actions: webhooks asked before a change can refuse it, those told afterwards cannot."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from lakefs_api import Repository

from lakefs_local.hooks import action_files
from lakefs_local.hooks.action_files import HookFailed, InvalidAction, parse_action


class Receiver:
    """Takes webhooks. `status` may be a function of the event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.status: Callable[[dict[str, Any]], int] = lambda event: 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.events.append(event)
                outer.headers.append(dict(self.headers))
                outer.paths.append(self.path)
                self.send_response(outer.status(event))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def wait_for(self, kind: str, commit_id: str) -> None:
        deadline = time.monotonic() + 10
        while (kind, commit_id) not in [(event["event_type"], event["commit_id"]) for event in self.events]:
            assert time.monotonic() < deadline, self.events
            time.sleep(0.005)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def action(
    receiver: Receiver, *events: str, name: str = "audit", extra: str = "", branches: str = "main"
) -> bytes:
    on = "\n".join(
        f"  {event}: {{branches: [{branches!r}]}}" if branches else f"  {event}:" for event in events
    )
    hook = f"  - id: check\n    type: webhook\n    properties:\n      url: {receiver.url}/check\n{extra}"
    return f"name: {name}\non:\n{on}\nhooks:\n{hook}".encode()


def install(repository: Repository, content: bytes, file: str = "audit.yaml") -> None:
    repository.put("main", f"_lakefs_actions/{file}", content)
    repository.commit("main", "actions")


def test_a_refused_commit_leaves_everything_staged(repository: Repository, receiver: Receiver) -> None:
    install(repository, action(receiver, "pre-commit"))
    receiver.status = lambda event: 500
    repository.put("main", "a")
    refused = repository.call("POST", "/branches/main/commits", data={"message": "m"})
    assert (refused.status, "status code: 500" in refused.message) == (412, True)
    assert repository.diff("main") == {"a": "added"}
    receiver.status = lambda event: 200
    repository.commit("main")
    assert repository.diff("main") == {}


def test_what_is_written_while_a_hook_runs_stays_out_of_the_commit(
    repository: Repository, receiver: Receiver
) -> None:
    install(repository, action(receiver, "pre-commit"))
    repository.put("main", "a", b"seen by the hook")
    repository.put("main", "b", b"seen by the hook")

    def write_meanwhile(event: dict[str, Any]) -> int:
        repository.put("main", "a", b"too late")
        repository.put("main", "c", b"too late")
        repository.delete("main", "b")
        return 200

    receiver.status = write_meanwhile
    made = repository.commit("main")
    assert repository.get(made, "a").body == b"seen by the hook"
    assert repository.compare(f"{made}~1", made) == {"a": "added", "b": "added"}
    assert repository.diff("main") == {"a": "changed", "b": "removed", "c": "added"}
    receiver.status = lambda event: 200
    repository.commit("main")
    assert repository.paths("main@") == ["_lakefs_actions/audit.yaml", "a", "c"]


def test_prepare_commit_may_still_add_to_the_commit(repository: Repository, receiver: Receiver) -> None:
    install(repository, action(receiver, "prepare-commit"))
    repository.put("main", "a")

    def add(event: dict[str, Any]) -> int:
        repository.put("main", "added-by-hook")
        return 200

    receiver.status = add
    made = repository.commit("main")
    assert repository.compare(f"{made}~1", made) == {"a": "added", "added-by-hook": "added"}


def test_a_merge_is_made_again_when_its_destination_moves_while_a_hook_runs(
    repository: Repository, receiver: Receiver
) -> None:
    install(repository, action(receiver, "pre-merge"))
    for name in ("side", "other"):
        repository.branch(name)
        repository.put(name, name)
        repository.commit(name)
    moved: list[bool] = []

    def move(event: dict[str, Any]) -> int:
        if event["merge_source"] == "side" and not moved:
            moved.append(True)
            assert repository.merge("other", "main").status == 200
        return 200

    receiver.status = move
    assert repository.merge("side", "main").status == 200
    assert {"other", "side"} <= set(repository.paths("main"))
    sources = [event["merge_source"] for event in receiver.events]
    assert sources == ["side", "other", "side"]


def test_a_refused_merge_moves_nothing(repository: Repository, receiver: Receiver) -> None:
    install(repository, action(receiver, "pre-merge"))
    repository.branch("side")
    repository.put("side", "a")
    repository.commit("side")
    head = repository.head("main")
    receiver.status = lambda event: 403
    refused = repository.merge("side", "main")
    assert (refused.status, refused.message.startswith("update branch main: pre-merge")) == (412, True)
    assert repository.head("main") == head


def test_hooks_told_afterwards_cannot_refuse(repository: Repository, receiver: Receiver) -> None:
    install(repository, action(receiver, "post-commit"))
    receiver.status = lambda event: 500
    repository.put("main", "a")
    made = repository.commit("main")
    receiver.wait_for("post-commit", made)
    assert repository.head("main") == made


def test_actions_run_on_the_branches_they_name_only(repository: Repository, receiver: Receiver) -> None:
    install(repository, action(receiver, "pre-commit", branches="release-*"))
    receiver.status = lambda event: 500
    repository.put("main", "a")
    repository.commit("main")
    repository.branch("release-1")
    repository.put("release-1", "b")
    assert repository.call("POST", "/branches/release-1/commits", data={"message": "m"}).status == 412


def test_an_action_is_read_from_what_is_being_committed(repository: Repository, receiver: Receiver) -> None:
    receiver.status = lambda event: 500
    repository.put("main", "_lakefs_actions/audit.yaml", action(receiver, "pre-commit"))
    refused = repository.call("POST", "/branches/main/commits", data={"message": "m"})
    assert refused.status == 412


@pytest.mark.parametrize(
    "subject", ["create-branch", "delete-branch", "create-tag", "delete-tag", "revert", "cherry-pick"]
)
def test_hooks_guard_other_changes_too(repository: Repository, receiver: Receiver, subject: str) -> None:
    branches = "" if subject.endswith("tag") else "*"
    repository.put("main", "a")
    made = repository.commit("main")
    if subject.startswith("delete"):
        repository.branch("thing" if subject == "delete-branch" else "unrelated")
        repository.call("POST", "/tags", data={"id": "tagged", "ref": "main"})
    repository.put(
        "main", "_lakefs_actions/guard.yaml", action(receiver, f"pre-{subject}", branches=branches)
    )
    made_with_action = repository.commit("main")
    if subject == "delete-branch":
        repository.merge("main", "thing")
    receiver.status = lambda event: 500
    calls: dict[str, Callable[[], Any]] = {
        "create-branch": lambda: repository.call(
            "POST", "/branches", data={"name": "thing", "source": "main"}
        ),
        "delete-branch": lambda: repository.call("DELETE", "/branches/thing"),
        "create-tag": lambda: repository.call("POST", "/tags", data={"id": "new", "ref": "main"}),
        "delete-tag": lambda: repository.call("DELETE", "/tags/tagged"),
        "revert": lambda: repository.call(
            "POST", "/branches/main/revert", data={"ref": made, "parent_number": 0}
        ),
        "cherry-pick": lambda: repository.call("POST", "/branches/main/cherry-pick", data={"ref": made}),
    }
    if subject == "delete-tag":
        repository.call("DELETE", "/tags/tagged")
        receiver.status = lambda event: 200
        repository.call("POST", "/tags", data={"id": "tagged", "ref": made_with_action})
        receiver.status = lambda event: 500
    answer = calls[subject]()
    assert answer.status == 412, answer
    assert receiver.events[-1]["event_type"] == f"pre-{subject}"


def test_runs_tell_what_hooks_said(repository: Repository, receiver: Receiver) -> None:
    install(repository, action(receiver, "pre-commit"))
    receiver.status = lambda event: 500
    repository.put("main", "a")
    repository.call("POST", "/branches/main/commits", data={"message": "m"})
    runs = repository.pages("/actions/runs", branch="main", amount=1)
    assert [(run["event_type"], run["status"]) for run in runs] == [
        ("pre-commit", "failed"),
        ("pre-commit", "completed"),
    ]
    assert runs[1]["commit_id"] == repository.head("main")
    hooks = repository.pages(f"/actions/runs/{runs[0]['run_id']}/hooks")
    output = repository.call(
        "GET", f"/actions/runs/{runs[0]['run_id']}/hooks/{hooks[0]['hook_run_id']}/output"
    )
    assert "500" in output.body.decode()


def test_after_a_failure_only_hooks_that_ask_for_it_run(repository: Repository, receiver: Receiver) -> None:
    url = receiver.url
    extra = (
        f"  - id: skipped\n    type: webhook\n    properties: {{url: {url}/skipped}}\n"
        f"  - id: cleanup\n    type: webhook\n    if: failure()\n    properties: {{url: {url}/cleanup}}\n"
    )
    receiver.status = lambda event: 500 if event["hook_id"] == "check" else 200
    repository.put("main", "_lakefs_actions/audit.yaml", action(receiver, "pre-commit", extra=extra))
    assert repository.call("POST", "/branches/main/commits", data={"message": "m"}).status == 412
    assert receiver.paths == ["/check", "/cleanup"]
    run = repository.pages("/actions/runs")[0]["run_id"]
    statuses = [hook["status"] for hook in repository.pages(f"/actions/runs/{run}/hooks")]
    assert statuses == ["failed", "skipped", "completed"]


def test_headers_and_query_come_from_the_action_and_permitted_variables(
    repository: Repository, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFSACTION_TOKEN", "secret")
    extra = (
        "      headers: {X-Token: '{{ ENV.LAKEFSACTION_TOKEN }}'}\n"
        "      query_params: {level: ['1', '2']}\n      timeout: 5s\n"
    )
    install(repository, action(receiver, "pre-commit", extra=extra))
    assert receiver.headers[0]["X-Token"] == "secret"
    assert receiver.paths == ["/check?level=1&level=2"]


def test_other_variables_are_not_sent(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "secret")
    with pytest.raises(HookFailed, match="not for actions"):
        action_files.call_webhook({"url": receiver.url, "headers": {"X": "{{ ENV.PASSWORD }}"}}, {}, [])
    assert receiver.events == []


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({}, "missing url"),
        ({"url": "file:///etc/passwd"}, "no http address"),
        ({"url": "http://127.0.0.1:1/"}, "action failed"),
        ({"url": "http://127.0.0.1:1/", "timeout": "soon"}, "no duration"),
    ],
)
def test_a_webhook_that_cannot_be_asked_refuses(properties: dict[str, str], message: str) -> None:
    with pytest.raises(HookFailed, match=message):
        action_files.call_webhook(properties, {}, [])


def test_hooks_of_other_types_refuse_rather_than_pass(repository: Repository) -> None:
    content = b"name: lua\non: {pre-commit: }\nhooks:\n  - {id: script, type: lua, properties: {script: x}}\n"
    repository.put("main", "_lakefs_actions/lua.yaml", content)
    refused = repository.call("POST", "/branches/main/commits", data={"message": "m"})
    assert (refused.status, "not supported" in refused.message) == (412, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", "yaml"),
        (b"\xff\xfe\xff", "yaml"),
        (b"- a list", "'name' is required"),
        (b"name: ''\non: {pre-commit: }", "'name' is required"),
        (b"name: '!!'\non: {pre-commit: }", "'name' is invalid"),
        (b"name: abc", "'on' is required"),
        (b"name: abc\non: {pre-lunch: }", "event 'pre-lunch' is not supported"),
        (b"name: abc\non: {pre-create-tag: {branches: [main]}}", "tag event types"),
        (b"name: abc\non: {pre-commit: {branches: main}}", "not a list of patterns"),
        (b"name: abc\non: {pre-commit: }\nhooks: [{type: webhook}]", "missing ID"),
        (b"name: abc\non: {pre-commit: }\nhooks: [{id: aa, type: magic}]", "unknown"),
        (
            b"name: abc\non: {pre-commit: }\nhooks: [{id: aa, type: webhook}, {id: aa, type: webhook}]",
            "duplicate",
        ),
        (b"name: abc\non: {pre-commit: }\nhooks: [{id: [a, b], type: webhook}]", "'id' of hook"),
        (b"name: abc\non: {pre-commit: }\nhooks: [{id: aa, type: webhook, if: [x]}]", "'if' of hook"),
        (b"name: abc\non: {pre-commit: }\nhooks: [{id: aa, type: [webhook]}]", "unknown"),
        (b"name: " + b"[" * 200 + b"]" * 200, "deeper than 16"),
        (b"name: abc\non: {" + b"a: b, " * 20_000 + b"}", "more than 10000 values"),
        (b"name: abc\non: {" + b"a" * 500 + b": }", "is not supported"),
    ],
)
def test_an_action_that_lakefs_would_not_take_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(InvalidAction, match=message):
        parse_action(content)


def test_an_action_that_does_not_parse_fails_every_commit_of_its_branch(repository: Repository) -> None:
    repository.put("main", "_lakefs_actions/bad.yaml", b"name: [")
    for _ in range(2):
        refused = repository.call("POST", "/branches/main/commits", data={"message": "m"})
        assert (refused.status, "_lakefs_actions/bad.yaml" in refused.message) == (500, True)
    repository.delete("main", "_lakefs_actions/bad.yaml")
    repository.put("main", "a")
    repository.commit("main")


def laughing(field: bytes) -> bytes:
    """A few bytes of aliases that stand for a billion in a field."""
    lines = [b"a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [b"a%d: &a%d [" % (n, n) + b", ".join([b"*a%d" % (n - 1)] * 9) + b"]" for n in range(1, 9)]
    return b"\n".join([*lines, b"name: abc", b"on: {pre-commit: }", b"hooks:", field])


@pytest.mark.parametrize(
    "field",
    [
        b"  - {id: *a8, type: webhook}",
        b"  - {id: aa, type: webhook, if: *a8}",
        b"  - {id: aa, type: *a8}",
        b"  - *a8",
    ],
)
def test_aliases_of_an_action_are_refused_before_they_are_followed(
    repository: Repository, field: bytes
) -> None:
    assert len(laughing(field)) < 700
    repository.put("main", "_lakefs_actions/bomb.yaml", laughing(field))
    refused = repository.call("POST", "/branches/main/commits", data={"message": "m"})
    assert refused.status == 500 and "aliases are not supported" in refused.message
    assert len(refused.message) < 500


class Silent:
    """Takes connections and says nothing, or a byte now and then."""

    def __init__(self, drips: bool = False) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        self.taken: list[socket.socket] = []
        self._drips = drips
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                self.taken.append(self.socket.accept()[0])
                if self._drips:
                    threading.Thread(target=self._drip, args=(self.taken[-1],), daemon=True).start()

    def _drip(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nX: ")
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)

    def close(self) -> None:
        for each in (self.socket, *self.taken):
            each.close()


@pytest.mark.parametrize("drips", [False, True])
def test_a_webhook_has_so_much_time_in_all_however_it_spends_it(drips: bool) -> None:
    silent = Silent(drips)
    with pytest.raises(HookFailed, match="action failed"):
        action_files.call_webhook({"url": silent.url}, {}, [], within=0.3)
    with pytest.raises(HookFailed, match="which are over"):
        action_files.call_webhook({"url": silent.url}, {}, [], within=0)
    silent.close()


def test_silent_webhooks_keep_no_upload_and_no_end_of_the_server_waiting(repository: Repository) -> None:
    silent = Silent()
    hook = f"{{id: aa, type: webhook, properties: {{url: '{silent.url}'}}}}"
    content = f"name: abc\non: {{pre-create-branch: }}\nhooks: [{hook}]"
    install(repository, content.encode())
    waiting = [
        threading.Thread(
            target=repository.call,
            args=("POST", "/branches"),
            kwargs={"data": {"name": f"b{number}", "source": "main"}},
            daemon=True,
        )
        for number in range(24)
    ]
    for thread in waiting:
        thread.start()
    while len(silent.taken) < len(waiting):
        time.sleep(0.01)
    repository.put("main", "a", b"uploaded meanwhile")
    assert repository.call("GET", "/refs/main/objects", query={"path": "a"}).status == 200
    silent.close()
    for thread in waiting:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "address", ["http://[::1", "http://127.0.0.1:port/", "http://127.0.0.1:99999/", "http://"]
)
def test_an_address_that_is_none_is_the_hooks_failure(address: str) -> None:
    with pytest.raises(HookFailed):
        action_files.call_webhook({"url": address}, {}, [])
