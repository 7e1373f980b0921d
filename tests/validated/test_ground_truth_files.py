"""Files as people really have them: what is not as it was said to be is refused, with its place and what to do."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from pydantic import ValidationError
from rosters import load_files, write_csv

from validated.config import RosterTable
from validated.datasets.build import RosterFiles, build
from validated.datasets.columns import WORKERS
from validated.datasets.header import match
from validated.datasets.store import Store

GOOD = "worker_id,name,active\nW-1,Ana Silva,true\nW-2,Omar Khan,false\n"
ANA = ("W-1", "Ana Silva", True)
OMAR = ("W-2", "Omar Khan", False)
# Who has a yes there may not be sent.
SAYS_OPPOSITE = frozenset(
    ("terminated", "inactive", "terminated_on", "deleted_at", "fired", "on_leave", "OnLeave", "separation_date",
     "date_left", "retired", "do_not_use", "DNR", "banned", "void", "removed_at", "tombstone", "ausgeschieden")
)  # fmt: skip


def read(path: Path, **rules: Any) -> list[tuple[str, str, bool]]:
    report, index = load_files(RosterFiles.read({"workers": path, **rules}))
    assert index is not None, report["problems"]
    return [(worker.worker_id, worker.name, worker.active) for worker in index.workers()]


def refusal(path: Path, **rules: Any) -> str:
    """Return the first problem, as a person reads it."""
    report, index = load_files(RosterFiles.read({"workers": path, **rules}))
    assert index is None
    problem = report["problems"][0]
    assert Path(problem["file"]).exists()
    assert len(problem["text"]) < 900
    return f"{problem['row']} {problem['column']}: {problem['text']}"


def file(folder: Path, content: str | bytes, name: str = "w.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path: Path, select: str) -> Path:
    with duckdb.connect() as db:
        db.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path


@pytest.mark.parametrize(
    "header",
    ["is_active", "Is Active", "status", "Status", "STATUS", "employment_status", "activ", "aktiv", "enabled",
     "terminated", "actve", "active?", "inactive", "worker_active_yn", "terminated_on", "deleted_at"],
)  # fmt: skip
def test_a_column_that_looks_like_active_is_never_passed_over(tmp_path: Path, header: str) -> None:
    path = file(tmp_path, f"worker_id,name,{header}\nW-1,Ana Silva,no\n")
    assert "active: " in refusal(path)
    assert f'"{header}"' in refusal(path)
    assert read(path, ignore_columns=[header]) == [ANA]
    if header in SAYS_OPPOSITE:
        assert "says the opposite of active" in refusal(path, columns={"active": header})
    else:
        assert read(path, columns={"active": header}) == [(*ANA[:2], False)]


@pytest.mark.parametrize(
    "header",
    ["terminated", "inactive", "Is Inactive", "InactiveFlag", "deleted", "isDeleted", "blocked", "on_leave", "OnLeave",
     "not_active", "ausgeschieden", "left_company", "left", "do_not_use", "Deactivated", "is_fired", "terminated_on",
     "Suspended?", "archived", "no longer employed", "disabled", "banned", "GESPERRT", "inaktiv"],
)  # fmt: skip
def test_a_column_that_says_the_opposite_of_active_is_never_read_as_active(tmp_path: Path, header: str) -> None:
    path = file(tmp_path, f"worker_id,name,{header}\nW-1,Ana Silva,yes\n")
    text = refusal(path, columns={"active": header})
    assert text.startswith(f'0 active: "{header}" says the opposite of active')
    assert "make a column active of it" in text
    # Nobody is led to map it, either.
    assert "roster.columns" not in refusal(path)
    assert "make a column active of it" in refusal(path)


@pytest.mark.parametrize(
    "header",
    ["on_leave", "fired", "suspended_until", "left_on", "do_not_use", "blacklisted", "Retired", "resignation_date",
     "isBlocked", "dismissed", "Do Not Send", "unavailable_from", "laid-off"],
)  # fmt: skip
def test_beside_active_a_column_that_says_who_may_not_be_sent_is_not_passed_over(tmp_path: Path, header: str) -> None:
    path = file(tmp_path, f"worker_id,name,active,{header}\nW-1,Ana Silva,true,yes\n")
    assert refusal(path).startswith(f'0 active: "{header}" looks like it beside the column that is read')
    assert read(path, ignore_columns=[header]) == [ANA]


@pytest.mark.parametrize("header", ["left_handed", "department", "terminal", "notes", "exit_gate", "no", "expired_on"])
def test_beside_active_a_word_that_may_say_anything_decides_nothing(tmp_path: Path, header: str) -> None:
    assert read(file(tmp_path, f"worker_id,name,active,{header}\nW-1,Ana Silva,true,yes\n")) == [ANA]


@pytest.mark.parametrize(
    "client",
    ["All clients", "(all)", "<All>", "any client", "All of our Customers", "ALLE", "every-account", "* all *"],
)
def test_a_line_for_every_client_is_refused_since_it_would_hold_for_none(tmp_path: Path, client: str) -> None:
    lines = file(tmp_path, f"client_id,worker_id\nacme,W-1\n{client},W-2\n", "d.csv")
    text = refusal(file(tmp_path, GOOD), do_not_send=lines)
    assert text.startswith(f"2 client_id: {client!r} stands for every client, which nothing here does")


def test_two_clients_in_one_line_are_refused_since_neither_would_be_found(tmp_path: Path) -> None:
    lines = file(tmp_path, "client_id,worker_id\nacme;globex,W-1\n", "d.csv")
    assert refusal(file(tmp_path, GOOD), do_not_send=lines).startswith("1 client_id: 'acme;globex' holds a semicolon")


@pytest.mark.parametrize(
    "client", ["Allied", "All Star Staffing", "Total", "Any Lab Test Now", "Acme, Inc.", "7-Eleven"]
)
def test_a_client_whose_name_begins_like_all_is_one(tmp_path: Path, client: str) -> None:
    lines = file(tmp_path, f'client_id,worker_id\n"{client}",W-1\n', "d.csv")
    assert read(file(tmp_path, GOOD), do_not_send=lines) == [ANA, OMAR]


@pytest.mark.parametrize("year", ["0026", "1926", "0001"])
def test_a_shift_that_ended_before_1970_is_refused_since_it_would_never_overlap(tmp_path: Path, year: str) -> None:
    shift = f"W-1,{year}-12-05T06:00:00-05:00,{year}-12-05T14:00:00-05:00"
    shifts = file(tmp_path, f"worker_id,shift_start,shift_end\n{shift}\n", "a.csv")
    assert refusal(file(tmp_path, GOOD), assignments=shifts).startswith("1 shift_end: is before 1970: a year of two")
    # Whoever is taken since ever is taken.
    long = f"W-1,{year}-12-05T06:00Z,2999-01-01T00:00Z"
    shifts = file(tmp_path, f"worker_id,shift_start,shift_end\n{long}\n", "b.csv")
    assert read(file(tmp_path, GOOD), assignments=shifts) == [ANA, OMAR]


@pytest.mark.parametrize("header", ["client,worker_id", "client_id,employee_id"])
def test_nobody_is_told_to_map_a_column_that_cannot_be_mapped(tmp_path: Path, header: str) -> None:
    rules = {"do_not_send": file(tmp_path, f"{header}\nacme,W-1\n", "d.csv")}
    text = refusal(file(tmp_path, GOOD), **rules)
    assert "roster.columns" not in text
    assert "rename it to" in text


@pytest.mark.parametrize(
    "header",
    ["fired", "on_leave", "OnLeave", "separation_date", "TermDate", "date_left", "last_day", "last_date", "retired",
     "hired", "do_not_use", "DNR", "banned", "void", "A/I", "flag", "until", "removed_at", "tombstone", "__op", "stage",
     "employment", "ist_aktiv", "ausgeschieden", "\u0441\u0442\u0430\u0442\u0443\u0441", "\u5728\u7c4d",
     "\uff21\uff23\uff34\uff29\uff36\uff25", "ac\u200btive"],
)  # fmt: skip
def test_without_a_column_active_whatever_may_say_it_is_refused_until_it_is_mapped_or_ignored(header: str) -> None:
    columns = ["worker_id", "name", "role", "city", "state", "certifications", "phone", header, "email"]
    (column, text), *_ = match(WORKERS, columns, {}, ())[1]
    assert column in ("active", "state")
    assert (header if header.isprintable() else ascii(header)[1:-1]) in text
    assert text.isprintable()
    assert "roster.ignore_columns" in text
    assert match(WORKERS, columns, {}, (header,))[1] == []
    mapped = match(WORKERS, columns, {"active": header}, ())[1]
    if header in SAYS_OPPOSITE:
        [(column, text)] = mapped
        assert column == "active"
        assert "says the opposite of active" in text
    else:
        assert mapped == []


@pytest.mark.parametrize(
    "header",
    ["email", "e-mail", "Home Address", "zipcode", "zip_code", "postalCode", "birthDate", "date_of_birth", "hire_date",
     "notes", "created_at", "updatedAt", "department", "pay_rate", "first_name", "emergency contact phone number"],
)  # fmt: skip
def test_a_column_that_is_plainly_about_something_else_needs_no_word(header: str) -> None:
    assert match(WORKERS, ["worker_id", "name", header], {}, ())[1] == []


@pytest.mark.parametrize("header", ["Active", "ACTIVE", "aCtIvE"])
def test_our_own_name_in_another_case_is_our_column(tmp_path: Path, header: str) -> None:
    assert read(file(tmp_path, f"Worker_ID,NAME,{header}\nW-1,Ana Silva,no\n")) == [(*ANA[:2], False)]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("worker_id,name,active,status", '"status" looks like it beside the column that is read'),
        ("worker_id,name,active,Active", '"Active" looks like it beside'),
        ("worker_id,name,active,valid_to", '"valid_to" looks like it beside'),
        ("worker_id,name,active,Contract End", '"Contract End" looks like it beside'),
        ("worker_id,name,active,lastDay", '"lastDay" looks like it beside'),
        ("worker_id,name,ACTIVE,Active", "differ in case alone"),
        ("worker_id,name,active,active", "2 columns of this name"),
        ("worker_id,name,name,active", "2 columns of this name"),
        ("worker id,name,active,x", '"worker id" looks like it; map it'),
        ("worker_id,full name,active,x", '"full name" looks like it; map it'),
        ("worker_id,name,active,", "a column without a name"),
        ("worker_id,name, active,x", "has spaces around it"),
        ("worker_id;name;active;x", "roster.delimiter"),
    ],
)
def test_a_header_that_leaves_a_doubt_is_refused(tmp_path: Path, header: str, says: str) -> None:
    row = ",".join(["W-1", "Ana Silva", "true", "true"]) if "," in header else "W-1;Ana Silva;true;true"
    assert says in refusal(file(tmp_path, f"{header}\n{row}\n"))


def test_a_mapping_to_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert 'active: there is no column "typo" for active' in refusal(file(tmp_path, GOOD), columns={"active": "typo"})


# fmt: off
BAD_ROWS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("second header, wider", GOOD + "worker_id,name,active,role\nW-3,M W,true,welder\n", "3 active: repeats the", {}),
    ("second header, the same", GOOD + "worker_id,name,active\nW-3,Mia Wong,true\n", "3 : repeats the header", {}),
    ("second header, other order", GOOD + "worker_id,active,name\nW-3,true,Mia W\n", "3 worker_id: repeats the", {}),
    ("short row", GOOD + "W-3,Mia Wong\n", "3 active: has 2 of 3 columns: a short row", {}),
    ("long row", GOOD + "W-3,Wong, Mia,true\n", "3 active: has 4 columns", {}),
    ("footer", GOOD + "Total: 2\n", "3 name: has 1 of 3 columns: a short row, or a footer", {}),
    ("wide footer", GOOD + "Total,2,\n", "3 worker_id: 'Total' seems to be a footer", {}),
    ("blank line", GOOD + "\nW-3,Mia Wong,true\n", "3 : is a blank line", {}),
    ("trailing delimiter", GOOD + "W-3,Mia Wong,true,\n", "3 active: has 4 columns", {}),
    ("mixed line ends", GOOD + "W-3,Mia Wong,true\r\nW-4,A B,true\n", "3 : ends with '\\r\\n' where", {}),
    ("lone CR", GOOD + "W-3,Mia Wong,true\rW-4,Al Ba,true\n", "3 : ends with '\\r' where", {}),
    ("quote not closed", GOOD + 'W-3,"Mia Wong,true\n', "3 : ", {}),
    ("quote inside", GOOD + 'W-3,Mia "M" Wong,true\n', "3 : has a quote inside of a value that is not quoted", {}),
    ("quote in an id", GOOD + 'W"3,Mia Wong,true\n', "3 : has a quote inside", {}),
    ("space before a quote", GOOD + 'W-3, "Mia Wong",true\n', "3 : has a quote inside", {}),
    ("quote inside, after good ones", GOOD + '"W-3","M ""M"" W",true\nW-4,M "W",true\n', "4 : has a quote", {}),
    ("text after a quote", GOOD + 'W-3,"Mia" Wong,true\n', "3 : ", {}),
    ("NUL", GOOD + "W-3,Mia\x00Wong,true\n", "3 name: 'Mia\\x00Wong' holds characters that do not print", {}),
    ("escape", GOOD + "W-3,Mia\x1bWong,true\n", "3 name: 'Mia\\x1bWong' holds", {}),
    ("unit separator", GOOD + "W-3,Mia\x1fWong,true\n", "3 name: 'Mia\\x1fWong' holds", {}),
    ("enormous", GOOD + f"W-3,{'x' * 3_000_000},true\n", "3 ", {}),
    ("enormous, no end", GOOD + f'W-3,"{"x" * 3_000_000}', "3 ", {}),
    ("active empty", GOOD + "W-3,Mia Wong,\n", "3 active: is empty; write one of", {}),
    ("active in German", GOOD + "W-3,Mia Wong,ja\n", "3 active: 'ja' is neither true nor false", {}),
    ("active a date", GOOD + "W-3,Mia Wong,2026-01-01\n", "3 active: '2026-01-01' is neither", {}),
    ("no-break space", GOOD + "W-3\u00a0,Mia Wong,true\n", "3 worker_id: 'W-3\\xa0' holds", {}),
    ("nothing for an id", GOOD + "NULL,Mia Wong,true\n", "3 worker_id: 'NULL' is what programs write for no value", {}),
    ("a sheet's error", GOOD + "#REF!,Mia Wong,true\n", "3 worker_id: '#REF!' is a spreadsheet's error", {}),
    ("nothing for a name", GOOD + "W-3,N/A,true\n", "3 name: 'N/A' is what programs write for no value", {}),
    ("an id by a float", GOOD + "7.0,Mia Wong,true\n", "3 worker_id: '7.0' was made a number", {}),
    ("an id by a spreadsheet", GOOD + "1.23E+05,Mia Wong,true\n", "3 worker_id: '1.23E+05' was made a number", {}),
    ("a formula for an id", GOOD + '"=""007""",Mia,true\n', "3 worker_id: '=\"007\"' holds the marks of another", {}),
    ("a sheet's apostrophe", GOOD + "'007,Mia Wong,true\n", "3 worker_id: \"'007\" holds the marks of another", {}),
    ("single quotes", GOOD + "'W-3','Mia Wong',true\n", "3 worker_id: \"'W-3'\" holds the marks of another", {}),
    ("an id by a German spreadsheet", GOOD + '"1,23E+05",Mia,true\n', "3 worker_id: '1,23E+05' was made a number", {}),
    ("an id with thousands", GOOD + '"12,345",Mia,true\n', "3 worker_id: '12,345' was made a number", {}),
    ("an id by a German float", GOOD + '"7,0",Mia,true\n', "3 worker_id: '7,0' was made a number", {}),
    ("an id made a day", GOOD + "12-Mar,Mia,true\n", "3 worker_id: '12-Mar' was made a date", {}),
    ("an id made a month", GOOD + "Mar-12,Mia,true\n", "3 worker_id: 'Mar-12' was made a date", {}),
    ("an id made a time", GOOD + "2026-03-12 00:00:00,Mia,true\n", "3 worker_id: '2026-03-12 00:00:00' was made a", {}),
    ("an id made a US date", GOOD + "3/12/2026,Mia,true\n", "3 worker_id: '3/12/2026' was made a date", {}),
    ("two ids", GOOD + "W-3;W-4,Mia,true\n", "3 worker_id: 'W-3;W-4' holds a semicolon", {}),
    ("nothing by a database tool", GOOD + "W-3,[NULL],true\n", "3 name: '[NULL]' is what programs write", {}),
    ("nothing in another case", GOOD + "Null,Mia,true\n", "3 worker_id: 'Null' is what programs write", {}),
    ("nothing of a pivot", GOOD + "(blank),Mia,true\n", "3 worker_id: '(blank)' is what programs write", {}),
    ("a sheet still loading", GOOD + "W-3,Loading...,true\n", "3 name: 'Loading...' is what programs write", {}),
    ("a newer error", GOOD + "W-3,#SPILL!,true\n", "3 name: '#SPILL!' is a spreadsheet's error", {}),
    ("a German error", GOOD + "#BEZUG!,Mia,true\n", "3 worker_id: '#BEZUG!' is a spreadsheet's error", {}),
    ("a Spanish error", GOOD + "W-3,#\u00a1VALOR!,true\n", "3 name: '#\u00a1VALOR!' is a spreadsheet's error", {}),
    ("no first and no last name", GOOD + "W-3,None None,true\n", "3 name: 'None None' is a name put together", {}),
    ("read as cp1252", GOOD + "W-3,Jos\u00c3\u00a9,true\n", "3 name: 'Jos\u00c3\u00a9' is UTF-8 that was read", {}),
    ("read as latin-1", GOOD + "W-3,M\u00c3\u00bcller,true\n", "3 name: 'M\u00c3\u00bcller' is UTF-8 that", {}),
    ("a letter that reads as one", GOOD + "W-3,Ra\u00c3\u00bal,true\n", "3 name: 'Ra\u00c3\u00bal' is UTF-8 that", {}),
    ("an apostrophe", GOOD + "W-3,O\u00e2\u20ac\u2122Neil,true\n", "3 name: 'O\u00e2\u20ac\u2122Neil' is UTF-8", {}),
    ("a question mark for a letter", GOOD + "W-3,Jos? N??ez,true\n", "3 name: 'Jos? N??ez' has lost a letter", {}),
    ("an escape of HTML", GOOD + "W-3,O&#39;Neil,true\n", "3 name: 'O&#39;Neil' holds a character in the escape", {}),
    ("a named escape of HTML", GOOD + "W-3,Jos&eacute;,true\n", "3 name: 'Jos&eacute;' holds a character in", {}),
    ("an escape of a workbook", GOOD + "W-3,Ana_x000D_,true\n", "3 name: 'Ana_x000D_' holds a character in", {}),
    ("an address", GOOD + "W-3,Ana Silva <as@x.test>,true\n", "3 name: 'Ana Silva <as@x.test>' holds an address", {}),
    ("the id in the name", GOOD + "W-3,Ana Silva (12345),true\n", "3 name: 'Ana Silva (12345)' ends with a", {}),
    ("who has left", GOOD + "W-3,Ana Silva (Terminated),true\n", "3 name: 'Ana Silva (Terminated)' says more", {}),
    ("who is away", GOOD + "W-3,Ana Silva - On Leave,true\n", "3 name: 'Ana Silva - On Leave' says more than", {}),
    ("who may not be sent", GOOD + "W-3,SILVA ANA DO NOT USE,true\n", "3 name: 'SILVA ANA DO NOT USE' says more", {}),
    ("footer with a colon", GOOD + "Total:,Workers,true\n", "3 worker_id: 'Total:' seems to be a footer", {}),
    ("footer with a noun", GOOD + "Total Workers,two,true\n", "3 worker_id: 'Total Workers' seems to be a", {}),
    ("footer of all columns", GOOD + "Total,Workers,true\n", "3 worker_id: 'Total' seems to be a footer", {}),
    ("count for a name", GOOD + "W-3,2,true\n", "3 name: '2' is no name: it has no letter", {}),
    ("dash for an id", GOOD + "-,Mia Wong,true\n", "3 worker_id: '-' is no id", {}),
    ("a lost letter", GOOD + "W-3,Jos\ufffd,true\n", "3 name: 'Jos\\ufffd' has lost a letter", {}),
    ("a spreadsheet's first line", "sep=,\n" + GOOD, "0 : its first line is a spreadsheet's own", {}),
    ("UTF-8 for cp1252", GOOD + "W-3,Jos\u00e9,true\n", "0 : is UTF-8 and was to be cp1252", {"encoding": "cp1252"}),
    ("tab", GOOD.replace(",", "\t"), "0 : the header seems to be parted by '\\t'", {}),
    ("caret", GOOD.replace(",", "^"), "0 : the header seems to be parted by '^'", {}),
    ("header alone", "worker_id,name,active\n", "0 : has no rows", {}),
    ("empty", "", "0 : is empty", {}),
    ("blank first line", "\n" + GOOD, "0 : is empty or begins with a blank line", {}),
    ("comment", "# made on Monday\n" + GOOD, "0 ", {}),
    ("wrong delimiter", GOOD, "0 ", {"delimiter": ";"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says", "rules"), [each[1:] for each in BAD_ROWS], ids=[each[0] for each in BAD_ROWS]
)
def test_what_is_no_plain_table_is_refused_with_its_row(
    tmp_path: Path, content: str, says: str, rules: dict[str, Any]
) -> None:
    assert refusal(file(tmp_path, content), **rules).startswith(says)


def test_a_second_header_after_a_thousand_rows_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = "".join(f"W-{number},Name {number},true\n" for number in range(1000))
    path = file(tmp_path, f"worker_id,name,active\n{rows}worker_id,name,active,role\nX-1,Ana,true,welder\n")
    assert refusal(path).startswith("1001 active: repeats the header, with other columns")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD.encode("utf-16"), "is UTF-16"),
        (GOOD.encode("utf-16-le"), "zero bytes, as UTF-16"),
        (GOOD.encode() + "W-3,José,true\n".encode("cp1252"), "3 name: 'Jos\\udce9' is not utf-8"),
        ("\ufeff".encode("utf-32-le") + GOOD.encode("utf-32-le"), "is UTF-32"),
        (gzip.compress(GOOD.encode(), mtime=0), "packed by gzip; give its name the ending .gz"),
        (b"PK\x03\x04\x14\x00", "a zip archive, as a spreadsheet is one; export"),
        (b"PAR1\x15", "Parquet; give its name"),
        (b"worker_id,name,active,note\nW-1,Ana Silva,true,caf\xe9\n", "1 note: 'caf\\udce9' is not utf-8"),
    ],
)
def test_other_encodings_are_refused_and_named(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in refusal(file(tmp_path, content))


@pytest.mark.parametrize(
    ("name", "make", "rules"),
    [
        ("w.csv", lambda text: text.replace(",", ";").encode(), {"delimiter": ";"}),
        ("w.csv", lambda text: text.replace(",", "\t").encode(), {"delimiter": "\t"}),
        ("w.TSV", lambda text: text.replace(",", "\t").encode(), {}),
        ("W.CSV", lambda text: text.encode(), {}),
        ("w.csv", lambda text: text.encode("utf-8-sig"), {}),
        ("w.csv", lambda text: text.encode("utf-16"), {"encoding": "utf-16"}),
        ("w.csv", lambda text: text.encode("cp1252"), {"encoding": "cp1252"}),
        ("w.csv", lambda text: text.replace("\n", "\r\n").encode(), {}),
        ("w.csv", lambda text: text.replace("\n", "\r").encode(), {}),
        ("w.csv", lambda text: text.rstrip("\n").encode(), {}),
        ("w.csv", lambda text: (text + "\n\n").encode(), {}),
        ("w.csv", lambda text: text.replace("Ana Silva", '"Ana Silva"').encode(), {}),
        ("w.csv.gz", lambda text: gzip.compress(text.encode()), {}),
        ("w.csv.GZ", lambda text: gzip.compress(text[:30].encode()) + gzip.compress(text[30:].encode()), {}),
        ("w.csv.zst", lambda text: zstandard.compress(text.encode()), {}),
        ("workers[1].csv", lambda text: text.encode(), {}),
        ("w*.csv", lambda text: text.encode(), {}),
        ("w'?;--.csv", lambda text: text.encode(), {}),
    ],
)
def test_what_was_said_of_a_file_is_how_it_is_read(
    tmp_path: Path, name: str, make: Callable[[str], bytes], rules: dict[str, Any]
) -> None:
    for other in ("workers1.csv", "wx.csv", "w'x;--.csv"):
        file(tmp_path, GOOD.replace("Ana", "Eve"), other)
    assert read(file(tmp_path, make(GOOD), name), **rules) == [ANA, OMAR]


def test_a_name_may_begin_with_an_apostrophe_and_be_null_in_part(tmp_path: Path) -> None:
    names = [
        "'t Hooft",
        "Null",
        "Na",
        "Jennifer Null",
        "O'",
        "N.A. Porter",
        "Total Recall",
        "\u00daseva",
        "JO\u00c3O",
        "Nan Nan",
        "William (Bill) Smith",
        "D'Angelo",
        "Mar Lopez",
        "Grace No",
        "\u00c5sa \u00d8stby",
        "ANDR\u00c9 \u00c2NGELO",
    ]
    rows = "".join(f"W-{at},{name},true\n" for at, name in enumerate(names))
    assert {name for _, name, _ in read(file(tmp_path, "worker_id,name,active\n" + rows))} == {*names}


def test_utf_16_without_its_mark_is_refused_and_an_encoding_of_no_files_is_none(tmp_path: Path) -> None:
    path = file(tmp_path, GOOD.encode("utf-16-le"))
    assert "is not utf-16 (UTF-16 stream does not start with BOM)" in refusal(path, encoding="utf-16")
    for name in ("idna", "punycode", "unicode_escape", "utf-7", "rot13", "no such"):
        with pytest.raises(ValidationError, match="no encoding of texts"):
            RosterTable(path=path, encoding=name)


def test_what_is_no_parquet_is_refused_by_its_own_name_and_says_what_to_do(tmp_path: Path) -> None:
    text = refusal(file(tmp_path, b"PAR1garbage", "w.parquet"))
    assert text.startswith("0 : is no whole Parquet file (")
    assert text.endswith("; write it anew")
    assert str(tmp_path) not in text
    assert "SELECT" not in text


def test_a_line_break_inside_of_quotes_is_the_values_own(tmp_path: Path) -> None:
    text = 'worker_id,name,active,note\r\nW-1,Ana Silva,true,"two\nlines, ""quoted"""\r\nW-2,Omar Khan,false,x\r\n'
    assert read(file(tmp_path, text)) == [ANA, OMAR]


@pytest.mark.parametrize("cut", [1, 5, 9])
@pytest.mark.parametrize("name", ["w.csv.gz", "w.csv.zst"])
def test_a_packed_file_without_its_end_is_refused(tmp_path: Path, name: str, cut: int) -> None:
    text = (GOOD + "".join(f"N-{number},Name {number},true\n" for number in range(5000))).encode()
    packed = (
        gzip.compress(text) if name.endswith("gz") else zstandard.ZstdCompressor(write_checksum=True).compress(text)
    )
    assert "cannot be unpacked" in refusal(file(tmp_path, packed[:-cut], name))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"worker_id": "W-3", "name": {"first": "Ana"}, "active": true}', "3 name: is an object where name belongs"),
        ('{"worker_id": "W-3", "name": ["Ana"], "active": true}', "3 name: is a list"),
        ('{"worker_id": "W-3", "name": 7, "active": true}', "3 name: is a number"),
        ('{"worker_id": 3.0, "name": "Ana", "active": true}', "3 worker_id: is a number"),
        ('{"worker_id": true, "name": "Ana", "active": true}', "3 worker_id: is a boolean"),
        ('{"worker_id": "W-3", "name": "Ana", "active": null}', "3 active: is empty"),
        ('{"worker_id": "W-3", "name": "Ana"}', "3 active: is empty"),
        ('{"worker_id": "W-3", "name": "Ana", "active": false, "active": true}', "3 active: stands twice"),
        ('{"worker_id": "W-3", "name": "A\\nB", "active": true}', "3 name: 'A\\nB' holds characters"),
        ('{"worker_id": "W-3", "name": "A\\ud800", "active": true}', "3 name: "),
        ('{"worker_id": "W-3", "name": "Ana", "Active": true}', "0 active: "),
        ('["W-3", "Ana", true]', "3 : is no JSON object"),
        ('{"worker_id": "W-3"', "3 : is no JSON ("),
        ("NaN", "3 : is no JSON object"),
    ],
)
def test_jsonl_values_are_what_their_columns_are(tmp_path: Path, line: str, says: str) -> None:
    good = (
        '{"worker_id": "W-1", "name": "Ana Silva", "active": true}\n{"worker_id": 2, "name": "Omar", "active": false}\n'
    )
    assert read(file(tmp_path, good, "g.jsonl")) == [("2", "Omar", False), ANA]
    assert refusal(file(tmp_path, good + line + "\n", "w.jsonl")).startswith(says)


