"""Messages as a staffing desk sends them: the good ones pass, and whoever else is named in a bad one is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rosters import judge, write_csv

from validated.config import LimitsTable, RosterTable
from validated.datasets.file import FileRoster
from validated.kinds.email import EmailValidator
from validated.kinds.validator import Tools

ROSTER = [
    ("W-000001", "Ana Silva", "+1-419-555-0107"), ("W-000002", "Omar Reyes", ""),
    ("W-000003", "Robert Brown", "+1-419-555-0199"), ("W-000004", "Mary B. Jones", ""), ("W-000005", "O'Neil", ""),
    ("W-000006", "Robert Brown Jr.", ""), ("W-000007", "William (Bill) Smith", ""),
    ("W-000008", "Juan Carlos de la Cruz Martinez", ""), ("W-000009", "Madonna", ""), ("W-000010", "April Jackson", ""),
    ("W-000011", "May", ""), ("W-000012", "Silva Omar", ""), ("W-000013", "\u0141ukasz \u017bak", ""),
    ("W-000014", "\uae40\ucca0\uc218", ""), ("W-000015", "Jean-Luc Picard", ""), ("W-000016", "Hope", ""),
    ("W-000101", "Anna-Lena Vogel", "+49 30 9012345"), ("W-000102", "Sean O'Brien", "+1-313-555-0188"),
    ("W-000103", "Jos\u00e9 Mar\u00eda N\u00fa\u00f1ez P\u00e9rez", "+1-313-555-0177"),
    ("W-000104", "Nguy\u1ec5n V\u0103n An", "+1-313-555-0166"), ("W-000105", "Mohammed Al-Rashid", ""),
    ("W-000106", "Grace Park", ""), ("W-000107", "Chase Banks", ""), ("W-000108", "Will Power", ""),
    ("W-000109", "Dr. Emily Stone", ""), ("W-000110", "Summer Fields", ""),
    ("W-000111", "\u0418\u0432\u0430\u043d \u041f\u0435\u0442\u0440\u043e\u0432", ""),
    ("W-000112", "\u0645\u062d\u0645\u062f \u0639\u0644\u064a", ""),
    ("W-000113", "\u7530\u4e2d \u592a\u90ce", ""), ("W-000114", "Zo\u00eb Kravitz", ""),
    ("W-000201", "Robert Silva", ""), ("W-000202", "J\u00fcrgen M\u00fcller", ""),
    ("W-000203", "Bj\u00f6rn \u00c5kesson", ""), ("W-000204", "John Smith", ""),
    ("W-000205", "\u015e\u00fckr\u00fc Y\u0131lmaz", ""),
]  # fmt: skip
SPEC: dict[str, Any] = {
    "worker_ids": ["W-000001"],
    "allowed_names": ["Pat Officer"],
    "allowed_numbers": ["(419) 555-0001"],
}


@pytest.fixture(scope="module")
async def email(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmailValidator]:
    """Yield the gate on the roster above; the message is to Ana Silva, the first one."""
    folder: Path = tmp_path_factory.mktemp("field")
    rows = [{"worker_id": worker_id, "name": name, "phone": phone} for worker_id, name, phone in ROSTER]
    table = RosterTable(path=write_csv(folder / "workers.csv", rows))
    async with FileRoster(table, near_ms=0).open() as roster:
        yield EmailValidator(Tools(roster, LimitsTable(), "US"))


async def _codes(email: EmailValidator, body: str) -> set[str]:
    message = {"to_worker_id": "W-000001", "subject": "Shift", "body": body}
    findings, _ = await judge(email, message, kind="email", **SPEC)
    return {finding.code for finding in findings.kept}


@pytest.mark.parametrize(
    "body",
    [
        "Hi Ana, your shift starts at 6:00 AM on Saturday, December 5 at 1200 Main St, Toledo, OH 43604.",
        "Please park in Lot B, enter by Gate 12, and bring steel-toe boots.",
        "Pay is $18.50/hr, overtime $27.75/hr after 40 hours.", "Clock in by 05:45; your badge opens door #4.",
        "Reply YES to confirm or NO to decline. Shift ID 20261205-07.",
        "Your order confirmation number is 8841234567.", "PO# 4501234567 / Job 2026-1205-17",
        "Directions: https://maps.example.com/?q=41.6528,-83.5379&z=15", "Report to Building 7, Bay 14, 3rd floor.",
        "Shift: 12/5/2026 06:00 - 14:00 (8h). Break 10:00-10:30.",
        "You can reach the office at (419) 555-0001, Pat Officer.",
        "Call me at 419-555-0107? We have 4195550107 on file for you.", "Ana Silva (W-000001)", "Dear Ms. Silva,",
        "Hola Ana, \xbfpuedes trabajar el s\xe1bado 5 de diciembre de 2026 a las 06:00?",
        "Hallo Ana, Schicht am 05.12.2026 von 6.00 bis 14.30 Uhr.", "SILVA, ANA", "Ana S., see you Saturday",
        "A. Silva", "ana silva", "Thanks, Pat Officer | Staffing Desk | 419.555.0001",
        "Temperature in the freezer is -20 F; load max 2,500 lbs.",
        "Truck 5312345 and trailer 9087654 are assigned to you.", "Interstate exit 208, then 2.4 miles on US-24.",
        "PPE per OSHA 29 CFR 1910.132; ANSI/ISEA 107-2020 vest.", "Forklift model 8FGCU25, serial 8FGCU25-1234567.",
        "UTC time 2026-12-05T11:00:00Z", "Weeks 49-50, 2026.", "Zip 43604-1234; lat 41.65, lon -83.54",
        "Wi-Fi password: 7f3a9b21; locker 0042", "Your code is 482913.",
        "We will pay by Friday 12/11. W-2 forms come in January.", "The will-call window opens at 5.",
        "Summer hours apply. Grace period: 7 minutes.", "Bank of America building, Chase Tower.",
        "Power will be off from 2 to 3.", "See you on May 5th or in April.", "Ref: RFQ-2026-00123456",
        "Version 2.13.4 of the app, build 20261101", "100 pallets, 2500 cartons, 1,250,000 units",
        "From 0600 to 1430 hrs, Sat 05 Dec", "Room 4B, ext. 12", "tel: +1 419 555 0107", "IBAN is not needed.",
        "1-800 numbers are not monitored.", "http://example.com/shifts/2026/12/05/1234567", "Ticket #12345678",
        "Invoice 2026/000123", "Lot 44-1200-77", "Dock 7-9, aisles 10-12", "Case of 24, 12 x 500 ml",
        "Temps 65-70F; humidity 40-45%", "It pays $150.00-$175.00 per day", "+1.50 an hour at night",
        "CO2 alarm test 10:15", "9 to 5, 10 to 6, 11 to 7", "Route I-280 / OH-51",
        "Exit 5A, 3.2 mi, 41\xb039'10.1\"N", "Employee handbook p. 12-15, section 3.4.1",
        "Subject line: URGENT - forklift shift tomorrow!",
        "Hi Ana! Can you work Sat 12/5 6a-2:30p @ Jackson plant? $18.50/hr. Reply Y/N",
        "Start: 2026-12-05 06:00, End: 2026-12-05 14:30 (EST, UTC-05:00)",
        "The site supervisor will meet you at the guard shack.",
        "Your direct deposit of $1,234.56 posts on 12/11/2026.", "Bring two forms of ID (I-9 list B and C).",
        "Mask: N95; gloves: A4/A5 cut level; glasses: Z87+.",
        "Dial 911 in an emergency, 811 before digging, 211 for help.",
        "Text STOP to 12345 to opt out; msg&data rates may apply.",
        "Ana Silva, 123 Elm St Apt 4B, Toledo OH 43604-1234, +1 (419) 555-0107",
        "If you are late call the office: 419-555-0001.", "Toll free: not available.",
        "Load 48000 lbs, 26 pallets x 40 cases, PO 77-1234-889",
        "Flight DL1234, seat 14C. Hotel confirmation 83ZK42Q9", "VIN 1HGCM82633A004352", "License plate ABC 1234",
        "ISBN 978-3-16-148410-0", "Container MSKU1234567, seal 0098123", "UPS tracking 1Z999AA10123456784",
        "Barcode 012345678905", "Coordinates: 41.6528\xb0 N, 83.5379\xb0 W", "Elevator code *4821#",
        "Training module 3 of 12, 45 min, score 87.5%", "From Dec. 5th, 2026 through Jan. 15th, 2027",
        "5-12-26 to 12-12-26", "6.30am-3.00pm, Mon-Fri, 40 hrs/wk", "Q4 2026 bonus: up to 2,000 USD",
        "1st, 2nd and 3rd shift: 0600-1400, 1400-2200, 2200-0600", "Roster v2026.12.05.1",
        "https://us02web.zoom.us/j/81234567890?pwd=abc123",
        "https://docs.example.com/d/1A2b3C4d5E6f7G8h9I0j/edit#gid=1234567890",
        "mailto:desk@example.com?subject=Shift%2020261205", "file shift_2026-12-05_0600.pdf",
        "Model 777-200, part no. 65-12345-3", "Timesheet week ending 20261206", "IP 192.168.100.200, port 8443",
        "SHA 9f86d081884c7d659a2feaa0c55ad015", "Hours: 8.00 8.00 8.00 8.00 8.00 = 40.00",
        "Sq ft: 1,200,000; cu ft 35,000,000", "Budget 2026/27; FY2026-2027", "Size 10-12, length 34-36, waist 32-34",
        "Odds 1:1000000", "It is 1,000,000 to 1", "1 000 000 widgets", "Population 270,871",
        "0.0000001 mm tolerance; 12.7000 mm", "3.14159265", "Scale 1:250000", "Lat/Long 41.6528,-83.5379",
        "Shift 2 (14:00-22:30), Line 4, Cell 12", "Cell 4-12, rack 03-14-22-01", "Bin 12-03-0045-07",
        "Ana Silva / Omar from the desk", "Ana Silva | Omar", "Silva, Ana / shift 2",
        "Ana Silva \u2013 Robert will not come", "Hi Ana - Robert's truck", "Thanks; Brown bags are there",
        "Ana's Brown bag", "Ana Silva\tToledo\t0700", "| Ana Silva | Toledo |", "Silva | Ana",
        "First name: Ana\nLast name: Silva", "Ana Silvas Schicht", "Ana Silva'll come", "Ana;Silva", "11/30-12/06",
        "12/05 - 12/09", "12/12 & 12/13", "05.12.-09.12.", "11/30 12/01 12/02", "Pay period 11/22-12/05",
        "12/05 0700 - 12/05 1500", "12/05 0700 to 12/06 0700", "12/05\t0700\t1500", "<td>0700</td><td>1500</td>",
        "0700 1500", "0700\n1500", "Toledo, OH 43604\n1200 Main St", "18.50 / 27.75", "18.50/27.75/37.00",
        "8.00\t18.50\t148.00", "8 hrs x 18.50 = 148.00", "Hours: 8.00 8.25 8.50 7.75", "100% 50% 25% 10%",
        "Dock doors 101 102 103", "Rooms 1201-1299", "Weeks 48/49/50/51", "Panama 2-2-3-2-2-3-2",
        "zoom.us/j/98765432101", "acme.com/?id=1234567", "192.168.100.200", "Job No. 26-12345", "INV-2026-00123",
        "Requisition 100234-1", "N41 39.168 W083 32.274", "https://docs.example.com/d/1A2b/edit#gid=1234567890",
        "Sat 12/05 0600-1430, Sun 12/06 0600-1430", "05/12/2026 06:00 - 05/12/2026 14:30",
        "2026-12-05 0700 2026-12-06 0700", "December 5 0700-1500 and December 6 0700-1500",
        "Hours 8.00 8.00 8.00 8.00 8.00 = 40.00", "12.05.2026 12.06.2026 12.07.2026", "05-12-2026 06-12-2026",
    ],
)  # fmt: skip
async def test_an_ordinary_message_passes(email: EmailValidator, body: str) -> None:
    assert await _codes(email, body) == set()


@pytest.mark.parametrize(
    "body",
    [
        "Sean O'Brien has the keys", "Sean O\u2019Brien's truck", "Sean OBrien will come", "O'Brien, Sean",
        "SEAN O'BRIEN", "sean.obrien@example.com", "Sean.OBrien12@x.com", "s. Sean\tO'Brien",
        "Jose Maria Nunez Perez", "Jos\xe9 Mar\xeda N\xfa\xf1ez P\xe9rez", "Jose Mar\xeda Nunez-Perez",
        "Nguyen Van An comes", "Nguy\u1ec5n V\u0103n An", "NGUY\u1ec4N V\u0102N AN", "An, Nguy\u1ec5n V\u0103n",
        "Mohammed Al Rashid", "Mohammed Al-Rashid", "mohammed al-rashid", "Grace Park will drive", "Park, Grace",
        "GRACE PARK", "Chase Banks has the code", "Ask Will Power", "Dr. Emily Stone", "Dr Emily Stone",
        "DR. EMILY STONE", "Summer Fields leads",
        "\u0418\u0432\u0430\u043d \u041f\u0435\u0442\u0440\u043e\u0432 \u043f\u0440\u0438\u0434\u0451\u0442",
        "\u0418\u0412\u0410\u041d \u041f\u0415\u0422\u0420\u041e\u0412",
        "\u041f\u0435\u0442\u0440\u043e\u0432, \u0418\u0432\u0430\u043d",
        "\u0645\u062d\u0645\u062f \u0639\u0644\u064a \u0633\u064a\u0623\u062a\u064a",
        "\u7530\u4e2d \u592a\u90ce\u3055\u3093", "\u7530\u4e2d\u592a\u90ce", "Zoe Kravitz", "Zo\xeb Kravitz's",
        "ZO\xcb KRAVITZ", "Anna-Lena Vogel", "Anna Lena Vogel", "Vogel, Anna-Lena", "Anna\u2011Lena Vogel",
        "Robert&nbsp;Brown", "<td>Robert</td><td>Brown</td>", "Robert **Brown**", "_Robert_ _Brown_",
        "[Robert Brown](mailto:x@y.z)", "<a href=\"mailto:robert.brown@x.com\">him</a>", "> Robert Brown wrote:",
        "On Mon, Robert Brown <rb@x.com> wrote:", "FN:Robert Brown", "N:Brown;Robert;;;", "CN=Robert Brown,OU=x",
        "\"Brown, Robert\" <rb@x.com>", "cc: Robert Brown; Ana Silva", "Robert  Brown", "Robert.Brown",
        "Robert-Brown", "Robert_Brown", "RobertBrown", "@robertbrown", "#RobertBrown", "robert brown",
        "Robert Brown,", "(Robert Brown)", "Robert/Brown", "| Robert | Brown |", "Mr. Brown, Robert",
        "Se\xf1or Robert Brown", "Brown Robert", "Robert Brown\u2019s", "Robert Browns'",
        "1. Robert Brown 2. Ana Silva", "Robert\r\nBrown", "R o b e r t  B r o w n", "Robert B. Brown",
        "Chef Robert Brown", "worker:W-000003", "W-000003", "W\u2013000003", "W000003", "id=W-000003&x=1",
        "W-000003@example.com", "\uff37\uff37 W-000003", "\uff37\uff0d\uff10\uff10\uff10\uff10\uff10\uff13",
        "Robert \xadBrown", "Robert\u2060 Brown", "Robert, Brown",
        "Please coordinate with Sean O'Brien\\, who has the keys", "Sean O&#39;Brien", "Sean O&rsquo;Brien",
        "Sean O%27Brien", "Sean O\u02bcBrien", "Sean O Brien", "Sean O-Brien", "Sean\xa0O'Brien", "Robert\tBrown",
        "ROBERT BROWN JR", "Robert Brown, Jr.", "R. Brown and Robert Brown", "Bob (Robert Brown)", "Robert Brown(W)",
        "\"Robert\" \"Brown\"", "Robert 'Bobby' Brown", "<span>Rob</span><span>ert</span> Brown",
        "Rob<b></b>ert Brown", "Robert<br>Brown", "Robert<!-- x -->Brown", "&lt;b&gt;Robert&lt;/b&gt; Brown",
        "\uff32\uff4f\uff42\uff45\uff52\uff54 \uff22\uff52\uff4f\uff57\uff4e",
        "\U0001d411\U0001d428\U0001d41b\U0001d41e\U0001d42b\U0001d42d Brown",
        "R\u043ebert Br\u043ewn", "Robert Brown?", "Robert Brown:", "\u2014Robert Brown\u2014", "Robert Brown's",
        "Robert\xb7Brown", "Robert\u2022Brown", "Robert\u2013Brown", "Robert_Brown.pdf", "/users/robert-brown/",
        "https://x.com/robert.brown", "https://linkedin.com/in/robert-brown-123", "robert+brown@x.com",
        "robertbrown@x.com", "robert.brown(at)x.com", "cc robert.brown", "Brown/Robert", "BROWN, R. ROBERT",
        "Mr Robert Brown", "Robert M. Brown", "Robert Brown-Smith", "Grace  Park", "Grace\nPark", "grace park",
        "Grace Park's", "G R A C E  P A R K", "Madonna will come", "Ask Madonna", "Hope will drive you",
        "April Jackson", "Mary B Jones", "Mary B. Jones", "Juan Carlos de la Cruz Martinez",
        "Juan Carlos De La Cruz-Martinez", "Martinez, Juan Carlos de la Cruz", "William \"Bill\" Smith",
        "Smith, William (Bill)", "\u0141ukasz \u017bak", "Lukasz Zak", "\uae40\ucca0\uc218",
        "\uae40\ucca0\uc218\uc528", "Jean Luc Picard", "Jean\u2010Luc Picard", "PICARD, Jean-Luc",
        "{\"name\":\"Robert Brown\"}", "name: Robert\nsurname: Brown", "1) Brown, Robert 2) Silva, Ana",
        "Silva, Ana\nSilva, Robert", "- Silva, Ana\n- Silva, Robert", "1. Silva, Ana\n2. Silva, Robert",
        "Silva, Ana | Silva, Robert", "Silva, Ana / Silva, Robert", "Silva, Ana\n\nSilva, Robert",
        "Robert Brown'll call you", "Robert Brown\u2019d like", "Robert Brown've",
        "\u015e\xfckr\xfc Y\u0131lmaz'\u0131n", "John Smith'a", "<td>Robert</td>\n                <td>Brown</td>",
        "| Robert                 | Brown            |", "Robert                     Brown           0700",
        "<p>Robert\n                    Brown</p>", "| Last | First |\n|---|---|\n| Brown | Robert |",
        "<tr><td>Brown</td><td>Robert</td>", "Brown / Robert", "Brown \u2013 Robert", "Robert;Brown",
        "First name: Robert\nLast name: Brown", "Last name: Brown, first name: Robert", "first=Robert&last=Brown",
        "J\xfcrgen M\xfcllers Schicht", "Bj\xf6rn \xc5kessons", "John Smith\xb2", "John Smith1", "Brown\tRobert",
        "\"Robert\";\"Brown\"",
    ],
)  # fmt: skip
async def test_another_worker_is_found_however_he_is_named(email: EmailValidator, body: str) -> None:
    assert "FOREIGN_WORKER" in await _codes(email, body)


@pytest.mark.parametrize(
    "body",
    [
        "419-555-0199", "(419)555-0199", "419 555 0199", "+1 419 555 0199", "001 419 555 0199", "tel:+1-419-555-0199",
        "https://wa.me/14195550199", "sms:4195550199", "419.555.0199 x12", "four one nine 555 0199", "555-0199",
        "5550199", "4 1 9 5 5 5 0 1 9 9", "419/555/0199", "419\u2013555\u20130199", "419 - 555 - 0199",
        "(419)\n555-0199", "419-555-\n0199", "\uff14\uff11\uff19\uff15\uff15\uff15\uff10\uff11\uff19\uff19",
        "419_555_0199", "419*555*0199", "4195550199@txt.att.net", "Tel. +49 30 9012345", "030/9012345",
        "+4930 901 23 45", "call 1.313.555.0188 now", "313.555.0177 or 419-555-0107",
        "\u0664\u0661\u0669\u0665\u0665\u0665\u0660\u0661\u0669\u0669", "job 419-555-0199", "invoice (419) 555-0199",
        "+55 11 98765-4321", "(11) 98765-4321", "06 12 20 26 45", "06.12.20.26.45", "+33 6 01 02 03 04",
        "+33 (0)6 12 20 26 45", "+34 612 12 10 20", "+48 600 12 10 20", "+32 470 12 10 20", "+55 11 2345-1200",
        "+852 2345-1200", "+49 151 12052026", "419 dash 555 dash 0199", "419 dot 555 dot 0199", "567 555 0107",
        "call 419.55.50.199", "4195 12 05 2026", "419 555 12/05 0199", "555-1200-1500-0199",
    ],
)  # fmt: skip
async def test_a_number_is_found_however_it_is_written(email: EmailValidator, body: str) -> None:
    assert "FOREIGN_NUMBER" in await _codes(email, body)
