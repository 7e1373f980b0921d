"""Kind email: the message may tell of nobody outside the fill."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import message_cases
import psycopg
import pytest
from rosters import LIMITS, POSTGRES, judge, write_csv

from validated.config import RosterTable
from validated.datasets.file import FileRoster
from validated.datasets.names import full_name_key, said, table_key, table_key_sql
from validated.datasets.postgres import PostgresRoster
from validated.kinds.email import EmailValidator
from validated.kinds.validator import Tools

SPEC: dict[str, Any] = {"worker_ids": ["W-000002", "W-000007"]}
GOOD = {
    "to_worker_id": "W-000002",
    "subject": "Your shift on 2026-12-05",
    "body": "Hello Łukasz Żak,\nyou work with Ana Silva on 12/05/2026 from 07:00 to 15:00 (2026-12-05T07:00:00-05:00). "
    "Gate 4, 200 Main St, Toledo, OH 43604. Questions: +1 (419) 555-0107. W-000007 has the keys. Thank you, Will May",
}


async def _codes(email: EmailValidator, artifact: Any, **spec: Any) -> list[str]:
    findings, ground = await judge(email, artifact, kind="email", **{**SPEC, **spec})
    assert ground is not None
    for finding in findings.kept:
        assert finding.message.isprintable()
    return [finding.code for finding in findings.kept]


async def test_a_message_about_the_fill_alone_passes_and_is_grounded(email: EmailValidator) -> None:
    findings, ground = await judge(email, GOOD, kind="email", **SPEC)
    assert findings.kept == []
    assert ground is not None
    assert ground.grounded is True


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ("Omar Khan comes too", ["FOREIGN_WORKER"]),
        ("OMAR   khan comes too", ["FOREIGN_WORKER"]),
        ("O\u200bmar Kh\u00adan comes too", ["FOREIGN_WORKER"]),
        ("\uff2f\uff4d\uff41\uff52 Khan comes too", ["FOREIGN_WORKER"]),
        ("jose\u0301 nu\u0301n\u0303ez comes too", ["FOREIGN_WORKER"]),
        ("ask W-000003", ["FOREIGN_WORKER"]),
        ("ask W-999999", ["PHANTOM_WORKER"]),
        ("ask w-000002", ["PHANTOM_WORKER"]),
        ("call 419-555-0199", ["FOREIGN_NUMBER"]),
        ("call 4 1 9 5 5 5 0 1 9 9", ["FOREIGN_NUMBER"]),
        ("call 419\u200b555\u200b0199", ["FOREIGN_NUMBER"]),
        ("SSN 123-45-6789", ["FOREIGN_NUMBER"]),
        ("call 555-0107", []),
        ("Omar is a name, Khan another one", []),
    ],
)
async def test_what_tells_of_somebody_else_is_found(email: EmailValidator, body: str, codes: list[str]) -> None:
    assert await _codes(email, {**GOOD, "body": body}) == codes
    assert await _codes(email, {**GOOD, "subject": body}) == codes


async def test_a_namesake_in_the_fill_may_be_named(email: EmailValidator) -> None:
    # W-000001 is Ana Silva too: the name alone cannot tell her from W-000007.
    assert await _codes(email, {**GOOD, "body": "Ana Silva"}) == []
    assert await _codes(email, {**GOOD, "body": "Ana Silva"}, worker_ids=["W-000002"]) == ["FOREIGN_WORKER"]


@pytest.mark.parametrize(
    ("change", "spec", "codes"),
    [
        ({"to_worker_id": "W-000007"}, {"to_worker_id": "W-000002"}, ["WRONG_RECIPIENT"]),
        ({"to_worker_id": "W-000003"}, {}, ["WRONG_RECIPIENT"]),
        ({"to_worker_id": "W-999999"}, {}, ["PHANTOM_WORKER", "WRONG_RECIPIENT"]),
        ({"subject": "x" * 201}, {}, ["TOO_LONG"]),
        ({"body": "x" * 11}, {"body_chars_max": 10}, ["TOO_LONG"]),
        ({"cc": "W-000003"}, {}, ["SHAPE"]),
        ({"body": 5}, {}, ["SHAPE"]),
        ({"body": "  "}, {}, ["SHAPE"]),
    ],
)
async def test_one_wrong_thing_gives_exactly_its_finding(
    email: EmailValidator, change: Any, spec: Any, codes: list[str]
) -> None:
    assert await _codes(email, {**GOOD, **change}, **spec) == codes


async def test_the_longest_message_is_searched_to_its_end(email: EmailValidator) -> None:
    body = "a b " * 4990 + "Omar Khan"
    assert await _codes(email, {**GOOD, "body": body}, body_chars_max=20_000) == ["FOREIGN_WORKER"]


OFFICE: dict[str, Any] = {"allowed_names": ["Pat Officer"], "allowed_numbers": ["(419) 555-0001"]}
CROWD = [
    ("W-000001", "Ana Silva", "+1-419-555-0107"),
    ("W-000002", "Omar Reyes", ""),
    ("W-000003", "Robert Brown", "+1-419-555-0199"),
    ("W-000004", "Mary B. Jones", ""),
    ("W-000005", "O'Neil", ""),
    ("W-000006", "\u674e\u5a1c", ""),
    ("W-000007", "Robert Brown Jr.", ""),
    ("W-000008", "William (Bill) Smith", ""),
    ("W-000009", "Juan Carlos de la Cruz Martinez", ""),
    ("W-000010", "\u0905\u0928\u093f\u0924\u093e \u0936\u0930\u094d\u092e\u093e", ""),
    ("W-000011", "Madonna", ""),
    ("W-000012", "April Jackson", ""),
    ("W-000013", "May", ""),
    ("W-000014", "\u0e2a\u0e21\u0e0a\u0e32\u0e22 \u0e43\u0e08\u0e14\u0e35", ""),
    ("W-000015", "Silva Omar", ""),
    ("W-000016", "\u0141ukasz \u017bak", ""),
    ("43604", "Zip Worker", ""),
    ("2026", "Year Worker", ""),
    ("1200", "House Worker", ""),
    ("W-000017", "\uae40\ucca0\uc218", ""),
    ("W-000018", "Jean-Luc Picard", ""),
    ("W-000019", "Maria Jos\u00e9 da Silva Santos Pereira Costa", ""),
    ("W-000020", "Hope", ""),
    ("W-000021", "Garcia, Maria Elena", ""),
    ("W-000022", "De La Cruz, Ana", ""),
    ("W-000023", "Kowalski Jr., Adam", ""),
    ("W-000024", "Nguyen, Jr., Van An", ""),
    ("W-000025", "Dubois, Marc, MD", ""),
    ("W-000026", "Henry Ruiz, III", ""),
    ("W-000027", "M\u00dcLLER,J\u00dcRGEN", ""),
    ("W-000028", "Lopez, Omar Luis", ""),
]
ROWS = [{"worker_id": worker_id, "name": name, "phone": phone} for worker_id, name, phone in CROWD]


@pytest.fixture(scope="module", params=["file", "postgres"])
async def crowd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EmailValidator]:
    """Yield the gate on a roster of names that are hard to find, or are words, in a file and in a table."""
    if request.param == "file":
        path = write_csv(tmp_path_factory.mktemp("crowd") / "workers.csv", ROWS)
        async with FileRoster(RosterTable(path=path), near_ms=0).open() as files:
            yield EmailValidator(Tools(files, LIMITS))
        return
    if not POSTGRES:
        pytest.skip("LAKEHOUSE_TEST_POSTGRES is not set")
    async with await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True) as connection:
        await connection.execute("DROP TABLE IF EXISTS email_crowd")
        await connection.execute("CREATE TABLE email_crowd (worker_id text, name text, phone text)")
        for row in ROWS:
            await connection.execute("INSERT INTO email_crowd VALUES (%s, %s, %s)", tuple(row.values()))
        table = RosterTable(backend="postgres", postgres={"conninfo": POSTGRES, "table": "email_crowd"})  # type: ignore[arg-type]
        async with PostgresRoster(table, POSTGRES, near_ms=0).open() as database:
            yield EmailValidator(Tools(database, LIMITS))
        await connection.execute("DROP TABLE email_crowd")


async def _crowd_codes(crowd: EmailValidator, body: str) -> list[str]:
    return await _codes(
        crowd,
        {"to_worker_id": "W-000001", "subject": "s", "body": body},
        worker_ids=["W-000001", "W-000002"],
        **OFFICE,
    )


@pytest.mark.parametrize(
    "body",
    [
        "Robert Brown's shift", "Robert Brown\u2019s shift", "ROBERT BROWN'S shift", "Brown, Robert",
        "Brown, Robert Q.", "Robert\nBrown", "Robert\r\nBrown", "> Robert\n> Brown", "Brown Robert",
        "<b>Robert</b> Brown", "<p>Robert<br/>Brown</p>", "Ro<i>be</i>rt Brown", "**Robert** Brown",
        "Ro**bert** Brown", "[Robert](a.b) Brown", "Robert&nbsp;Brown", "R&#111;bert Brown", "&amp;#82;obert Brown",
        "Ro\u200bbert Br\u00adown", "R\u034fobert Brown", "Robert\u00a0Brown", "Robert_Brown", "Rob-\nert Brown",
        "Robert%20Brown", "R\u043ebert Brown", "<Robert Brown>", "robert.brown@example.com",
        "robertbrown@example.com", "RobertBrown", "Robert J. Brown", 'Robert "Bob" Brown', "Robert (Bob) Brown",
        "Robert Brown, Jr.", "Robert Brown Jr", "Mary B. Jones", "Mary B Jones", "MARY B. JONES\u2019S",
        "O'Neil has keys", "O\u2019Neil has keys", "O\u02bcNeil\u2019s keys", "William (Bill) Smith",
        'William "Bill" Smith', "Juan Carlos de la Cruz Martinez", "juan carlos de la cruz martinez", "Madonna comes",
        "\u8bf7\u674e\u5a1c\u6765",
        "\u0905\u0928\u093f\u0924\u093e \u0936\u0930\u094d\u092e\u093e \u0915\u0947 \u0938\u093e\u0925",
        "\u0e04\u0e38\u0e13\u0e2a\u0e21\u0e0a\u0e32\u0e22 \u0e43\u0e08\u0e14\u0e35\u0e21\u0e32", "LUKASZ ZAK",
        "April Jackson", "Jackson, April will come", "May has the keys", "Silva Omar", "worker 2026", "ID 43604",
        "ask 43604", "badge #1200", "W\u2011000003", "W-000003's", "wait for W-000003.",
        "Robert Browns shift", "Robert Browns\u2019 shift", "Robert<script>x()</script> Brown", "Robert%2520Brown",
        "\u202enworB treboR\u202c has keys", "PICARD Jean-Luc", "Picard, Jean-Luc",
        "Maria Jos\u00e9 da Silva Santos Pereira Costa",
        "\uae40\ucca0\uc218\ub2d8", "\uae40\ucca0\uc218\uc640 \ud568\uaed8",
        "\uae40\ucca0\uc218\uc528\uc5d0\uac8c", "Hope has the keys",
        "W000003", "W 000003", "W-\n000003", "Robert\\nBrown", "Robert=20Brown", "Robert=\nBrown", "=C5=81ukasz Zak",
        "write to brown.robert@example.com", "brown_robert7@example.com", "robert.brown12@example.com",
        "Brown-Robert@example.com", "BEGIN:VCARD\nN:Brown;Robert;;;", "N;CHARSET=UTF-8:Brown;Robert",
        "W_000003", "W/000003", "w: W.000003,", "o'neil@example.com", "write to <madonna@example.com>",
    ],
)  # fmt: skip
async def test_no_way_to_write_a_name_or_an_id_hides_anybody(crowd: EmailValidator, body: str) -> None:
    assert await _crowd_codes(crowd, body) == ["FOREIGN_WORKER"]


@pytest.mark.parametrize(
    "body",
    [
        "Maria Elena Garcia's shift", "MARIA ELENA GARCIA", "Garcia, Maria Elena", "Garcia Maria Elena",
        "Maria Elena\nGarcia", "Ana De La Cruz", "De La Cruz, Ana", "ana de la cruz comes", "Adam Kowalski Jr.",
        "Adam Kowalski, Jr.", "Kowalski Jr., Adam", "Van An Nguyen Jr", "Nguyen, Van An, Jr.", "Marc Dubois MD",
        "Marc Dubois, MD", "Dubois, Marc, MD", "Henry Ruiz III", "Ruiz, Henry III", "J\u00fcrgen M\u00fcller",
        "Jurgen Muller", "M\u00fcller, J\u00fcrgen", "maria.elena.garcia@example.com", "Lopez, Omar Luis",
        "Omar Luis Lopez",
    ],
)  # fmt: skip
async def test_whom_the_roster_has_by_the_family_is_found_as_people_write_the_name(
    crowd: EmailValidator, body: str
) -> None:
    assert await _crowd_codes(crowd, body) == ["FOREIGN_WORKER"]


async def test_who_is_of_the_fill_may_be_named_in_either_order(crowd: EmailValidator) -> None:
    for body in ("Maria Elena Garcia", "Garcia, Maria Elena", "Hello Maria Elena Garcia,\nsee you there"):
        message = {"to_worker_id": "W-000021", "subject": "s", "body": body}
        assert await _codes(crowd, message, worker_ids=["W-000021"]) == []


@pytest.mark.parametrize(
    ("name", "as_said"),
    [
        ("Brown, Robert", "Robert Brown"),
        ("Brown,Robert", "Robert Brown"),
        ("Garcia Lopez, Maria Elena", "Maria Elena Garcia Lopez"),
        ("Brown Jr., Robert", "Robert Brown Jr."),
        ("Brown, Jr., Robert", "Robert Brown, Jr."),
        ("Brown, Robert, Jr.", "Robert Brown, Jr."),
        ("Robert Brown, Jr.", "Robert Brown, Jr."),
        ("Robert Brown, MD", "Robert Brown, MD"),
        ("Robert Brown, Ph.D.", "Robert Brown, Ph.D."),
        ("Brown, Vi", "Vi Brown"),
        ("Robert Brown,", "Robert Brown,"),
        (", Robert", ", Robert"),
        ("Robert Brown", "Robert Brown"),
        ("A, B, C", "A, B, C"),
    ],
)
def test_a_name_by_the_family_is_said_the_other_way_round(name: str, as_said: str) -> None:
    assert said(name) == as_said


@pytest.mark.parametrize(
    "body",
    [
        "call 419.555.0199", "call 4195.550.199", "call 419.5550.199 2026", "20199999", "call 419-555-0199th",
        "call 419\u00b7555\u00b70199", "call 419,555,0199", "call 419<b>555</b>0199", "call 419&#8211;555&#8211;0199",
        "call +1 (419) 555-0199", "call 567-555-0107", "call 1-567-555-0107 ext. 12",
        "call \uff14\uff11\uff195550199", "tel:+14195550199", "SSN 123-45-6789", "account 123456789012",
        "Dec 2026 0700 555 0199", "call 41.95-55.01 99", "call 1-41.95-55.01-99", "A419.55-2019-555",
        "41955501-9900-1234-5678-123456789012", "+41.95-55.01",
        "order 4195550199", "PO 419-555-0199", "order no. 555 0199", "badge 1234567", "ref 4195550199",
        "job 4195550199x12", "job 419-555-0199-12", "ref CELL-419-5550199", "ref CELL-555-0199", "TEL-4195550199",
        "PO A1-4195550199", "shift lead 419-555-0199", "shift 1-419-555-0199", "https://wa.me/14195550199",
        "https://example.com/sms/4195550199", "order 419 555 0199", "lot 419/555/0199", "EN 555-2020",
        "v419.555.0199", "OH 41955 50199",
        "order 419-555\u00b70199", "order 4195550\u00b7199", "ref 419-555 . 0199", "order A419-555\u00b70199",
    ],
)  # fmt: skip
async def test_no_way_to_write_a_number_hides_it(crowd: EmailValidator, body: str) -> None:
    assert set(await _crowd_codes(crowd, body)) == {"FOREIGN_NUMBER"}


@pytest.mark.parametrize(
    "body",
    [
        "Ana Silva\nOmar has the keys", "Ana Silva, Omar Reyes and Mia Nobody", "Ana Silva\nOmar Reyes", "Silva, Ana",
        "Hello Ana,\nJackson plant is open", "Robert alone", "Brown bags", "madonna", "you may come",
        "May we ask? Will you?", "on May 5", "in May", "5 May 2026", "in Jackson, April 5 at 7", "in Jackson, MI",
        "0700-1500", "0700 \u2013 1500", "05-12-2026", "12/05/2026-12/07/2026", "2026-12-05T07:00:00-05:00",
        "20261205T070000Z", "7.30 - 15.30", "2026-2027", "week 2026-W49", "in 2026", "December 5, 2026",
        "1200 Main St, Toledo, OH 43604", "43604-1234", "room 1200", "1200 pallets", "$1,200.00",
        "GPS 41.652800, -83.537900", "maps?q=41.652800,-83.537900", "419-555-0107 ext. 12", "(419) 555-0107 x1234",
        "555-0107", "1.419.555.0107", "on 5, 6, 7, 8, 9, 10 and 11 December", "Pat Officer, 419-555-0001", "W-000002",
        "Hope you are well. Hope this helps", "the Browns", "OSHA 1910.178", "12345 67th Avenue", "20261205",
        "id=20261205",
        "05122026", "5. 12. 2026", "41\u00b039'10.1\"N 83\u00b032'16.4\"W", "A123456", "A 123456", "W000001, W 000002",
        "05 DEC 2026 0700", "Dec 5, 2026 at 0700 sharp", "December 2026 0700-1500", "18.50-21.75 an hour",
        "9.75 \u2013 12.50", "glasses by ANSI Z87.1-2020", "ref 550e8400-e29b-41d4-a716-446655440000",
        "order 1234567", "PO #4500012345", "P.O. 4500012345", "Invoice No. 12345678", "job number: 0012345678",
        "Shift ID 20261205-07", "Job 2026-1205-17", "serial 8FGCU25-1234567", "Ref: RFQ-2026-00123456",
        "http://example.com/shifts/2026/12/05/1234567", "Invoice 2026/000123", "Lot 44-1200-77", "TOL-2026-1205-0017",
        "ANSI/ISEA 107-2020 vest", "ISO 9001:2015", "order number is 1234567", "INV0012345", "PO4500012345",
        "Name: Silva\nN:Silva;Ana;;;", "WO-1234567", "ref ABC-1234567",
        "trailer 5312345, bring gloves", "silva.ana@example.com", "a=b&c=d",
        "OSHA-10, I-75, Gate A-12", "W_000002", "not.madonna@example.com", "@madonna",
    ],
)  # fmt: skip
async def test_what_every_message_may_say_is_not_taken_for_somebody(crowd: EmailValidator, body: str) -> None:
    assert await _crowd_codes(crowd, body) == []


async def test_the_offices_own_contact_is_foreign_where_the_spec_does_not_allow_it(crowd: EmailValidator) -> None:
    message = {"to_worker_id": "W-000001", "subject": "s", "body": "Robert Brown, 419-555-0001"}
    assert await _codes(crowd, message, worker_ids=["W-000001"]) == ["FOREIGN_WORKER", "FOREIGN_NUMBER"]
    allowed = {"allowed_names": ["robert brown"], "allowed_numbers": ["+1 419 555 0001"]}
    assert await _codes(crowd, message, worker_ids=["W-000001"], **allowed) == []


async def test_a_number_is_read_as_one_of_the_region(tmp_path: Path) -> None:
    rows = [{"worker_id": "A-1", "name": "Ana Silva", "phone": "+49 30 1234567"}]
    async with FileRoster(RosterTable(path=write_csv(tmp_path / "w.csv", rows)), near_ms=0).open() as roster:
        for region, codes in (("DE", []), ("US", ["FOREIGN_NUMBER"])):
            gate = EmailValidator(Tools(roster, LIMITS, region))
            message = {"to_worker_id": "A-1", "subject": "s", "body": "call 030 / 123 45 67"}
            assert await _codes(gate, message, worker_ids=["A-1"]) == codes


@pytest.mark.parametrize("roster_name", list(message_cases.rosters()))
async def test_labelled_messages_are_told_apart(roster_name: str, tmp_path: Path) -> None:
    rows = message_cases.rosters()[roster_name]
    draw = random.Random(15)
    rejected: list[str] = []
    async with FileRoster(RosterTable(path=write_csv(tmp_path / "w.csv", rows)), near_ms=0).open() as roster:
        gate = EmailValidator(Tools(roster, LIMITS))
        innocent = 0
        for _ in range(120):
            case = message_cases.case(draw, rows)
            spec: dict[str, Any] = {
                "allowed_names": message_cases.ALLOWED_NAMES,
                "allowed_numbers": message_cases.ALLOWED_NUMBERS,
            }
            findings, _ = await judge(gate, case.artifact, kind="email", worker_ids=case.worker_ids, **spec)
            assert findings.any or not case.is_bad, (case.form, case.artifact)
            innocent += not case.is_bad
            if findings.any and not case.is_bad:
                rejected.append(f"{case.artifact} {findings.kept}")
    assert 40 < innocent < 80
    assert len(rejected) * 100 <= innocent, rejected


@pytest.mark.skipif(not POSTGRES, reason="LAKEHOUSE_TEST_POSTGRES is not set")
async def test_a_table_computes_the_key_that_it_is_asked_for() -> None:
    names = [row["name"] for row in message_cases.adversarial_rows("letters")]
    names += [
        "\u1e9eara Stra\u00df",
        "\u00c6sir \u00d8 \u00d0or \u00de\u00f3r",
        "\u0418\u0412\u0410\u041d \u041b\u0438",
        "\uae40 \ucca0\uc218",
        "\u963f\u00b7\u91cc",
        *(name for _, name, _ in CROWD),
        *(
            "Brown,Robert",
            "Brown, Jr., Robert",
            "Robert Brown, Ph.D.",
            "Robert Brown,",
            ", Robert",
            "A, B, C",
            ",,",
            ",",
        ),
        *("Brown, jr", "Brown, JR., Bob", "\u674e, \u5a1c", "\u00d8st, \u00c5sa \u00dejr", "O'Neil,  Sean , iii "),
    ]
    async with await psycopg.AsyncConnection.connect(POSTGRES, autocommit=True) as connection:
        for collation in ('"C"', '"default"'):
            expression = table_key_sql(f"(n COLLATE {collation})").replace("%", "%%")
            for name in names:
                cursor = await connection.execute(f"SELECT {expression} FROM (SELECT %s::text AS n) t", (name,))
                row = await cursor.fetchone()
                assert row == (table_key(full_name_key(name)),), (name, collation)
