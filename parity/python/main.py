"""The Python writer of session rows: the encoder that iterate uses.

print FIXTURE...                    the row of each fixture, or {"refused":KEY,"kind":KIND}
append [--times N] LOG FIXTURE...   appends the rows to LOG, N times over
canon CASES...                      "ok TEXT" or "refused KIND" for each text of each file
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from parity.python.fixture import RefusedError, read_json, record_of, text_of
from parity.python.log import Log

from lakehouse.sessions.row import encode_row
from lakehouse.strict_json.parser import JsonBreach, canonicalize


def print_rows(paths: list[Path]) -> None:
    out = sys.stdout.buffer
    for path in paths:
        try:
            out.write(encode_row(record_of(read_json(path))))
        except RefusedError as refused:
            told = {"refused": refused.key, "kind": refused.kind}
            out.write(json.dumps(told, separators=(",", ":")).encode() + b"\n")


def append_rows(log_path: Path, paths: list[Path], times: int) -> None:
    log = Log(log_path)
    sessions = [read_json(path) for path in paths]
    for _ in range(times):
        for session in sessions:
            log.append(encode_row(record_of(session)))
    log.close()


def print_canonical(paths: list[Path]) -> None:
    out = sys.stdout.buffer
    for path in paths:
        for case in read_json(path):
            try:
                line = f"ok {canonicalize(text_of(case))}\n"
            except JsonBreach as breach:
                line = f"refused {breach.kind}\n"
            out.write(line.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("print", "canon"):
        commands.add_parser(name).add_argument("paths", nargs="+", type=Path)
    append = commands.add_parser("append")
    append.add_argument("--times", type=int, default=1)
    append.add_argument("log", type=Path)
    append.add_argument("paths", nargs="+", type=Path)
    args = parser.parse_args()
    if args.command == "print":
        print_rows(args.paths)
    elif args.command == "append":
        append_rows(args.log, args.paths, args.times)
    else:
        print_canonical(args.paths)


if __name__ == "__main__":
    main()