@pytest.mark.parametrize(
    ("select", "says"),
    [
        ("SELECT 'W-1' AS worker_id, 'Ana'::BLOB AS name", '0 name: "name" is BLOB; write it as one of VARCHAR'),
        ("SELECT 7.0::DOUBLE AS worker_id, 'Ana' AS name", '0 worker_id: "worker_id" is DOUBLE'),
        ("SELECT 7::DECIMAL(9,2) AS worker_id, 'Ana' AS name", '0 worker_id: "worker_id" is DECIMAL'),
        ("SELECT 'W-1' AS worker_id, {'a': 'Ana'} AS name", '0 name: "name" is STRUCT'),
        ("SELECT 'W-1' AS worker_id, 'Ana' AS name, NULL::BOOLEAN AS active", "1 active: is empty"),
        ("SELECT 'W-1' AS worker_id, NULL::VARCHAR AS name", "1 name: is empty"),
        ("SELECT 'W-1' AS worker_id, 'Ana' AS name, 1.0::DOUBLE AS active", '0 active: "active" is DOUBLE'),
        ("SELECT 'W-1' AS worker_id, 'Ana' AS name, true AS is_active", '0 active: there is no column "active"'),
        ("SELECT 'W-1' AS worker_id, 'A' || chr(0) AS name", "1 name: 'A\\x00' holds"),
        ("SELECT 'W-1' AS worker_id, 'Ana' AS name, 'To' || chr(10) AS city", "1 city: 'To\\n' holds"),
    ],
)
def test_parquet_columns_have_types_that_lose_nothing(tmp_path: Path, select: str, says: str) -> None:
    assert refusal(parquet(tmp_path / "w.parquet", select)).startswith(says)


