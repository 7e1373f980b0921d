"""A streaming standby of the PostgreSQL server that LAKEHOUSE_TEST_POSTGRES names."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo


@contextlib.contextmanager
def standby_of(conninfo: str) -> Iterator[str]:
    """Yield a standby's connection string, for the time of the block. Skips the test where the binaries are missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_basebackup"))
    binaries = Path(os.environ["PG_BIN"]) if os.environ.get("PG_BIN") else found[-1].parent if found else None
    if binaries is None or not (binaries / "pg_ctl").exists():
        pytest.skip("no pg_basebackup here: no standby (apt-get install postgresql, or set PG_BIN)")
    owner = []
    folder = Path(tempfile.mkdtemp(prefix="standby-"))
    if os.geteuid() == 0:
        owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--reset-env", "--"]
        shutil.chown(folder, "postgres")
    data = folder / "data"

    def run(program: str, *arguments: str, check: bool = True) -> None:
        # To a file: a server that keeps a pipe open would keep us waiting.
        with tempfile.TemporaryFile() as log:
            command = [*owner, str(binaries / program), *arguments]
            ended = subprocess.run(command, stdout=log, stderr=log, cwd=folder, check=False, timeout=120)
            log.seek(0)
            assert not check or ended.returncode == 0, log.read().decode(errors="replace")

    try:
        run("pg_basebackup", "-d", conninfo, "-D", str(data), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        run("pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", str(folder / "log"), "-o", options, "start")
        yield make_conninfo("", **{**conninfo_to_dict(conninfo), "host": "127.0.0.1", "port": port})
    finally:
        if data.exists():
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(folder, ignore_errors=True)
