"""The command line in this process, as `visionops` runs and ends it, but for signals: a process for each is dear."""

import gc
import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from tests.processes import Ended
from visionops import __main__ as program


def typed_here(*words: str) -> Ended:
    """Exit code and all that is printed; what is for programs stands first."""
    # Each command is a process of its own: it loads the code location as the project files are now.
    sys.modules.pop("definitions", None)
    printed, told = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(printed),
        redirect_stderr(told),
    ):
        patch.setattr(sys, "argv", ["visionops", *words])
        patch.setattr(program, "_look_for_garbage", gc.enable)
        code = program._ended()
    sys.modules.pop("definitions", None)
    # What is told beside JSON would spoil it.
    return Ended(
        code, printed.getvalue() if code == 0 and "--json" in words else printed.getvalue() + told.getvalue()
    )