def test_parquet_ids_may_be_whole_numbers_and_booleans_are_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "w.PARQUET", "SELECT 7 AS worker_id, 'Ana' AS name, false AS active, 3 AS Other")
    assert read(path) == [("7", "Ana", False)]


def test_a_folder_is_read_whole_and_its_name_is_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "active=true" / "worker_id=[x]*"
    folder.mkdir(parents=True)
    parquet(folder / "part-1.parquet", "SELECT 'W-1' AS worker_id, 'Ana Silva' AS name, true AS active")
    parquet(folder / "part-0.parquet", "SELECT false AS active, 'Omar Khan' AS name, 'W-2' AS worker_id")
    file(folder, "", "_SUCCESS")
    file(folder, "x", ".part-1.parquet.crc")
    assert read(folder) == [ANA, OMAR]
    assert read(file(tmp_path / "active=true", "worker_id,name\nW-1,Ana Silva\n")) == [ANA]
    report, _ = load_files(RosterFiles.read({"workers": tmp_path / "active=true" / "w.csv"}))
    assert report["columns"]["workers"]["defaulted"]["active"] == "everybody counts as active"


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"a.csv": GOOD, "b.csv": "worker_id,name\nW-3,Mia Wong\n"}, "differs from"),
        ({"a.csv": GOOD, "b.csv": GOOD}, "1 worker_id: 'W-1' stands in row 1 of"),
        ({"a.csv": GOOD, "b.tsv": GOOD}, "a folder holds one format"),
        ({"a.csv": GOOD, "readme.txt": "x"}, "unknown format"),
        ({"a.csv": GOOD, "b.csv": GOOD.replace("W-", "X-") + "short\n"}, "3 name: has 1 of 3"),
        ({}, "is a folder without files"),
    ],
)
def test_the_files_of_a_folder_are_one_table(tmp_path: Path, parts: dict[str, str], says: str) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, text in parts.items():
        file(folder, text, name)
    assert says in refusal(folder)


