"""How a command ends, by its exit status: the same for every command of ``lakehouse``.

0: accepted, or what was asked for is done or holds. 1: not accepted, or the answer is no. 2: wrong usage, a wrong
request or configuration. 3: a fault of the system. 130, 141: ended by SIGINT, or by a reader that went away (SIGPIPE).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

if TYPE_CHECKING:
    from lakehouse.errors import Fault

NOT_ACCEPTED: Final = 1
USAGE: Final = 2
SYSTEM_FAULT: Final = 3
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

TRACEBACK_VARIABLE: Final = "LAKEHOUSE_TRACEBACK"

_SENTENCES: Final = (
    "{yes}",
    "1 {no}",
    "2 wrong usage, request or configuration",
    "3 a fault of the system",
    "130 interrupted",
    "141 nobody reads the output",
)


def statuses(yes: str, no: str = "") -> str:
    """Return the line of a command's help that says how it ends: what its 0 means, and its 1 where it has one."""
    wanted = [each for each in _SENTENCES if no or not each.startswith("1 ")]
    return "Exit status: " + ", ".join(each.format(yes=f"0 {yes}", no=no) for each in wanted) + "."


class Negative(click.ClickException):
    """The answer is no, in words: nobody was found, there is no such session."""

    exit_code = NOT_ACCEPTED


class WrongRequest(click.ClickException):
    """The service refused what was asked as it was written."""

    exit_code = USAGE


class SystemFault(click.ClickException):
    """A service, a file or the machine did not do its part."""

    exit_code = SYSTEM_FAULT


class Interrupted(click.ClickException):
    """A person ended the command by Ctrl-C."""

    exit_code = INTERRUPTED


def of_fault(fault: Fault, text: str) -> click.ClickException:
    """Return what a command raises for a fault; `text` says it."""
    return WrongRequest(text) if fault.code == "INVALID_ARGUMENT" else SystemFault(text)


class ReaderGone(Exception):  # noqa: N818  it is no error of the command
    """Nobody reads the output any more. Not an OSError, which click would end with 1."""


def end_process(main: Callable[[], Any]) -> NoReturn:
    """Run `main`, a command outside of click's standalone mode, and end the process by its status."""
    status: int | str = 0
    try:
        status = _status(main)
        sys.stdout.flush()
    except (OSError, ReaderGone) as error:
        if not isinstance(error, OSError) or error.errno == errno.EPIPE:
            status = PIPE_CLOSED
        elif status != SYSTEM_FAULT:  # else the command said so
            click.echo(f"Error: {error.filename or 'the output'}: {error.strerror or error}", err=True)
            status = SYSTEM_FAULT
        # What still waits in the buffers goes nowhere, at the interpreter's end as well.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _own_fault(error: Exception) -> str:
    """Return what to say of an error that nobody foresaw: it would end Python with 1, which means: not accepted."""
    *_, last = traceback.extract_tb(error.__traceback__)
    said = "; ".join(str(error).splitlines())[:300]
    return (
        f"a fault of this command itself: {type(error).__name__}: {said} ({Path(last.filename).name}:{last.lineno});"
        f" with {TRACEBACK_VARIABLE}=1 it shows the way there, which belongs into a report"
    )


def _status(main: Callable[[], Any]) -> int | str:
    try:
        returned = main()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except UnicodeEncodeError as error:
        # A text of the environment: arguments were looked at.
        click.echo(f"Error: {error.object[:60]!a} is not UTF-8", err=True)
        return USAGE
    except SystemExit as error:
        return 0 if error.code is None else error.code
    except (OSError, ReaderGone):
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        click.echo(f"Error: {_own_fault(error)}", err=True)
        return SYSTEM_FAULT
    # Outside of its standalone mode click returns what `Context.exit` was given.
    return returned if isinstance(returned, int) else 0
