"""The `elbert` command: one small file per verb, imported only when that verb is called.

`main` is the one way in and the one place where an error becomes a line on stderr and an exit status: 0 done,
1 failed at what the request led to, 2 the request was wrong, 130 interrupted, 143 terminated; which is which stands
with the errors. Nothing here imports torch, so `elbert --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

from elbert.errors import (
    CalibrationWarning,
    DataWarning,
    ElbertError,
    MissingExtraError,
    PolicyWarning,
    TerminatedError,
    stop_status,
)

DEBUG_VARIABLE = "ELBERT_DEBUG"


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit status.

    Args:
        argv: the words after `elbert`; the process's own where None. No word at all shows the help.
    """
    words = sys.argv[1:] if argv is None else argv
    # Libraries talk on stderr by default; a user who asks for more in the environment still gets it.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # JSON is UTF-8 whatever the locale says; half a surrogate pair is written as JSON would escape it.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        with _warnings_in_one_line(), _terminable():
            status = _run(words or ["--help"])
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        told = ["terminated" if isinstance(stop, TerminatedError) else "interrupted", *getattr(stop, "__notes__", [])]
        return _say("; ".join(told), stop_status(stop))
    except ElbertError as error:
        return _say(str(error), error.exit_status)
    except BrokenPipeError:
        _close_stdout()
        return 1
    except OSError as error:
        status = _say(_os_error_line(error), 1)
        _close_stdout()
    except MemoryError:
        return _say("out of memory: give a smaller --batch-size or --max-length", 1)
    except ModuleNotFoundError as error:
        package = (error.name or "elbert").partition(".")[0]
        if package == "elbert":
            return _report_bug(error)
        return _say(str(MissingExtraError(package, "all")), 1)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user sees a line, not a traceback
        return _report_bug(error)
    return status


def _run(words: list[str]) -> int:
    """Hand `words` to Typer and turn its own usage errors into ours."""
    import typer

    from elbert.cli.app import command

    built = command()
    try:
        with built.make_context("elbert", words) as context:
            built.invoke(context)
    except typer.TyperException as error:
        where = getattr(error, "ctx", None)
        page = f"{where.command_path if where is not None else 'elbert'} --help"
        return _say(f"{error.format_message().rstrip('.')}; see {page!r}", error.exit_code)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except typer.Exit as done:
        return done.exit_code
    return 0


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Write this library's own warnings as a line like its errors, without the place in the code."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, (CalibrationWarning, DataWarning, PolicyWarning)):
                _say(f"warning: {message}", 0)
            else:
                shown(message, category, *place, **more)

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, where the process would die of it at once otherwise."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `timeout` sends two, and the second must not stop the cleaning up
    raise TerminatedError


def _say(message: str, status: int) -> int:
    """Write `elbert: message` as one line on stderr and return `status`."""
    with contextlib.suppress(OSError):  # nobody may be listening: the exit status still tells
        sys.stderr.write(f"elbert: {' '.join(message.split())}\n")
        sys.stderr.flush()
    return status


def _os_error_line(error: OSError) -> str:
    """Return what the system said, about which file, and how to mend it."""
    reason = error.strerror or str(error) or type(error).__name__
    about = f"{reason}: {error.filename!r}" if error.filename is not None else reason
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    return f"{about}; free some space, or write the output elsewhere" if full else about


def _report_bug(error: Exception) -> int:
    """Say that this is our fault, with the traceback only for those who ask."""
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exception(error)
    kind = type(error).__name__
    hint = f"set {DEBUG_VARIABLE}=1 for the traceback and send it with the command line"
    return _say(f"this is a bug in elbert, {kind}: {error}; {hint}", 1)


def _close_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush can't fail a second time."""
    with contextlib.suppress(OSError, ValueError):  # stdout may be no real file (a test's buffer)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