def test_folders_inside_of_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "parts" / "active=false").mkdir(parents=True)
    file(tmp_path / "parts", GOOD)
    assert "without partitions by folder" in refusal(tmp_path / "parts")


COMPANIONS: list[tuple[str, str, str, str]] = [
    ("do_not_send", "client_id,worker_id\nacme ,W-1\n", "1 client_id: 'acme ' has spaces around it", "space"),
    ("do_not_send", "client_id,worker_id\nacme,W-1 \n", "1 worker_id: 'W-1 ' has spaces around it", "space"),
    ("do_not_send", "client_id,worker_id\n,W-1\n", "1 client_id: is empty", "empty"),
    ("do_not_send", "client_id,worker_id\n*,W-1\n", "1 client_id: '*' is no id", "star"),
    ("do_not_send", "client_id,worker_id\nALL,W-1\n", "1 client_id: 'ALL' stands for every client", "all"),
    ("do_not_send", "client_id,worker_id\nacme,1.0\n", "1 worker_id: '1.0' was made a number", "float"),
    ("do_not_send", "client_id,worker_id\nacme,1\n", "1 worker_id: 1 of 1 rows name a worker who is not", "zeros"),
    ("do_not_send", "client,worker_id\nacme,W-1\n", '0 client_id: there is no column "client_id"', "column"),
    ("do_not_send", "client_id,worker_id\na,W-1\nclient_id,worker_id,why\nb,W-2,x\n", "2 worker_id: repeats", "header"),
    ("assignments", "worker_id,shift_start,shift_end\nW-1,2026-12-05,\n", "1 shift_start: '2026-12-05'", "date"),
    ("assignments", "worker_id,shift_start,shift_end\nW-1,2026-12-05T06:00:00,\n", "1 shift_start: ", "no offset"),
    ("assignments", "worker_id,shift_start,shift_end\nW-1,2026-12-05T06:00Z,\n", "1 shift_end: '' is no", "open end"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "says"), [each[:3] for each in COMPANIONS], ids=[each[3] for each in COMPANIONS]
)
def test_companions_are_as_strict_as_the_roster(tmp_path: Path, name: str, text: str, says: str) -> None:
    rules = {name: file(tmp_path, text, "companion.csv")}
    assert refusal(file(tmp_path, GOOD), **rules).startswith(says)


