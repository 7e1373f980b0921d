"""Feeds every fixture to the writers in Python, Go and Rust and compares the bytes: ``python parity/run.py``.

Exit status: 0 if every writer that could be built agrees with the others and with the committed rows, 1 if not, and
1 with --require-all if one could not be built.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from parity.writers import HERE, LANGUAGES, Writer, WriterAbsentError, WriterFailedError

from parity import compare, fuzz

FIXTURES = HERE / "fixtures"
GOLDEN = HERE / "golden"
REFUSALS = HERE / "refusals.json"
FUZZ_TEXTS = 3000


def built(languages: list[str]) -> tuple[list[Writer], list[str]]:
    """Return the writers that stand, and the languages that this machine cannot build."""
    writers, absent = [], []
    for language in languages:
        started = time.monotonic()
        try:
            writers.append(LANGUAGES[language]())
        except WriterAbsentError as error:
            absent.append(language)
            print(f"  {language:<7} skipped: {error}")
        else:
            print(f"  {language:<7} ready ({time.monotonic() - started:.1f} s)")
    return writers, absent


def rows_of(writers: list[Writer], paths: list[Path]) -> dict[str, dict[str, tuple[str, bytes]]]:
    """For each fixture, each language's daemon and row without LF.

    Raises:
        WriterFailedError: a writer ended with an error, or printed another number of lines than fixtures.
    """
    rows: dict[str, dict[str, tuple[str, bytes]]] = {path.stem: {} for path in paths}
    for writer in writers:
        lines = writer.run("print", *paths).split(b"\n")
        if lines.pop() or len(lines) != len(paths):
            raise WriterFailedError(f"{writer.language}: {len(lines)} whole lines for {len(paths)} fixtures")
        for path, line in zip(paths, lines, strict=True):
            rows[path.stem][writer.language] = (writer.daemon, line)
    return rows


def golden_of(name: str) -> bytes | None:
    path = GOLDEN / f"{name}.jsonl"
    return path.read_bytes().removesuffix(b"\n") if path.exists() else None


def check_fixtures(writers: list[Writer], *, update: bool) -> int:
    """Print a line for each fixture; return the number of those with a problem."""
    paths = sorted(FIXTURES.glob("*.json"))
    failed = 0 if paths else 1
    rows = rows_of(writers, paths)
    if update:
        update_golden(rows)
    for name, printed in rows.items():
        found = compare.problems(printed, golden_of(name))
        size = max(len(row) for _, row in printed.values())
        print(f"  {'ok  ' if not found else 'FAIL'} {name:<40} {size:>7} bytes")
        for problem in found:
            print(f"       {problem}")
        failed += bool(found)
    stale = {path.stem for path in GOLDEN.glob("*.jsonl")} - set(rows)
    for name in sorted(stale):
        print(f"  FAIL {name}: a golden row without a fixture")
    return failed + len(stale)


def update_golden(rows: dict[str, dict[str, tuple[str, bytes]]]) -> None:
    """Write the rows on which all three languages agree."""
    GOLDEN.mkdir(exist_ok=True)
    for path in GOLDEN.glob("*.jsonl"):
        if path.stem not in rows:
            path.unlink()
    for name, printed in rows.items():
        row = compare.agreed(printed) if set(printed) == set(LANGUAGES) else None
        if row is None:
            print(f"  kept {name}: the three languages do not agree")
        else:
            (GOLDEN / f"{name}.jsonl").write_bytes(row + b"\n")


def answers_of(writers: list[Writer], texts: list[object]) -> dict[str, list[str]]:
    """Return what each language's reader says of each text: ``ok`` with the canonical text, or ``refused`` with the
    kind."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts), encoding="ascii")
        answers = {writer.language: writer.run("canon", path).decode().split("\n")[:-1] for writer in writers}
    for language, lines in answers.items():
        if len(lines) != len(texts):
            raise WriterFailedError(f"{language}: {len(lines)} answers for {len(texts)} texts")
        odd = next((line for line in lines if not line.startswith(("ok ", "refused "))), None)
        if odd is not None:
            raise WriterFailedError(f"{language}: not an answer: {odd!r:.100}")
    return answers


def check_refusals(writers: list[Writer]) -> int:
    """Every breach is refused by all, and called by the same name."""
    cases = json.loads(REFUSALS.read_bytes())
    failed = 0 if cases else 1
    for language, answers in answers_of(writers, [case["text"] for case in cases]).items():
        for case, answer in zip(cases, answers, strict=True):
            if answer != f"refused {case['kind']}":
                failed += 1
                print(f"  FAIL {language}: {answer!r:.60}, not {case['kind']}: {case['text']!r:.60}")
    kinds = Counter(case["kind"] for case in cases)
    print("  " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    return failed


def check_fuzz(writers: list[Writer], count: int, seed: int) -> int:
    """Random texts, whole and damaged: the same canonical text or the same refusal in all languages."""
    texts = fuzz.texts(count, seed)
    answers = answers_of(writers, list(texts))
    failed = 0
    for text, *said in zip(texts, *answers.values(), strict=True):
        if len(set(said)) > 1:
            failed += 1
            if failed <= 10:
                print(f"  FAIL {text!r:.200}: {dict(zip(answers, said, strict=True))}")
    accepted = sum(answer.startswith("ok ") for answer in next(iter(answers.values()), []))
    print(f"  {count} texts with seed {seed}: {accepted} accepted, {count - accepted} refused, {failed} disagreed")
    # A reader that accepts or refuses everything would agree with its like.
    return failed + (count > 100 and not 0.2 < accepted / count < 0.9)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] if __doc__ else None)
    parser.add_argument("--require-all", action="store_true", help="a language that cannot be built is a failure")
    parser.add_argument("--update-golden", action="store_true", help="write the rows on which all three agree")
    parser.add_argument("--only", action="append", choices=list(LANGUAGES), help="run this language alone; repeatable")
    parser.add_argument("--fuzz", type=int, default=FUZZ_TEXTS, metavar="N", help="random texts (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random texts (default %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        print("writers")
        writers, absent = built(arguments.only or list(LANGUAGES))
        print("fixtures")
        failed = check_fixtures(writers, update=arguments.update_golden)
        print("refusals")
        failed += check_refusals(writers)
        print("random texts")
        failed += check_fuzz(writers, arguments.fuzz, arguments.seed)
    except WriterFailedError as error:
        print(f"  FAIL {error}")
        return 1
    names = ", ".join(writer.language for writer in writers)
    if failed:
        print(f"FAIL: {failed} problems among {names}")
    else:
        print(f"equal: {names}" + (f"; skipped: {', '.join(absent)}" if absent else ""))
    return 1 if failed or (absent and arguments.require_all) else 0


if __name__ == "__main__":
    sys.exit(main())
