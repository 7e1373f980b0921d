"""Reading rosters: the formats give one index, and a bad file is refused with the row and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rosters import ASSIGNMENTS, DO_NOT_SEND, load_files, people, write_csv, write_jsonl

from validated.datasets.build import RosterFiles
from validated.datasets.index import RosterIndex
from validated.datasets.worker import Worker


def _files(path: Path, **rules: Any) -> RosterFiles:
    return RosterFiles.read({"workers": str(path), **rules})


def _index(files: RosterFiles) -> RosterIndex:
    report, index = load_files(files)
    assert report["problems"] == []
    assert index is not None
    return index


def _workers(index: RosterIndex) -> list[Worker]:
    return list(index.workers())


def _problems(path: Path, **rules: Any) -> list[tuple[int, str, str]]:
    report, _ = load_files(_files(path, **rules))
    return [(problem["row"], problem["column"], problem["text"]) for problem in report["problems"]]


def _parquet(path: Path, source: Path) -> Path:
    # Typed columns, as a warehouse writes them.
    with duckdb.connect() as db:
        db.execute(
            f"COPY (SELECT * REPLACE (active = 'true' AS active, string_split(certifications, ';') AS certifications, "
            f"TRY_CAST(latitude AS DOUBLE) AS latitude, TRY_CAST(longitude AS DOUBLE) AS longitude) "
            f"FROM read_csv('{source}', all_varchar = true)) TO '{path}' (FORMAT parquet)"
        )
    return path


def test_csv_tsv_jsonl_and_parquet_give_the_same_workers(tmp_path: Path) -> None:
    rows = people()
    csv_path = write_csv(tmp_path / "w.csv", rows)
    expected = _workers(_index(_files(csv_path)))
    assert [worker.worker_id for worker in expected] == sorted(row["worker_id"] for row in rows)
    assert expected[0] == Worker(
        worker_id="W-000001",
        name="Ana Silva",
        role="Forklift operator",
        city="Toledo",
        state="OH",
        active=True,
        certifications=("forklift", "OSHA-10"),
        latitude=41.6528,
        longitude=-83.5379,
        phone="+1-419-555-0100",
    )
    tsv_path = tmp_path / "w.tsv"
    tsv_path.write_text(csv_path.read_text(encoding="utf-8").replace(",", "\t"), encoding="utf-8")
    typed = [
        {**row, "active": row["active"] == "true", "certifications": row["certifications"].split(";"),
         "latitude": float(row["latitude"] or "nan"), "longitude": float(row["longitude"] or "nan")}
        for row in rows
    ]  # fmt: skip
    typed = [{name: value for name, value in row.items() if str(value) != "nan"} for row in typed]
    for path in (tsv_path, write_jsonl(tmp_path / "w.jsonl", typed), _parquet(tmp_path / "w.parquet", csv_path)):
        assert _workers(_index(_files(path))) == expected, path


@pytest.mark.parametrize("space", [" ", "\u3000"])
def test_spaces_at_the_ends_of_a_text_are_cut_wherever_they_stand(tmp_path: Path, space: str) -> None:
    rows = people()
    expected = _workers(_index(_files(write_csv(tmp_path / "w.csv", rows))))
    spaced = ("role", "city", "state", "latitude", "longitude", "phone")
    for at, column in enumerate(spaced):
        # In one row alone, before the value or behind it.
        row = rows[at % len(rows)]
        value = f"{row[column]}{space}" if at % 2 else f"{space}{row[column]}"
        path = write_csv(
            tmp_path / f"{column}.csv", [{**each, column: value} if each is row else each for each in rows]
        )
        assert _workers(_index(_files(path))) == expected, column


def test_ids_that_look_like_numbers_keep_their_zeros(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "w.csv", [{"worker_id": "007", "name": "A B"}, {"worker_id": "7", "name": "C D"}])
    index = _index(_files(path))
    assert [worker.worker_id for worker in _workers(index)] == ["007", "7"]
    assert not index.has("07")


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "w.csv", [{"emp no": "A1", "full_name": "A B", "job": "welder"}])
    index = _index(_files(path, columns={"worker_id": "emp no", "name": "full_name", "role": "job"}))
    assert index.worker("A1") == Worker("A1", "A B", "welder")


@pytest.mark.parametrize(
    ("change", "row", "column", "says"),
    [
        ({"worker_id": ""}, 2, "worker_id", "is empty"),
        ({"worker_id": "  "}, 2, "worker_id", "is empty"),
        ({"worker_id": "W-000001"}, 2, "worker_id", "stands in row 1"),
        ({"worker_id": " W-5"}, 2, "worker_id", "spaces around"),
        ({"worker_id": "W\u200b-5"}, 2, "worker_id", "do not print"),
        ({"worker_id": "W" * 201}, 2, "worker_id", "200 characters"),
        ({"name": ""}, 2, "name", "is empty"),
        ({"active": "perhaps"}, 2, "active", "neither true nor false"),
        ({"latitude": "91", "longitude": "0"}, 2, "latitude", "no point"),
        ({"latitude": "north", "longitude": "0"}, 2, "latitude", "no point"),
        ({"latitude": "41", "longitude": ""}, 2, "latitude", "go together"),
        ({"certifications": "[1]"}, 2, "certifications", "no list"),
    ],
)
def test_a_bad_row_is_told_by_number_column_and_what_to_do(
    tmp_path: Path, change: dict[str, str], row: int, column: str, says: str
) -> None:
    rows = people()
    rows[1].update(change)
    ((found_row, found_column, text),) = _problems(write_csv(tmp_path / "w.csv", rows))
    assert (found_row, found_column) == (row, column)
    assert says in text


def test_every_bad_row_is_told_at_once(tmp_path: Path) -> None:
    rows = people()
    rows[0]["name"] = ""
    rows[3]["active"] = "?"
    assert {(row, column) for row, column, _ in _problems(write_csv(tmp_path / "w.csv", rows))} == {
        (1, "name"),
        (4, "active"),
    }


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("w.csv", "number,name\n1,A\n", 'no column "worker_id" but "number", "name"'),
        ("w.csv", "id,name\n1,A\n", 'no column "worker_id", and "id" looks like it; map it'),
        ("w.csv", "worker_id,name\n", "has no rows"),
        ("w.csv", "", ""),
        ("w.csv", "worker_id,name\nA,B\nC,D,E,F\n", ""),
        ("w.csv", 'worker_id,name\nA,"B\n', ""),
        ("w.jsonl", '{"worker_id": "A", "name": "B"}\n{"worker_id": \n', ""),
        ("w.jsonl", '{"no": "A"}\n', 'no column "worker_id"'),
        ("w.parquet", "not parquet", ""),
        ("w.xlsx", "PK", "must end in .csv"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_a_reason(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    problems = _problems(path)
    assert problems
    assert says in problems[0][2]
    assert len(problems[0][2]) < 500


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_bytes(b"worker_id,name\nA,Jos\xe9\n")
    assert _problems(path)


def test_a_missing_file_is_told_without_a_stack_trace(tmp_path: Path) -> None:
    ((_, _, text),) = _problems(tmp_path / "none.csv")
    assert "No such file" in text


def test_companions_are_checked_and_unknown_workers_in_them_are_only_warned_of(tmp_path: Path) -> None:
    workers = write_csv(tmp_path / "w.csv", people())
    gone = [*ASSIGNMENTS * 99, {**ASSIGNMENTS[0], "worker_id": "W-GONE"}]
    rules = {
        "assignments": write_csv(tmp_path / "a.csv", gone),
        "do_not_send": write_csv(tmp_path / "d.csv", DO_NOT_SEND),
    }
    report, _ = load_files(_files(workers, **rules))
    assert report["problems"] == []
    assert report["unknown"] == {"assignments": 1, "do_not_send": 0}
    assert "1 of 100 rows name a worker who is not in the roster (row 100 'W-GONE')" in report["warnings"][0]
    backwards = [{**ASSIGNMENTS[0], "shift_end": ASSIGNMENTS[0]["shift_start"]}]
    ((row, column, _),) = _problems(workers, assignments=write_csv(tmp_path / "b.csv", backwards))
    assert (row, column) == (1, "shift_start")


def test_the_version_is_of_the_bytes_of_all_files(tmp_path: Path) -> None:
    workers = write_csv(tmp_path / "w.csv", people())
    same = write_csv(tmp_path / "same.csv", people())
    other = write_csv(tmp_path / "other.csv", people()[:-1])
    companion = write_csv(tmp_path / "d.csv", DO_NOT_SEND)
    versions = [
        load_files(files)[0]["version"]
        for files in (_files(workers), _files(same), _files(other), _files(workers, do_not_send=companion))
    ]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3
    assert all(len(version) == len("sha256:") + 16 for version in versions)


def test_nothing_in_a_cell_is_executed(tmp_path: Path) -> None:
    evil = "'); DROP TABLE r; COPY (SELECT 1) TO 'x'; --"
    evil_id = evil.replace(";", ",")
    path = write_csv(tmp_path / "w'ork.csv", [{"worker_id": evil_id, "name": evil, 'ro"le': "x"}])
    index = _index(_files(path, columns={"role": 'ro"le'}))
    assert index.worker(evil_id) == Worker(evil_id, evil, "x")
    assert json.dumps(sorted(each.name for each in tmp_path.iterdir())) == json.dumps(["w'ork.csv"])


def test_every_spelling_of_a_name_is_found_however_many_bear_the_first_one(tmp_path: Path) -> None:
    many = [{**people()[0], "worker_id": f"W-{at:04}", "name": "Ana Silva"} for at in range(300)]
    others = [
        {**many[0], "worker_id": f"X-{at:04}", "name": name} for at, name in enumerate(("ANA SILVA", "Ána Silva"))
    ]
    index = _index(_files(write_csv(tmp_path / "workers.csv", [*many[::-1], *others])))
    assert {worker.name for worker in index.bearers("anasilva")} == {"Ana Silva", "ANA SILVA", "Ána Silva"}
    # The first by their ids, whatever the order of the rows.
    assert {"W-0000", "X-0000", "X-0001"} >= {worker.worker_id for worker in index.bearers("anasilva")}
    assert len(index.namesakes(["anasilva"])) == 64
    assert index.near_names("anasilva", 3)[-3:] == ["X-0000", "W-0000", "W-0001"]


def test_names_that_begin_alike_are_near_to_both_sides(tmp_path: Path) -> None:
    names = ("Ana Silma", "Ana Silva", "Ana Silva", "Ana Silvo", "Zoe Wu")
    rows = [{**people()[0], "worker_id": f"W-{at}", "name": name} for at, name in enumerate(names)]
    index = _index(_files(write_csv(tmp_path / "workers.csv", rows)))
    assert index.near_names("anasilv", 2) == ["W-0", "W-1", "W-2"]
    assert index.near_names("anasilvi", 2) == ["W-1", "W-2", "W-3", "W-4"]
    assert index.near_names("zzz", 2) == ["W-3", "W-4"]
    assert index.near_names("", 9) == ["W-0", "W-1", "W-2", "W-3", "W-4"]


def test_rows_of_several_parts_are_numbered_as_they_stand_however_each_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.mkdir()
    header = "worker_id,name,role\n"
    plain = "".join(f"W-{at:06},Ana Silva,welder\n" for at in range(300_000))
    (folder / "1.csv").write_text(f"{header}{plain}")
    # One quote, and a file is read by another way.
    quoted = "".join(f"X-{at:06},Omar Khan,welder\n" for at in range(9_999))
    (folder / "2.csv").write_text(f'{header}{quoted}X-999999,"Khan, Omar",welder\n')
    (folder / "3.csv").write_text(f"{header}Y-000001,Mia Wong,welder\n")
    report, index = load_files(_files(folder), rows_max=400_000, memory_mb=512)
    assert index is not None, report["problems"]
    assert index.row_count == 310_001

    bad: list[tuple[str, int, str]] = []
    for part, count in (("1.csv", 300_000), ("2.csv", 10_000), ("3.csv", 1)):
        lines = (folder / part).read_text().splitlines(keepends=True)
        for row in sorted({1, count // 2 + 1, count}):
            worker_id, _, rest = lines[row].partition(",")
            lines[row] = f"{worker_id} ,{rest}"
            bad.append((part, row, "worker_id"))
        (folder / part).write_text("".join(lines))
    report, _ = load_files(_files(folder), rows_max=400_000, memory_mb=512)
    assert [(Path(each["file"]).name, each["row"], each["column"]) for each in report["problems"]] == bad
