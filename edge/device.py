"""A provisioned device, running: one thread that keeps its model current, and images answered all the while.

In a program of one's own:

    from edge.device import Device

    with Device.open("/etc/visionops-edge") as device:
        for frame in my_camera():          # with OpenCV
            image = cv2.imencode(".png", frame)[1].tobytes()
            print(device.answer(image)["prediction"])
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.agent import THIS_MACHINE, Agent, Profile, Surroundings
from edge.answering import NoModel
from edge.fetch import Client
from edge.files import Files, System, named_path
from edge.outbox import Reporter
from edge.settings import Settings, SettingsError
from edge.sources import FolderSource, HttpSink, LinesSink, Sink, Source, answer_frame, http_endpoint
from edge.trust import Trust

# Seconds between two looks into a folder, and between two attempts to go on with a download.
FOLDER_EVERY, RETRY_EVERY = 0.2, 15.0
# Of a folder with so many files that looking takes long, the most of a processor that looking takes.
LOOKING_SHARE = 0.1
# The agent waits for no model and no image for longer: who says nothing for so long is stuck.
STUCK_SECONDS = 3600.0
_WATCHDOG_EVERY = 5.0


class Device:
    """A device's folder, opened: no other process may run the same state. Use it as a context."""

    def __init__(
        self, settings: Settings, around: Surroundings = THIS_MACHINE, system: System | None = None
    ) -> None:
        """`system` is the disk it writes to, by default this machine's."""
        self.settings = settings
        state = settings.path(settings.state)
        try:
            state.mkdir(parents=True, exist_ok=True)
            self._lock = (state / "lock").open("w")
        except OSError as error:
            raise SettingsError(
                f"{state} cannot be written ({error.strerror}): name another with --state"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                f"{state} is used by another agent: end it, or name another --state"
            ) from error
        self._stop = threading.Event()
        self._alive = time.monotonic()
        self._thread: threading.Thread | None = None
        # Of the source's images, how many each model answered, and how many none could.
        self.answered: Counter[str] = Counter()
        self.unanswered = 0
        files = Files(state, system)
        # What is wrong with these keeps the device from news, not from answering.
        wrong: dict[str, str] = {}

        def found(name: str, read: Callable[[], Any]) -> Any:
            try:
                return read()
            except SettingsError as error:
                wrong[name] = str(error)
                return None

        # Passed on all the same: without the CA that is asked for no other is believed.
        tls: dict[str, Any] = {}
        for option, setting in (("ca", "ca"), ("certificate", "certificate"), ("key", "certificate_key")):
            file = settings.optional(setting)
            tls[option] = str(file) if file is not None else None
            found(setting, functools.partial(settings.check_readable, setting))
        client = Client(
            token=found("token", settings.token),
            **tls,
            proxy=settings.proxy,
            max_kbps=settings.max_kbps,
        )
        reporter = None
        key = found("key", settings.key) if settings.reports is not None else None
        if settings.reports is not None and key is not None:
            reporter = Reporter(
                client, settings.address(settings.reports), settings.project, settings.device, key
            )
        bootstrap = found("root", settings.bootstrap) or b""
        repository = settings.address(settings.repository)
        self.files, self.client = files, client
        self.agent = Agent(
            files,
            Profile(
                settings.device,
                settings.group,
                settings.provider,
                settings.threads,
                settings.optional("lock_file"),
                settings.reports_mb,
            ),
            trust=Trust(files, client, repository, settings.project, bootstrap),
            client=client,
            reporter=reporter,
            around=around,
        )
        self.agent.problems.update(wrong)

    @classmethod
    def open(cls, folder: str | Path, state: str | None = None) -> Device:
        """The device of a folder that `visionops fleet provision` made. Raises `SettingsError`."""
        found = Settings.read(named_path(folder).absolute())
        if state is not None:
            from dataclasses import replace

            found = replace(found, state=str(named_path(state).absolute()))
        return cls(found)

    def __enter__(self) -> Device:
        self._thread = threading.Thread(target=self._keep_current, name="keep-current", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._thread is not None:
            # What it does is durable step by step: nobody has to wait for a download.
            self._thread.join(timeout=2)
        self.close()

    def close(self) -> None:
        """End what answers, and let others use the state."""
        self._write_log()
        self.agent.close()
        self._lock.close()

    def stop(self) -> None:
        """End `run` soon."""
        self._stop.set()

    def answer(self, image: bytes) -> dict[str, Any]:
        """What the model in force says of the bytes of an image. Raises `NoModel` and `BadImage`."""
        return self.agent.answer(image)

    def once(self) -> bool:
        """Look, update, answer what waits, and report. True if nothing is wrong and a model answers."""
        agent = self.agent
        agent.attempt("disk", agent.check_good)
        agent.attempt("repository", agent.look)
        while agent.attempt("update", agent.settle) and agent.paused:
            agent.attempt("repository", agent.look)
        source = self._folder_source()
        if source is not None:
            sink = self._sink()
            # Two looks tell what is still being written.
            for _ in range(2):
                agent.attempt("source", lambda: self._answer_all(source, sink))
                time.sleep(FOLDER_EVERY)
            agent.attempt("update", agent.settle)
        agent.attempt("reports", agent.deliver)
        agent.attempt("status", agent.write_status)
        # A first model that was refused is no problem of a look.
        return not agent.problems and agent.state.serving is not None

    def run(
        self, source: Source | None = None, sink: Sink | None = None, say: Callable[[str], None] = print
    ) -> None:
        """Answer what the settings' source gives until `stop`; or what the caller's does."""
        sink = sink or self._sink()
        folder = self._folder_source() if source is None else None
        source = source or folder
        with contextlib.ExitStack() as opened:
            opened.enter_context(self)
            declared = self.settings.source or {}
            if "http" in declared:
                url = opened.enter_context(
                    http_endpoint(
                        declared["http"],
                        lambda image: self._answered_over_http(image, sink),
                        self.agent.status,
                    )
                )
                say(f"{self.settings.device} answers at {url}/predict")
            elif source is not None:
                say(f"{self.settings.device} answers what comes to {declared.get('folder', 'it')}")
            else:
                say(
                    f"{self.settings.device} has no `source` in device.json: it keeps its model current, no more"
                )
            _notify("READY=1")
            watchdog = threading.Thread(target=self._watched, name="watchdog", daemon=True)
            watchdog.start()
            try:
                while not self._stop.is_set():
                    self._alive = time.monotonic()
                    if source is not None:
                        self.agent.attempt("source", lambda: self._answer_all(source, sink))
                    rest = folder.look_seconds / LOOKING_SHARE if folder is not None else 0.0
                    self._stop.wait(max(FOLDER_EVERY, rest))
            finally:
                self.stop()
                watchdog.join()

    def _watched(self) -> None:
        """While images are answered, however many wait, and however long one takes."""
        while not self._stop.is_set():
            self._tell_watchdog()
            self._stop.wait(_WATCHDOG_EVERY)

    def _tell_watchdog(self) -> None:
        if time.monotonic() - self._alive < STUCK_SECONDS:
            _notify("WATCHDOG=1")

    def _answer_all(self, source: Source, sink: Sink | None) -> None:
        try:
            for frame in source.frames():
                if self._stop.is_set():
                    break
                self._alive = time.monotonic()
                told = answer_frame(self.agent.answer, frame, _now())
                if frame.may_grow and "error" in told:
                    continue
                self._count(told)
                if sink is not None:
                    sink(told)
                source.done(frame)
        except NoModel:
            # They wait: the first model is on its way.
            return
        finally:
            source.settled()

    def _count(self, told: dict[str, Any]) -> None:
        if "error" in told:
            self.unanswered += 1
        else:
            self.answered[f"version {told['model']['version']} (release {told['model']['release']})"] += 1

    def _answered_over_http(self, image: bytes, sink: Sink | None) -> dict[str, Any]:
        found = {"at": _now(), "image_sha256": hashlib.sha256(image).hexdigest(), **self.agent.answer(image)}
        if sink is not None:
            self.agent.attempt("sink", lambda: sink(found))
        return found

    def _keep_current(self) -> None:
        agent = self.agent
        agent.attempt("disk", agent.check_good)
        look_at = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= look_at:
                agent.attempt("repository", agent.look)
                # Devices that were switched on together must not ask together for ever.
                look_at = now + agent.poll_every * random.uniform(0.9, 1.1)
            agent.attempt("update", agent.settle)
            if agent.paused:
                look_at = 0.0
            self._write_log()
            agent.attempt("reports", agent.deliver)
            agent.attempt("status", agent.write_status)
            self._stop.wait(max(0.05, min(look_at - time.monotonic(), RETRY_EVERY)))

    def _write_log(self) -> None:
        if self.agent.log is not None:
            self.agent.attempt("log", self.agent.log.write)

    def _folder_source(self) -> FolderSource | None:
        declared = self.settings.source or {}
        if "folder" not in declared:
            return None
        return FolderSource(
            self.settings.path(declared["folder"]), self.files, declared.get("then", "keep"), self._write_log
        )

    def _sink(self) -> Sink | None:
        declared = self.settings.sink or {}
        if "lines" in declared:
            return LinesSink(self.settings.path(declared["lines"]), float(declared.get("max_mb", 100)))
        return HttpSink(self.client, declared["http"]) if "http" in declared else None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _notify(said: str) -> None:
    """Tell systemd, where it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            told.sendall(said.encode())
