"""The README as a newcomer types it: every command of it, in order, in a clean clone, and what came of each.

    python scripts/readme_transcript.py [--clone FOLDER]

The clone holds what is committed. `make up` runs in a terminal of its own, everything else in one shell, which keeps
its folder, its environment and its exports; SESSION_ID is the first that the log lists. Each line is `ok`, `FAILED`
(then the exit status is 1) or `skipped` with the reason. Where the README's ports are taken, free ones stand in for
them. tests/docs looks at each block by itself, and at those that are no commands.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from markdown_blocks import Block, blocks_of, commands  # noqa: E402  the parser of tests/docs

BASH, GIT, CAT = (shutil.which(each) or each for each in ("bash", "git", "cat"))
PORTS: Final = {"iterate": 50051, "chatd": 50052, "validated": 50053}
COMMAND_S: Final = 300
READY_S: Final = 120
OURS: Final = ("LAKEHOUSE_", "VALIDATED_", "CHATD_", "ITERATE_", "PYTHON", "VIRTUAL_ENV")
# Of a new folder a newcomer sees nothing but what the README makes.
LEFT_BY_THE_README: Final = {"today.csv", "replay.xml"}
NOT_TYPED: Final = (
    (r"make test$", "all tests take minutes; CI runs them beside this"),
    (r"lakehouse sessions serve$", "serves until it is stopped: tests/cli/test_sessions_serve.py starts it"),
    (r"pip install '\.\[", "a second installation; the commands after it are tests/cli/test_sessions_lake.py's"),
    (r"export LAKE_WAREHOUSE=|lakehouse sessions (publish|ls --table)", "tests/cli/test_sessions_lake.py publishes"),
    (r"lakehouse sessions erase ", "needs iterate stopped: tests/sessions/test_erasing.py erases"),
    (r"docker compose |deploy/compose_check\.sh", "needs a container engine: deploy/compose_check.sh types it there"),
)


class Terminal:
    """One shell, to which commands are given one after the other."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._shell = subprocess.Popen(
            [BASH, "--norc", "--noprofile"],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, command: str) -> tuple[int, str]:
        """Exit status and output."""
        assert self._shell.stdin and self._shell.stdout  # noqa: S101, PT018  asked for above
        end = f"status-{time.monotonic_ns()}"
        # The command gets no input of ours: it would read the next one.
        self._shell.stdin.write(f"{{ {command}\n}} </dev/null\necho; echo {end} $?\n")
        self._shell.stdin.flush()
        said: list[str] = []
        with _alarm(COMMAND_S, self.close):
            for line in self._shell.stdout:
                if line.startswith(end):
                    return int(line.split()[1]), "".join(said).rstrip("\n") + "\n"
                said.append(line)
        return -1, "".join(said) + f"the shell ended, or {COMMAND_S} s were over\n"

    def close(self) -> None:
        _end(self._shell, signal.SIGHUP)


