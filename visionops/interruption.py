"""Ctrl-C, SIGTERM and a closed terminal end a command within seconds, and it says what is kept and what goes on.

What an interrupted command leaves is what a kill leaves, so it may always be ended hard. The first signal raises
`Interrupted` in the main thread, or Dagster's like of it; what has not ended after `GRACE_SECONDS`, in a long call or
waiting for a thread, is ended; a second signal ends it at once. A thread sees to that: Python's own handlers run only
between two instructions of the main thread, and libraries put others in their place.
"""

import _thread
import atexit
import contextlib
import logging
import os
import select
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

GRACE_SECONDS = 3.0
# For what has to be written before a hard end.
ENDING_SECONDS = 1.0
# A terminal and whoever started the command may both send what a person sent once.
SAME_SECONDS = 0.1
HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Tells the thread that what the signal raised came to nothing, and how long to wait for a better moment.
_LOST, _LATER_SECONDS = 0, 0.01


class Interrupted(BaseException):
    """A signal told this command to end. No `KeyboardInterrupt`, after which Lightning hears no second Ctrl-C."""


@dataclass
class _State:
    number: int | None = None
    raised: bool = False
    over: int | None = None
    deferring: bool = False
    kept: str = "nothing is left half done"
    command: str = ""
    endings: list[Callable[[], None]] = field(default_factory=list)
    sending: socket.socket | None = None
    # Dagster lays files where standard error was.
    terminal: int = 2
    leaving: threading.Lock = field(default_factory=threading.Lock)


_state = _State()


def hear() -> None:
    """From now on signals end this process so, also where a shell made it ignore SIGINT; SIGHUP not under nohup."""
    receiving, sending = socket.socketpair()
    receiving.setblocking(False)
    sending.setblocking(False)
    _state.sending = sending
    with contextlib.suppress(OSError):
        _state.terminal = os.dup(2)
    # Written by the C handler itself, whatever Python's main thread does.
    signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
    for number in HEARD:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)
    os.register_at_fork(after_in_child=_forget)
    # What comes first is called last.
    atexit.register(_exit_at_once)
    sys.unraisablehook = _lost
    threading.Thread(target=_watch, args=(receiving,), name="interruption", daemon=True).start()


def note(number: int) -> None:
    """Tell of a signal whose handler somebody else has, as an event loop does."""
    _state.number = _state.number or number
    if _state.sending is not None:
        with contextlib.suppress(BlockingIOError):
            _state.sending.send(bytes([number]))


def asked() -> bool:
    """Whether this process was told to end."""
    return _state.number is not None


def keep(kept: str, *command: str) -> None:
    """What is kept of an interrupted command from here on, in words, and what goes on: by default the same command."""
    _state.kept = kept
    if command:
        _state.command = shlex.join(["visionops", *command])


@contextlib.contextmanager
def ending(end: Callable[[], None]) -> Iterator[None]:
    """Have `end` called, in another thread, where the process is ended hard inside the block."""
    _state.endings.append(end)
    try:
        yield
    finally:
        _state.endings.remove(end)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Have a signal raise nothing before the end of the block: what begins there has to be noted."""
    _state.deferring = True
    try:
        yield
    finally:
        _state.deferring = False
        if _state.number is not None:
            _raise(_state.number, None)


def over(code: int) -> None:
    """Tell that the command has done all it had to: from here on a signal only spares what libraries still clear up."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    _state.over = code


def leave() -> NoReturn:
    """End this process with 130 or 143, and its children, after one line that says what is kept and what goes on."""
    _state.leaving.acquire()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    _say_and_exit()


def _raise(number: int, frame: FrameType | None) -> None:
    if _state.over is not None:
        os._exit(_state.over)
    _state.number = _state.number or number
    if not _state.raised and not _state.deferring:
        _state.raised = True
        _silence_pools()
        raise Interrupted


def _silence_pools() -> None:
    """SQLAlchemy writes a traceback of whatever is raised while it closes a connection, and goes on to raise it."""
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("sqlalchemy.pool")]:
        logging.getLogger(name).addFilter(_is_no_interruption)


def _is_no_interruption(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], Interrupted))


def _lost(lost: "sys.UnraisableHookArgs") -> None:
    """Where the main thread was in a callback of the garbage collector or the like, nothing can be raised."""
    if isinstance(lost.exc_value, Exception | SystemExit | GeneratorExit | None):
        sys.__unraisablehook__(lost)
    else:
        _state.raised = False
        note(_LOST)


def _exit_at_once() -> None:
    """Leave out how Python and the libraries' threads take themselves down, which nobody can stop."""
    if _state.over is not None:
        # What cannot be written is for Python to complain of.
        with contextlib.suppress(OSError, ValueError):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(_state.over)
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)


def _forget() -> None:
    """In a forked child, whose signals are its own: it must not tell its parent of them."""
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is _raise:
                signal.signal(number, signal.SIG_DFL)


def _watch(receiving: socket.socket) -> None:
    first, again = 0.0, 0
    # Not `select`, which knows no descriptor above 1,023: a server has many.
    arriving = select.poll()
    arriving.register(receiving, select.POLLIN)
    while True:
        wait = max(0.0, first + GRACE_SECONDS - time.monotonic()) * 1000 if first else None
        if not arriving.poll(wait):
            _end_hard()
        for number in receiving.recv(64):
            if number == _LOST and _state.number is not None:
                time.sleep(_LATER_SECONDS)
                again += 1
                _thread.interrupt_main(signal.Signals(_state.number))
            if number not in HEARD:
                continue
            if again:
                again -= 1
                continue
            if _state.over is not None and not first:
                os._exit(_state.over)
            if not first:
                first = time.monotonic()
                _state.number = _state.number or number
            elif time.monotonic() - first > SAME_SECONDS:
                _end_hard()


def _end_hard() -> NoReturn:
    _within(ENDING_SECONDS, lambda: [end() for end in list(_state.endings)])
    # Where the main thread is leaving by itself it ends the process while this one waits.
    if _state.leaving.acquire(timeout=ENDING_SECONDS / 2):
        # It may be writing, and hold what another would wait for.
        _within(ENDING_SECONDS / 2, sys.stdout.flush)
    _say_and_exit()


def _within(seconds: float, work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)


def _say_and_exit() -> NoReturn:
    number = signal.Signals(_state.number or signal.SIGINT)
    _end_children()
    command = f"`{_state.command}`" if _state.command else "the same command"
    line = f"interrupted ({number.name}): {_state.kept}; {command} goes on\n"
    if os.isatty(_state.terminal):
        # Below a bar that was being drawn, whose cursor is hidden.
        line = f"\r\x1b[K\x1b[?25h{line}"
    with contextlib.suppress(OSError):
        os.write(_state.terminal, line.encode())
    os._exit(128 + number)


def _end_children() -> None:
    """Kill what this process started, except what has a session of its own: that ends elsewhere, or is to stay."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(child.pid) == os.getsid(0):
                    child.kill()