def test_few_unknown_ids_of_a_companion_are_warned_of_and_many_refused(tmp_path: Path) -> None:
    workers = write_csv(
        tmp_path / "w.csv", [{"worker_id": f"{n:04d}", "name": "A B", "active": "yes"} for n in range(200)]
    )
    for lost, good in ((2, True), (3, False)):
        ids = [*(f"{n:04d}" for n in range(200 - lost)), *(str(n) for n in range(lost))]
        refused = write_csv(tmp_path / "d.csv", [{"client_id": "acme", "worker_id": each} for each in ids])
        report, index = load_files(RosterFiles.read({"workers": workers, "do_not_send": refused}))
        assert (index is not None) == good
        assert report["unknown"]["do_not_send"] == lost
        assert f"{lost} of 200 rows" in (report["warnings"][0] if good else report["problems"][0]["text"])
    raised = {"workers": workers, "do_not_send": refused, "unknown_max": 0.02}
    assert load_files(RosterFiles.read(raised))[1] is not None


def test_clients_are_compared_as_roles_are(tmp_path: Path) -> None:
    refused = file(tmp_path, "client_id,worker_id\nACME  Corp,W-1\n", "d.csv")
    _, index = load_files(RosterFiles.read({"workers": file(tmp_path, GOOD), "do_not_send": refused}))
    assert index is not None
    for client, is_refused in (("acme corp", True), ("Acme Corp", True), ("acme", False), ("\uff21cme corp", True)):
        assert index.found(["W-1"], None, client)["W-1"].do_not_send is is_refused, client
    assert not index.found(["W-2"], None, "acme corp")["W-2"].do_not_send


