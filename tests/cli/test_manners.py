"""Goal: the command behaves as a shell expects: exit statuses, signals, closed pipes, colours, widths, completion.

Method: the command as a process, its output a pipe or a terminal of a given width.
"""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click
import pytest
from command_line import lakehouse
from session_rows import record, rows, write_log, write_segment

from lakehouse.cli.exit_status import end_process
from lakehouse.cli.main import main
from lakehouse.sessions.row import encode_row

CLI = Path(__file__).resolve().parents[2] / "services" / "lakehouse" / "cli"
BIN = Path(sys.executable).parent
LAKEHOUSE = str(BIN / "lakehouse")
# Without PYTHONUNBUFFERED: Python then takes a write that a closed pipe cut short for a whole one.
UNSET = ("NO_COLOR", "COLUMNS", "FORCE_COLOR", "PYTHONUNBUFFERED")
PLAIN = {name: value for name, value in os.environ.items() if name not in UNSET}


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return write_log(tmp_path)


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAKEHOUSE, *arguments], env={**PLAIN, **environ}, capture_output=True, text=True, check=False, timeout=60
    )


def on_terminal(*arguments: str, columns: int, **environ: str) -> str:
    """Return what the command writes to a terminal so wide."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [LAKEHOUSE, *arguments],
        env={**PLAIN, "TERM": "xterm-256color", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            written += piece
    finally:
        os.close(ours)
        process.wait(60)
    return written.decode()


def commands(group: click.Command = main, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, group)]
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            found += commands(command, (*path, name))
    return found


def test_every_command_says_how_it_ends() -> None:
    # A subcommand's statuses stand in its group's help where they are the same for all.
    for path, command in commands():
        if len(path) < 2:
            epilog = command.epilog or ""
            assert epilog.startswith("Exit status: 0 "), path
            assert "2 wrong usage" in epilog
            assert "3 a fault of the system" in epilog
            assert "130 interrupted" in epilog


def test_no_command_raises_an_error_without_a_status_of_its_own() -> None:
    bare = [
        f"{file.name}:{node.lineno}"
        for file in CLI.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("ClickException", "exit_code")
    ]
    assert not bare, (
        "raise one of lakehouse.cli.exit_status: ClickException would end with 1, which means: not accepted"
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--version",), 0),
        (("nonsense",), 2),
        (("sessions", "ls", "--log", "/nonsense/sessions.jsonl"), 3),
        (("iterate", "--kind", "fill", "--prompt", "x", "--address", "127.0.0.1:1"), 3),
    ],
)
def test_the_status_of_the_process_says_whose_fault_it_was(arguments: tuple[str, ...], status: int) -> None:
    done = run(*arguments)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--help",), 0),
        (("sessions", "--help"), 0),
        (("sessions", "nonsense"), 2),
        (("iterate", "--nonsense"), 2),
        (("chat", "x", "--temperature", "3"), 2),
        (("completion", "tcsh"), 2),
        (("validate", "--kind", "email", "--address", "127.0.0.1:1", "/dev/null"), 3),
        (("chat", "x", "--address", "127.0.0.1:1"), 3),
        (("sessions", "ls", "--log", ""), 2),
        (("sessions", "stats", "--log", "/"), 2),
        (("sessions", "verify", "--log", "/dev/null"), 2),
        (("sessions", "compact", "--log", "/nonsense/sessions.jsonl", "--retention-days", "nan"), 2),
        (("sessions", "compact", "--log", "/nonsense/sessions.jsonl", "--retention-days", "1e300"), 2),
        (("sessions", "verify", "--log", "/nonsense/sessions.jsonl", "--recall-hours", "nan"), 2),
        (("sessions", "get", "x", "--timeout", "0"), 2),
        (("chat", "x", "--timeout", "inf"), 2),
        (("sessions", "show", "\udcff", "--log", "/nonsense/sessions.jsonl"), 2),
        (("iterate", "--kind", "fill", "--prompt", "x", "--spec", '{"role": "a", "role": "b"}'), 2),
        (("iterate", "--kind", "fill", "--prompt", "x", "--spec", '{"count": NaN}'), 2),
        (("up", "--data", "/dev/null"), 3),
    ],
)
def test_every_command_has_the_same_statuses(arguments: tuple[str, ...], status: int) -> None:
    # An error that would end a process with a traceback is raised here.
    assert lakehouse(*arguments).returncode == status


def test_what_is_wrong_is_said_and_where() -> None:
    assert "is a folder: name the log in it" in lakehouse("sessions", "ls", "--log", "").stderr
    assert "an argument is not UTF-8: \\xff" in lakehouse("sessions", "show", "\udcff").stderr
    spec = lakehouse("iterate", "--kind", "fill", "--prompt", "x", "--spec", '{"role": "a", "role": "b"}').stderr
    assert "the name 'role' is there twice" in spec
    assert "the prompt is empty" in lakehouse("iterate", "--kind", "fill", "--prompt", "").stderr
    assert "/dev/null is no folder" in lakehouse("up", "--data", "/dev/null").stderr


def in_shell(command: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line of a shell, in which `lakehouse` is ours."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={**PLAIN, "PATH": f"{BIN}:{PLAIN['PATH']}", **environ},
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_closed_streams_change_neither_the_work_nor_the_status(live: Path) -> None:
    done = in_shell(f"lakehouse sessions ls --log {live} >&-")
    assert (done.returncode, done.stderr) == (0, b"")
    done = in_shell(f"lakehouse sessions show nobody --log {live} >&- 2>&- <&-")
    assert done.returncode == 1  # not found, as with open ones
    done = in_shell(f"lakehouse sessions show nobody --log {live}", LAKEHOUSE_TRACEBACK="1")
    assert done.returncode == 1


def test_a_full_disk_behind_the_output_is_said_once_and_is_not_the_logs(live: Path) -> None:
    for command in ("ls", "ls --json", "verify"):
        done = in_shell(f"lakehouse sessions {command} --log {live} >/dev/full")
        assert (done.returncode, done.stderr) == (3, b"Error: the output: No space left on device\n"), command


def test_a_terminal_of_another_encoding_gets_escapes_and_no_error(tmp_path: Path) -> None:
    log = tmp_path / "sessions.jsonl"
    write_segment(log, encode_row(record(1, session_id="one", prompt="\u674e\u5a1c \u00e9")))
    done = in_shell(f"lakehouse sessions show one --log {log}", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert b"\\u674e\\u5a1c \xe9" in done.stdout


def test_an_error_that_nobody_foresaw_is_a_fault_in_one_line_and_not_a_no(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by nought\nand more")

    with pytest.raises(SystemExit) as ended:
        end_process(broken)
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert said.startswith("Error: a fault of this command itself: ZeroDivisionError: by nought; and more (test_man")
    assert said.count("\n") == 1


def test_a_session_that_is_not_there_is_a_no_and_not_a_fault(live: Path) -> None:
    assert lakehouse("sessions", "show", "nobody", "--log", live).returncode == 1


def test_a_wrong_command_is_answered_with_the_nearest() -> None:
    assert 'did you mean "sessions"?' in lakehouse("sesions").stderr


def test_a_reader_that_goes_away_ends_the_command_in_silence_with_141(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    live.write_bytes(rows(*range(3000)))
    for arguments in (("sessions", "tail", "-n", "3000"), ("sessions", "ls", "--limit", "3000", "--json")):
        process = subprocess.Popen(
            [LAKEHOUSE, *arguments, "--log", str(live)], env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 141
        assert said == b""


def test_ctrl_c_ends_the_command_with_130(live: Path) -> None:
    process = subprocess.Popen(
        [LAKEHOUSE, "sessions", "tail", "-f", "--log", str(live)],
        env=PLAIN,
        stdout=subprocess.PIPE,
        # As a shell leaves it for a command in the foreground, whatever the test run itself was given.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stdout.close()


ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("arguments", [("ls",), ("stats",)])
def test_a_terminal_gets_styles_and_who_wants_none_gets_none(live: Path, arguments: tuple[str, ...]) -> None:
    command = ("sessions", *arguments, "--log", str(live))
    assert ESCAPE.search(on_terminal(*command, columns=300))
    assert not ESCAPE.search(on_terminal(*command, columns=300, NO_COLOR="1"))
    assert not ESCAPE.search(on_terminal(*command, columns=300, TERM="dumb"))
    assert not ESCAPE.search(run(*command).stdout)


def test_sixty_columns_are_respected_and_nothing_is_lost(live: Path) -> None:
    wide = run("sessions", "ls", "--log", str(live), "--limit", "2").stdout
    narrow = on_terminal("sessions", "ls", "--log", str(live), "--limit", "2", columns=60, NO_COLOR="1")
    lines = [line.rstrip("\r") for line in narrow.split("\n") if "\x1b" not in line]
    assert max(map(len, lines)) <= 60
    assert len(wide.splitlines()) == 3, "a table where no terminal says how wide it is"
    for cell in wide.splitlines()[1].split():
        assert cell in narrow
    helped = on_terminal("iterate", "--help", columns=60)
    example = ("lakehouse iterate --kind", "--spec '")  # to be copied, so not broken
    assert all(len(line.rstrip()) <= 60 or any(part in line for part in example) for line in helped.split("\n"))


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("lakehouse", "sess"), {"sessions"}),
        (("lakehouse", "sessions", "re"), {"replay", "report"}),
        (("lakehouse", "iterate", "--max"), {"--max-iterations"}),
        (("lakehouse", "completion", ""), {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_with_our_script(words: tuple[str, ...], completed: set[str]) -> None:
    script = 'source <(lakehouse completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
    script += '_lakehouse_completion lakehouse; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env={**PLAIN, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert set(done.stdout.split()) == completed, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_a_script_that_they_can_read(shell: str, tmp_path: Path) -> None:
    script = run("completion", shell).stdout
    assert f"_LAKEHOUSE_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        file = tmp_path / "completion"
        file.write_text(script)
        subprocess.run([shell, "--no-execute" if shell == "fish" else "-n", str(file)], check=True, timeout=60)


def test_the_report_goes_to_standard_output_where_asked(live: Path) -> None:
    done = run("sessions", "report", "--log", str(live), "--output", "-")
    assert done.returncode == 0, done.stderr
    assert done.stdout.lstrip().lower().startswith("<!doctype html>")
    assert "reading" in done.stderr


def test_a_report_that_cannot_be_written_says_so_before_the_log_is_read(live: Path) -> None:
    # Nothing can be made under /proc, which says so to root when it is tried.
    for place, is_read in (("/proc/sessions.html", True), ("/nonsense/sessions.html", False)):
        done = lakehouse("sessions", "report", "--log", live, "--output", place)
        assert done.returncode == 3
        assert "--output - for standard output" in done.stderr
        assert ("reading" in done.stderr) == is_read or os.geteuid()
