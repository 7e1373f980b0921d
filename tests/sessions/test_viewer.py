"""The pages of `lakehouse sessions serve`: what they show, to whom, and that nothing of a row does anything there.

Method: the real server on a free port, asked over HTTP; no browser (tests/sessions/test_viewer_browser.py has one).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from session_rows import FULL, HOSTILE_LINES, PHANTOM, UNREACHABLE, attempt, record, write_log, write_segment
from viewer_server import Answer, Site, running_site

from lakehouse.sessions.query.listing import Place
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.query.stats import Period
from lakehouse.sessions.query.viewer import live as live_tail
from lakehouse.sessions.query.viewer.rendering import PAGE_CHARS_MAX
from lakehouse.sessions.query.viewer.source import Figures, FoundRows, Listing, NewRows, QuestionTooLongError
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.upkeep.compaction import compact

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>"
BIDI = "pay \u202eknab\u202c \u2066x\u2069 zero\u200bwidth \U000e0041\U000e0042 \x1b[2J\x00 \u0085"
HOSTILE = f"{SCRIPT} {BIDI}"
LONG = "A" * 10 * 1024 * 1024
CORRECTED = [
    attempt(
        1,
        verdict="rejected",
        raw='```json\n{"city":"Toledo","workers":[{"id":"W-9","name":"Nobody"},{"id":"W-2"}],"note":"x"}\n```',
        findings=(
            replace(PHANTOM, path="/workers/0/id", suggestions=('{"id":"W-1"}',)),
            replace(PHANTOM, code="ELSEWHERE", path="/workers/7/id", message="no seventh"),
            replace(PHANTOM, code="WHOLE", path="", message="all of it"),
        ),
        cost_nano_usd=1_500_000,
    ),
    attempt(2, raw='{"workers":[{"id":"W-1","name":"Ann"},{"id":"W-2"}],"city":"Toledo","day":"Sat"}', cost_nano_usd=1),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Fifty plain sessions in the live file, rotated ones and Parquet, and some that are out of the ordinary."""
    folder = tmp_path_factory.mktemp("pages")
    live = write_log(folder)
    list(compact(live))
    odd = [
        record(100, session_id="corrected", attempts=tuple(CORRECTED), artifact=json.dumps(
            {"city": "Toledo", "day": "Sat", "workers": [{"id": "W-1", "name": "Ann"}, {"id": "W-2"}]},
            separators=(",", ":")), trace_id="ab" * 16),
        record(101, session_id=HOSTILE, kind=HOSTILE, model=HOSTILE, provider=HOSTILE, prompt=HOSTILE, caller=HOSTILE,
               trace_id=HOSTILE, caller_trace=HOSTILE, daemon=HOSTILE,
               spec=json.dumps({HOSTILE: HOSTILE}, ensure_ascii=False, separators=(",", ":")), artifact=None,
               attempts=(attempt(1, verdict="rejected", provider=HOSTILE, model=HOSTILE, raw=json.dumps({"a": HOSTILE}),
                                 roster=HOSTILE, parse_problem=HOSTILE, span_id=HOSTILE, error=UNREACHABLE,
                                 findings=(replace(PHANTOM, code=HOSTILE, path=HOSTILE, message=HOSTILE),)),),
               final_verdict="max_iter_exhausted"),
        record(103, session_id="many", attempts=tuple(attempt(number) for number in range(1, 301))),
        record(104, session_id="a/../b?x=1&n=2#f %", final_verdict="infra_error", error=UNREACHABLE, attempts=()),
        replace(FULL, session_id="tried", try_number=1, timestamp="2026-11-24T09:00:00.000001Z"),
        replace(FULL, session_id="tried", timestamp="2026-11-24T10:00:00.000001Z"),
    ]  # fmt: skip
    with live.open("ab") as file:
        file.write(b"".join(map(encode_row, odd)) + b"".join(HOSTILE_LINES))
    with running_site(live) as running:
        yield running


@pytest.fixture(scope="module")
def long_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    row = record(102, session_id="long", prompt=LONG, attempts=(attempt(1, raw=LONG),))
    with running_site(write_segment(tmp_path_factory.mktemp("long") / "sessions.jsonl", encode_row(row))) as running:
        yield running