def test_a_link_that_is_turned_while_it_is_read_mixes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from validated.datasets import parts

    old, new = file(tmp_path, GOOD, "old.csv"), file(tmp_path, GOOD.replace("Ana", "Eve"), "new.csv")
    link = tmp_path / "w.csv"
    link.symlink_to(old)
    whole = parts.OpenPart.unpack_to

    def turned(self: parts.OpenPart, out: Any) -> None:
        link.unlink()
        link.symlink_to(new)
        whole(self, out)

    monkeypatch.setattr(parts.OpenPart, "unpack_to", turned)
    first, _ = load_files(RosterFiles.read({"workers": link}))
    monkeypatch.undo()
    link.unlink()
    link.symlink_to(old)
    assert first["version"] == load_files(RosterFiles.read({"workers": link}))[0]["version"]
    assert read(link) == [ANA, OMAR]


# What is wrong with it meanwhile says nothing of the file.
@pytest.mark.parametrize("after", [f"{GOOD}W-3,Mia Wong,true\n", f"{GOOD}W-3\n", " worker_id,name\n"])
def test_a_file_that_is_written_to_while_it_is_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    from validated.datasets import parts

    path = file(tmp_path, GOOD)
    whole = parts.OpenPart.unpack_to

    def written(self: parts.OpenPart, out: Any) -> None:
        path.write_text(after)
        whole(self, out)

    monkeypatch.setattr(parts.OpenPart, "unpack_to", written)
    report, index = load_files(RosterFiles.read({"workers": path}))
    assert index is None
    assert report["retry"] is True
    assert "changed while it was read" in report["problems"][0]["text"]
    assert [each.name for each in tmp_path.iterdir()] == ["w.csv"]


