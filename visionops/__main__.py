"""Where the command line starts: what every command does first, and how each ends."""

import os
import sys
import traceback

from resources.machine_errors import in_words
from resources.masking import without_secrets
from visionops import interruption


def main() -> None:
    """Run one command. An error is one line that names the fix; its traceback is for --debug."""
    interruption.hear()
    debug = "--debug" in sys.argv or bool(os.environ.get("VISIONOPS_DEBUG"))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    interruption.keep("nothing is left half done", *map(without_secrets, arguments))
    try:
        _run(arguments)
    except BaseException as error:
        if interruption.asked():
            if debug:
                traceback.print_exc()
            interruption.leave()
        if debug or not isinstance(error, Exception):
            raise
        print(f"error: {without_secrets(in_words(error))}", file=sys.stderr)
        sys.exit(1)


def _run(arguments: list[str]) -> None:
    # What is heavy comes after the first signal can be heard.
    from visionops import bootstrap
    from visionops.command_line import app

    # What keeps a home from being prepared is what the doctor is asked for.
    if arguments[:1] != ["doctor"]:
        bootstrap.prepare()
    app(arguments, prog_name="visionops")


if __name__ == "__main__":
    main()