def shown(html: str) -> str:
    """Return what a reader sees of the page, about."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


def session_page(site: Site, identifier: str, path: str = "/session", more: str = "") -> Answer:
    return site.get(f"{path}?id={quote(identifier, safe='')}{more}")


def walk(site: Site, query: str = "") -> list[str]:
    ids: list[str] = []
    path: str | None = f"/?{query}"
    while path:
        page = site.get(path)
        assert page.status == 200
        ids += page.ids
        path = page.link("Older")
    return ids


def test_the_list_has_every_session_newest_first_page_by_page(site: Site) -> None:
    ids = walk(site)

    assert ids[0] == "tried"
    assert len(ids) == 56
    assert ids[-3:] == ["session-0002", "session-0001", "session-0000"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("verdict=infra_error&until=2026-11-24T09:30:00Z", ["tried", "a/../b?x=1&n=2#f %"]),
        ("verdict=max_iter_exhausted&kind=fill", []),
        ("kind=fill&model=gpt-x&since=2026-11-24T07:00&text=many", ["many"]),
        (f"trace={'ab' * 16}", ["corrected"]),
        ("trace=order%201", ["tried", "tried"]),
        ("caller=desk", ["tried", "tried"]),
        ("text=w-9%20is%20not&until=2026-11-20T01:00:00Z", ["session-0000"]),
        ("text=nobody", ["corrected"]),
        ("kind=%27%20OR%20true%20--", []),
        ("text=%27);%20DROP%20VIEW%20facts;%20--", []),
        ("model=%00", []),
        ("since=2026-11-20&until=2026-11-20T02:00:00Z", ["session-0001", "session-0000"]),
    ],
)
def test_filters_find_what_fits_in_the_live_file_and_in_parquet(site: Site, query: str, ids: list[str]) -> None:
    assert walk(site, query) == ids


def test_the_form_keeps_what_was_asked_for_and_pages_keep_it_too(site: Site) -> None:
    typed = quote('To<led>o" onfocus="alert(1)')
    page = site.get(f"/?kind=fill&text={typed}")

    assert 'value="To&lt;led&gt;o&#34; onfocus=&#34;alert(1)"' in page.text
    older = site.get("/?kind=fill").link("Older")
    assert older is not None
    assert older.startswith("/?kind=fill&before=")


@pytest.mark.parametrize(
    ("query", "text"),
    [("since=yesterday", "is no time"), ("verdict=fine", "One of accepted"), (f"kind={'k' * 401}", "At most 400")],
)
def test_a_wrong_filter_is_named_beside_its_field(site: Site, query: str, text: str) -> None:
    for path in ("/", "/stats"):
        page = site.get(f"{path}?{query}")

        assert page.status == 400
        assert text in shown(page.text)
        assert 'aria-invalid="true"' in page.text


def test_a_session_is_shown_with_findings_in_place_and_what_changed(site: Site) -> None:
    page = session_page(site, "corrected")
    text = shown(page.text)

    place = 0
    for part in (
        "Session corrected accepted", "Began 2026-11-24T04:29:59.910Z", "Took 90 ms", "Tokens 200 in, 20 out",
        "0.001500001 USD", "Fill 3 operators in Toledo", '"count": 3',
        "Attempt 1 rejected", "0.0015 USD", "{ WHOLE (whole artifact)", '"workers": [', "ELSEWHERE /workers/7/id not",
        '"id": "W-9",', "PHANTOM_WORKER /workers/0/id", "What would pass", '{"id":"W-1"}', '"name": "Nobody"',
        "Attempt 2 accepted", "Marked: what changed", '"day": "Sat",', '"W-9" "id": "W-1",', '"Nobody" "name": "Ann"',
        '"note": "x"', "No finding.",
    ):  # fmt: skip
        found = text.find(part, place)
        assert found >= 0, (part, text[place : place + 500])
        place = found
    second = page.text[page.text.index('id="attempt-2"') :]
    assert re.findall(r'<div class="line (\w+) d\d+">', second)[:4] == ["added", "changed", "changed", "removed"]
    assert page.link("Trace in Langfuse") == f"https://lf.example/trace/{'ab' * 16}"


def test_a_trace_or_an_id_used_again_shows_the_last_and_links_the_others(site: Site) -> None:
    page = session_page(site, "tried")

    assert "Try 2: the id was used before" in shown(page.text)
    first = site.get(page.link("<bdi>tried, 2026-11-24T09:00:00, try 1</bdi>") or "")
    assert first.status == 200
    assert "the id was used before" not in shown(first.text)
    for text in (
        "Ended early: the token budget",
        "Degraded",
        "Infeasible",
        "TOO_FEW_QUALIFY",
        "at least 3 who qualify",
    ):
        assert text in shown(page.text)


def test_each_try_of_an_id_is_a_line_of_the_list_that_leads_to_it(site: Site) -> None:
    listed = site.get("/?caller=desk")
    rows = re.findall(r"<tr.*?</tr>", listed.text, re.DOTALL)[1:]
    pages = [site.get(unescape(re.findall('href="(.*?)"', row)[0])) for row in rows]

    assert [("try 2" in shown(row), "tried" in row) for row in rows] == [(True, True), (False, True)]
    ended = [re.findall(r"Ended ([^ ]+)", shown(page.text))[0][:13] for page in pages]
    assert ended == ["2026-11-24T10", "2026-11-24T09"]


def test_of_more_tries_than_a_page_links_the_last_are_shown_and_each_has_its_page(tmp_path: Path) -> None:
    failed = record(1, session_id="again", final_verdict="infra_error", error=UNREACHABLE, attempts=())
    tries = [replace(failed, try_number=number) for number in range(1, 26)]
    answered = record(1, session_id="again", try_number=26)
    live = write_segment(tmp_path / "sessions.jsonl", b"".join(map(encode_row, [*tries, answered])))
    with running_site(live) as site:
        listed = site.get("/")
        last, older = session_page(site, "again"), session_page(site, "again", more="&try=3")
        row = session_page(site, "again", "/session.json", "&try=3")
        linked = [site.get(path) for path in re.findall(r'href="(/session\?[^"]*)"', unescape(last.text))]

    assert listed.ids == ["again"] * 26
    assert "Try 26" in shown(last.text)
    assert "6 before these" in shown(last.text)
    assert [re.findall(r"Try (\d+)", shown(page.text)) for page in linked] == [[str(number)] for number in range(7, 27)]
    assert "Try 3" in shown(older.text)
    assert older.link("Download the row \\(JSON\\)") == "/session.json?id=again&try=3"
    assert row.text.encode() == encode_row(tries[2])


DANGEROUS = re.compile(
    "<(?!/?(html|head|meta|title|link|body|a|nav|span|main|h[1-3]|dl|div|dt|dd|bdi|section|pre|p|details|summary|"
    "strong|code|article|ins|del|ul|li|form|label|input|select|option|button|table|caption|thead|tbody|tr|th|td|time|"
    "svg|text|g|rect|line|circle|polyline|i|header|style)[ />]|!doctype)|\\son[a-z]+=|javascript:"
)
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\U000e0000-\U000e0fff]")


@pytest.mark.parametrize("path", ["/?text=knab", "/session", "/session.html", "/stats"])
def test_a_hostile_row_is_shown_and_does_nothing(site: Site, path: str) -> None:
    page = session_page(site, HOSTILE, path) if path.startswith("/session") else site.get(path)
    # Of our own there is the script of the live tail, by its address.
    html = re.sub(r'<script src="/live.js[^>]*></script>', "", page.text)
    tags = re.sub(r'"[^"]*"', '""', "".join(re.findall("<[^>]*>", html)))

    assert page.status == 200
    assert not DANGEROUS.search(tags), DANGEROUS.search(tags)
    assert "<script" not in html
    assert not STEERING.search(html)
    assert "alert(1)" in shown(html)
    assert "\\u202e" in html


def test_downloads_of_a_hostile_row_have_plain_names_and_the_exact_bytes(site: Site) -> None:
    row = session_page(site, HOSTILE, "/session.json")
    page = session_page(site, HOSTILE, "/session.html")

    for answer in (row, page):
        assert re.fullmatch(r'attachment; filename="session-[\w.-]+"', answer.headers["content-disposition"])
    assert json.loads(row.body)["session_id"] == HOSTILE
    assert session_page(site, "session-0007", "/session.json").body == encode_row(record(7))


def test_the_downloaded_page_needs_nothing_and_runs_nothing(site: Site) -> None:
    html = session_page(site, "corrected", "/session.html").text

    assert not re.search(r"<script|<link rel=.stylesheet|<img|<iframe|@import|url\(|https?://|\shref=\"/", html)
    assert "Content-Security-Policy" in html
    assert "Attempt 2" in html


def test_what_is_long_is_cut_and_can_be_downloaded(long_site: Site) -> None:
    page = session_page(long_site, "long")

    assert len(page.body) < 4 * PAGE_CHARS_MAX
    assert "10,452,992 more characters" in page.text
    download = page.link("Download the answer")
    assert download is not None
    assert long_site.get(download).body == LONG.encode()
    assert len(long_site.get("/").body) < PAGE_CHARS_MAX


def test_a_session_of_many_attempts_is_one_bounded_page(site: Site) -> None:
    page = session_page(site, "many")

    assert page.text.count('<article class="attempt"') == 20
    assert "280 more attempts" in shown(page.text)


def test_an_id_of_any_characters_has_a_page(site: Site) -> None:
    listed = site.get("/?verdict=infra_error")
    identifier = "a/../b?x=1&n=2#f %"
    assert identifier in listed.ids

    page = site.get(listed.link(f"<bdi>{re.escape(identifier.replace('&', '&amp;'))}</bdi>") or "")

    assert page.status == 200
    assert "UNAVAILABLE / PROVIDER_UNREACHABLE" in shown(page.text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/session?id=nobody", 404), ("/session", 400), ("/session?id=", 400), (f"/session?id={'x' * 2001}", 400),
        ("/session?id=tried&n=3", 404), ("/session?id=tried&n=0", 404), ("/session?id=tried&n=x", 404),
        ("/session?id=tried&try=3", 404), ("/session?id=tried&try=0", 404), ("/session?id=tried&try=x", 404),
        ("/answer.txt?id=tried&attempt=9", 404), ("/answer.txt?id=tried", 404), ("/nowhere", 404),
        ("/../etc/passwd", 404), ("/templates/base.html", 404), ("/?before=x", 400), (f"/?before=~{'x' * 2001}", 400),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_page_that_says_so(site: Site, path: str, status: int) -> None:
    page = site.get(path)

    assert (page.status, "<h1>" in page.text, "Traceback" in page.text) == (status, True, False)


def test_the_statistics_are_those_of_stats_with_every_chart(site: Site) -> None:
    page = site.get("/stats?kind=fill&by=week")

    for title in (
        "Acceptance by attempt",
        "Findings by code and week",
        "Cost of a session by model",
        "Time of a session by",
    ):
        assert title in page.text
    assert page.text.count("<svg") >= 8
    assert not re.search(r"\sstyle=", page.text), "the policy of the pages lets no inline style pass"
    assert "No session fits" in site.get("/stats?kind=none").text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_the_pages_are_only_read(site: Site, method: str) -> None:
    answer = site.get("/", method=method)

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_a_body(site: Site) -> None:
    answer = site.get("/session?id=session-0007", method="HEAD")

    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "10.1.2.3", "a b", "[::2]"]
)
def test_a_name_that_is_not_this_servers_is_refused(site: Site, host: str) -> None:
    assert site.get("/", host=host or " ").status in (400, 421)
    assert "session-00" not in site.get("/", host=host or " ").text


@pytest.mark.parametrize("host", ["localhost:9000", "LOCALHOST", "127.0.0.1", "[::1]:80", "127.0.0.2"])
def test_this_machines_own_names_are_answered(site: Site, host: str) -> None:
    assert site.get("/", host=host).status == 200


def test_another_site_may_link_here_and_load_nothing(site: Site) -> None:
    assert site.get("/stats", sec_fetch_site="cross-site", sec_fetch_mode="no-cors").status == 403
    assert site.get("/", sec_fetch_site="cross-site", sec_fetch_mode="navigate").status == 200


@pytest.mark.parametrize(
    "path", ["/", "/stats", "/session?id=session-0007", "/session.json?id=many", "/nowhere", "/live.js"]
)
def test_every_answer_has_the_strict_policy(site: Site, path: str) -> None:
    headers = site.get(path).headers

    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
    assert "unsafe" not in policy
    for name, value in (
        ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
    ):  # fmt: skip
        assert headers[name] == value
    assert "server" not in headers


def test_new_sessions_come_by_themselves_filtered_and_across_rotation(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(record(1)), age_s=0)

    with running_site(live) as site, site.events("verdict=accepted&text=toledo") as events:
        assert next(events) == ("retry", "3000")
        assert "session-0001" in next(events)[1]
        with live.open("ab") as file:
            file.write(
                encode_row(record(2, final_verdict="max_iter_exhausted")) + encode_row(record(3, prompt="other"))
            )
            file.write(b"torn\n" + encode_row(record(4, kind=SCRIPT)))
        kind, html = next(events)
        assert (kind, "session-0004" in html, "<script" in html) == ("session", True, False)
        live.rename(tmp_path / "sessions.jsonl.1")
        live.write_bytes(encode_row(record(5)))
        assert "session-0005" in next(events)[1]


def test_a_page_that_comes_back_misses_nothing_since_the_last_session_it_saw(site: Site) -> None:
    with site.events("after=2026-11-24T09:30:00Z") as events:
        assert next(events)[0] == "retry"
        assert "2026-11-24 10:00:00" in next(events)[1]


def test_only_so_many_pages_watch_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_tail, "WATCHERS_MAX", 2)
    with site.events() as one, site.events() as other:
        assert (next(one)[0], next(other)[0]) == ("retry", "retry")
        refused = site.get("/live")
    assert (refused.status, refused.headers["retry-after"]) == (503, "10")


def test_more_new_sessions_than_a_page_takes_are_dropped_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_tail, "WAITING_MAX", 5)
    live = write_segment(tmp_path / "sessions.jsonl", b"", age_s=0)
    with running_site(live) as site, site.events() as events:
        assert next(events)[0] == "retry"
        with live.open("ab") as file:
            file.write(b"".join(encode_row(record(number)) for number in range(50)))
        assert next(events)[0] == "dropped"


def test_a_log_that_is_not_there_yet_is_shown_as_soon_as_it_is(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    with running_site(live) as site:
        assert site.get("/").status == 503
        assert "there is no session log" in site.get("/").text
        with site.events() as events:
            assert next(events)[0] == "retry"
            live.write_bytes(encode_row(record(1)))
            assert "session-0001" in next(events)[1]
        assert site.get("/").ids == ["session-0001"]


def test_a_question_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    with running_site(live, question_s=-1) as site:
        for path in ("/?text=nowhere", "/stats", "/session?id=nobody"):
            page = site.get(path)
            assert (page.status, "would take too long" in page.text) == (503, True), path


class Elsewhere:
    """A source that is no log: what the pages ask of one is all that they know."""

    name = "a table elsewhere"

    def newest(self, wanted: SessionFilter, *, limit: int, before: Place | None) -> Listing:
        if wanted.kind:
            raise QuestionTooLongError
        return Listing([], ("one file was not read",))

    def rows(self, identifier: str, *, try_number: int | None = None) -> FoundRows:
        return FoundRows([encode_row(record(5)).rstrip(b"\n")], 0)

    def figures(self, wanted: SessionFilter, *, period: Period) -> Figures:
        raise OSError(5, "the table is away")

    def follow(self) -> NewRows | None:
        return None


def test_the_pages_know_of_no_log_but_what_a_source_answers() -> None:
    with running_site(source=Elsewhere()) as site:
        assert "one file was not read" in site.get("/").text
        assert "a table elsewhere" in site.get("/").text
        assert "session-0005" in site.get("/session?id=x").text
        assert site.get("/stats").status == 503
        assert site.get("/?kind=x").status == 503
        with site.events() as events:
            assert [kind for kind, _ in events] == ["retry"]


class Broken(Elsewhere):
    def figures(self, wanted: SessionFilter, *, period: Period) -> Figures:
        raise ZeroDivisionError("nobody foresaw it")


def test_an_error_that_nobody_foresaw_is_a_page_that_says_so_behind_the_same_guard() -> None:
    with running_site(source=Broken()) as site:
        answer = site.get("/stats")
        assert (answer.status, site.get("/").status) == (500, 200)
        assert "A fault of these pages" in answer.text
        assert "nobody foresaw it" not in answer.text
        assert "content-security-policy" in {name.lower() for name in answer.headers}