def _parquet(tmp_path: Path, select: str, name: str = "w.parquet") -> Path:
    path = tmp_path / name
    with duckdb.connect() as db:
        db.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
    return path


def _renamed(path: Path, old: bytes, new: bytes) -> Path:
    """Give a column of a Parquet file another name of as many bytes: the engine writes no two that differ in case."""
    data = path.read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new))
    return path


def test_parquet_columns_that_differ_in_case_are_told_apart_as_those_of_csv(tmp_path: Path) -> None:
    select = "SELECT 'W-1' AS worker_id, 'Ana Silva' AS name, true AS employed, false AS emploYXX"
    path = _renamed(_parquet(tmp_path, select), b"emploYXX", b"Employed")
    mapped = {"columns": {"active": "Employed"}, "ignore_columns": ["employed"]}
    assert read(path, **mapped) == [("W-1", "Ana Silva", False)]
    assert read(path, columns={"active": "employed"}, ignore_columns=["Employed"]) == [ANA]
    assert "differ in case alone" in refusal(path, columns={"active": "EMPLOYED"})

    select = "SELECT 'acme' AS client_id, 'W-1' AS Worker_ID, 'W-2' AS worker_iX"
    refused = _renamed(_parquet(tmp_path, select, "d.parquet"), b"worker_iX", b"worker_id")
    report, _ = load_files(RosterFiles.read({"workers": file(tmp_path, GOOD), "do_not_send": refused}))
    assert report["problems"], report


