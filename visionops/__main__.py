"""Where the command line starts: what every command does first, and how each ends.

Exit codes: 0, it is done; 1, it is not, and one line names the fix; 2, the command line cannot be read; 70, a bug of
VisionOps; 128 and a signal's number, it was interrupted.
"""

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

# Commands that load much, look once and end: there is no garbage worth looking for before they do.
ONLY_LOOK = ("status", "why")


def main() -> NoReturn:
    """Run one command. An error is one line that names the fix, a bug one that names the file with its traceback, which
    --debug prints instead."""
    # Before the first import that takes longer than a finger on Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_before_it_began)
    from visionops import interruption

    interruption.hear()
    try:
        code = _ended()
        interruption.over(code)
    except interruption.Interrupted:
        interruption.leave()
    sys.exit(code)


def _end_before_it_began(number: int, frame: FrameType | None) -> NoReturn:
    name = signal.Signals(number).name
    os.write(2, f"interrupted ({name}): nothing was begun; the same command goes on\n".encode())
    os._exit(128 + number)


def _ended() -> int:
    """Run the command to its end: its exit code."""
    from resources.escaping import folded, without_secrets
    from resources.machine_errors import in_words
    from visionops import interruption

    debug = "--debug" in sys.argv or bool(os.environ.get("VISIONOPS_DEBUG"))
    if debug:
        os.environ["VISIONOPS_DEBUG"] = "1"
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    interruption.keep("nothing is left half done", *map(without_secrets, arguments))
    try:
        _run(arguments)
    except BaseException as error:
        if interruption.asked():
            if debug:
                _print_traceback()
            interruption.leave()
        if isinstance(error, SystemExit) and isinstance(error.code, int | None):
            return error.code or 0
        if not isinstance(error, Exception):
            raise
        # What only this needs is not loaded where all goes well.
        from visionops import bug_report

        bug = bug_report.is_bug(error)
        if debug:
            _print_traceback()
        elif bug:
            print(f"error: {folded(without_secrets(bug_report.told(error, arguments)))}", file=sys.stderr)
        else:
            print(f"error: {folded(without_secrets(in_words(error)))}", file=sys.stderr)
        return bug_report.EXIT_CODE if bug else 1
    return 0


def _print_traceback() -> None:
    import traceback

    from resources.escaping import visible, without_secrets

    # An exception's text, and those of its causes, may hold an address with its password.
    print(visible(without_secrets(traceback.format_exc())), end="", file=sys.stderr)


def _run(arguments: list[str]) -> None:
    # What is heavy comes after the first signal can be heard.
    if arguments == ["--version"]:
        from visionops.terminal import say_version

        say_version()
        return
    collected = gc.isenabled()
    # Modules stay: looking for garbage among them, after every few hundred objects, is a fifth of what loading costs.
    gc.disable()
    try:
        from resources.environ import read_secret_files
        from visionops import bootstrap
        from visionops.cli.command_line import app

        # What keeps a home from being prepared is what the doctor is asked for.
        if arguments[:1] != ["doctor"]:
            bootstrap.prepare()
        else:
            read_secret_files()
        if collected and not (arguments and arguments[0] in ONLY_LOOK):
            _look_for_garbage()
        app(arguments, prog_name="visionops")
    finally:
        if collected and not gc.isenabled():
            _look_for_garbage()


def _look_for_garbage() -> None:
    """From here on, and not among what is there: the interpreter looks through all of it once more when it ends."""
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main()