@contextlib.contextmanager
def _alarm(seconds: int, then: object) -> Iterator[None]:
    def ring(*_: object) -> None:
        if callable(then):
            then()

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Transcript:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self._ports = _free_ports()
        if self._ports != PORTS:
            binds = {f"{name.upper()}_BIND": f"127.0.0.1:{port}" for name, port in self._ports.items()}
            clients = {f"LAKEHOUSE_{name.upper()}": address for name, address in _addresses(self._ports).items()}
            self._environ |= binds | clients
        self._terminal = Terminal(folder, self._environ)
        self._up: subprocess.Popen[str] | None = None
        self._session_id = ""
        self.failed = 0
        self.typed = 0

    def close(self) -> None:
        self._terminal.close()
        self.stop_up()

    def type_block(self, block: Block) -> None:
        if block.language == "python":
            (self._folder / ".work").mkdir(exist_ok=True)
            (self._folder / ".work" / "typed.py").write_text(self._here(block.text), encoding="utf-8")
            self._type(block, "python .work/typed.py")
            return
        for command in commands(block):
            reasons = [reason for pattern, reason in NOT_TYPED if re.match(pattern, command)]
            if reasons:
                self._say("skipped", block, command, reasons[0])
            elif command.startswith("grpcurl ") and shutil.which("grpcurl", path=self._environ["PATH"]) is None:
                self._say("skipped", block, command, "grpcurl is not on PATH")
            elif command == "make up":
                self._start_up(block, command)
            else:
                self._type(block, command)

    def check_folder(self) -> None:
        """Nothing is in the clone that Git would ask about."""
        done = subprocess.run(
            [GIT, "status", "--porcelain"], cwd=self._folder, capture_output=True, text=True, check=True
        )
        left = {line[3:] for line in done.stdout.splitlines()} - LEFT_BY_THE_README
        self._result(not left, None, "git status", "" if not left else f"left or changed: {sorted(left)}")

    def stop_up(self) -> None:
        if self._up is not None:
            up, self._up = self._up, None
            _end(up, signal.SIGINT)
            left = [port for port in self._ports.values() if not _is_free(port)]
            self._result(not left, None, "Ctrl-C in the first terminal", f"somebody listens on {left} still")

    def _start_up(self, block: Block, command: str) -> None:
        began = time.monotonic()
        up = self._up = subprocess.Popen(
            [BASH, "-c", command],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert up.stdout is not None  # noqa: S101  asked for above
        said: list[str] = []
        ready = False
        with _alarm(READY_S, lambda: _end(up, signal.SIGKILL)):
            for line in up.stdout:
                said.append(line)
                if ready := line.startswith("ready: iterate at "):
                    break
        self._result(ready, block, command, "" if ready else "".join(said), began)
        # Its further lines are for nobody; a pipe that is full would stop it.
        subprocess.Popen([CAT], stdin=up.stdout, stdout=subprocess.DEVNULL, start_new_session=True)

    def _type(self, block: Block, command: str) -> None:
        began = time.monotonic()
        status, said = self._terminal.type(self._here(command).replace("SESSION_ID", self._session_id))
        self._result(status == 0, block, command, said if status else "", began)
        if command == "lakehouse sessions ls":
            found = re.search(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", said)
            self._session_id = found[0] if found else ""

    def _here(self, text: str) -> str:
        for name, port in PORTS.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{self._ports[name]}")
        return text

    def _result(self, good: bool, block: Block | None, command: str, said: str, began: float | None = None) -> None:  # noqa: FBT001
        self.typed += 1
        self.failed += not good
        took = f"{time.monotonic() - began:.1f} s" if began is not None else ""
        self._say("ok" if good else "FAILED", block, command, took)
        if not good:
            print("".join(f"         | {line}\n" for line in said.splitlines()[-30:]), end="", flush=True)

    def _say(self, word: str, block: Block | None, command: str, note: str) -> None:
        where = f"README.md:{block.line}" if block is not None else ""
        shown = " ".join(command.split())
        print(f"{word:8} {where:14} {shown[:90]}{'…' if len(shown) > 90 else ''}  {note}".rstrip(), flush=True)


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def _addresses(ports: dict[str, int]) -> dict[str, str]:
    return {name: f"127.0.0.1:{port}" for name, port in ports.items()}


def _free_ports() -> dict[str, int]:
    """Return the README's where all of them are free, else others."""
    if all(map(_is_free, PORTS.values())):
        return dict(PORTS)
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in PORTS]
    return dict(zip(PORTS, found, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clone", type=Path, help="where the clone goes, and stays (default: a folder for the moment)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="readme-") as scratch:
        folder = given.clone or Path(scratch) / "lakehouse-iterate"
        subprocess.run([GIT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True)
        # The newcomer's own roster of the day.
        shutil.copy(folder / "examples" / "roster" / "workers.csv", folder / "today.csv")
        began = time.monotonic()
        transcript = Transcript(folder)
        try:
            for block in blocks_of(folder / "README.md", "README.md"):
                if block.language in {"sh", "python"}:
                    transcript.type_block(block)
            transcript.stop_up()
            transcript.check_folder()
        finally:
            transcript.close()
    print(f"{transcript.typed} commands, {transcript.failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if transcript.failed or not transcript.typed else 0


if __name__ == "__main__":
    sys.exit(main())