def test_fields_within_a_parquet_column_are_no_columns(tmp_path: Path) -> None:
    select = (
        "SELECT {'city': 'x', 'active': false} AS home, 'W-1' AS worker_id, [{'name': 'y'}] AS contacts, "
        "'Ana Silva' AS name, true AS active"
    )
    assert read(_parquet(tmp_path, select), ignore_columns=["home", "contacts"]) == [ANA]


def test_a_parquet_column_of_nothing_but_nulls_is_an_empty_one(tmp_path: Path) -> None:
    select = "SELECT 'W-1' AS worker_id, 'Ana Silva' AS name, true AS active, NULL AS role, NULL AS phone"
    assert read(_parquet(tmp_path, select)) == [ANA]
    nobody = "SELECT 'W-1' AS worker_id, 'Ana Silva' AS name, NULL AS active"
    assert "active: is empty" in refusal(_parquet(tmp_path, nobody))


@pytest.mark.parametrize(
    "again",
    ["ID,Name,Active", "Employee ID,Full Name,active", "worker-id,x,active", "EMPLOYEE_ID,Name,Active",
     "W-9,Full Name,active", "worker_id (required),name,active", "Badge,Name,active"],
)  # fmt: skip
def test_a_second_header_is_one_however_it_is_spelt(tmp_path: Path, again: str) -> None:
    assert refusal(file(tmp_path, f"{GOOD}{again}\n")).startswith("3 ")
    assert "repeats the header" in refusal(file(tmp_path, f"{GOOD}{again}\n"))


def test_certifications_with_a_line_end_are_refused_and_nobody_is_lost(tmp_path: Path) -> None:
    for held in ("'OSHA-10' || chr(10)", "'forklift;' || chr(13) || chr(10) || 'OSHA'", "'a' || chr(0) || 'b'"):
        select = f"SELECT 'W-1' AS worker_id, 'Ana Silva' AS name, true AS active, {held} AS certifications"
        assert refusal(_parquet(tmp_path, select)).startswith("1 certifications: ")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("latitude,longitude", "95,0"),
        ("latitude,longitude", "41,"),
        ("certifications", '"[{}]"'),
        ("name", "A\u200bna"),
    ],
)
def test_every_problem_is_counted_and_the_first_ones_are_listed(tmp_path: Path, column: str, value: str) -> None:
    head = "worker_id,active,name" if column != "name" else "worker_id,active"
    name = ",Ana Silva" if column != "name" else ""
    rows = "".join(f"W-{at:05},true{name},{value.format(at)}\n" for at in range(1, 2501))
    report, _ = load_files(RosterFiles.read({"workers": file(tmp_path, f"{head},{column}\n{rows}")}))
    assert [problem["row"] for problem in report["problems"]] == list(range(1, 1001))
    assert report["problems_left_out"] == 1500


def test_what_is_told_of_an_index_names_the_files_of_now(tmp_path: Path) -> None:
    old, new = (tmp_path / name for name in ("old.csv", "new.csv"))
    old.write_text(GOOD.rstrip())
    store = Store(tmp_path / "store")
    for path in (old, new):
        (warning,) = build(RosterFiles.read({"workers": path}), store, rows_max=10, memory_mb=64)["warnings"]
        assert warning.startswith(f"{path}: its last line")
        path.rename(new)


def test_a_pipe_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.csv")
    assert "is no file but a pipe or a device" in refusal(tmp_path / "w.csv")


def test_a_column_that_says_whom_not_to_ask_is_not_passed_over(tmp_path: Path) -> None:
    assert '"no_contact"' in refusal(file(tmp_path, "worker_id,name,no_contact\nW-1,Ana Silva,yes\n"))
    assert read(file(tmp_path, "worker_id,name,phone_no\nW-1,Ana Silva,1\n"), columns={"phone": "phone_no"}) == [ANA]


def test_utf_32_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_bytes(GOOD.encode("utf-32"))
    assert 'encoding = "utf-32"' in refusal(path)
    assert read(path, encoding="utf-32") == [ANA, OMAR]
