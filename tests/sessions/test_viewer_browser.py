"""The pages in a real browser: filters, live tail, a hostile row that does nothing, keyboard, contrast, small screens.

Method: the system's Chromium, headless, driven by playwright. Without it these tests are skipped, and say so.
LAKEHOUSE_SCREENSHOTS=FOLDER keeps pictures of the pages there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from session_rows import PHANTOM, UNREACHABLE, attempt, record, write_segment
from viewer_server import Site, running_site

from lakehouse.sessions.record import BriefRecord, SessionRecord
from lakehouse.sessions.row import encode_row

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium brings it"
)

# A machine with other work beside it is slow, not wrong.
expect.set_options(timeout=30_000)

HOSTILE = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'><a href='javascript:window.ran = 3'>x</a>"
    "<style>*{display:none}</style><svg onload='window.ran = 4'></svg>\"'> pay \u202eknab\u202c \x1b[2J \u200b"
)
# Longer than what a page shows of an answer.
LONG_CHARS = 2 * 1024 * 1024
WORKER = {"id": "W-000417", "name": "Maya Ortiz", "role": "forklift operator"}


def lifelike(number: int) -> SessionRecord:
    """One of a working day's sessions."""
    ended = datetime(2026, 11, 20, 6, tzinfo=UTC) + timedelta(minutes=47 * number)
    model = ("llama3.1-8b", "gpt-4o-mini", "claude-sonnet")[number % 3]
    said: dict[str, object] = {
        "city": "Toledo",
        "workers": [{**WORKER, "id": "W-009913", "name": "Dana Fox"}, WORKER],
    }
    right: dict[str, object] = {
        "city": "Toledo",
        "workers": [{**WORKER, "id": "W-000052", "name": "Ana Silva"}, WORKER],
    }
    message = '"W-009913" is not in the roster: no such worker exists; take one of those who qualify'
    suggestion = '{"name":"Ana Silva","worker_id":"W-000052"}'
    wrong = attempt(
        1, model=model, verdict="rejected", raw=json.dumps(said), input_tokens=412, output_tokens=61, chat_ms=820,
        findings=(replace(PHANTOM, path="/workers/0/id", message=message, suggestions=(suggestion,)),),
        cost_nano_usd=190_000 * (1 + number % 3),
    )  # fmt: skip
    good = attempt(
        1 if number % 4 else 2, model=model, raw=json.dumps(right), input_tokens=655, output_tokens=58,
        chat_ms=700 + 9 * number, cost_nano_usd=210_000 * (1 + number % 3),
    )  # fmt: skip
    canonical = json.dumps(right, separators=(",", ":"), sort_keys=True)
    fields: dict[str, object] = {
        "timestamp": ended.strftime("%Y-%m-%dT%H:%M:%S.000000Z"), "kind": ("fill", "email")[number % 5 == 4],
        "model": model, "prompt": "Fill 2 forklift operators in Toledo for Saturday", "artifact": canonical,
        "spec": '{"city":"Toledo","count":2,"role":"forklift operator","state":"OH"}', "duration_ms": 900 + 13 * number,
        "caller": ("scheduler", "desk")[number % 2], "attempts": (good,) if number % 4 else (wrong, good),
        "brief": BriefRecord(grounding="candidates", candidates=50, candidates_total=212, roster="r-7", brief_ms=3),
    }  # fmt: skip
    if number % 11 == 5:
        fields |= {"final_verdict": "max_iter_exhausted", "attempts": (wrong, replace(wrong, iteration=2))}
    if number % 17 == 6:
        fields |= {"final_verdict": "infra_error", "error": UNREACHABLE, "attempts": (), "artifact": None}
    return record(number, **fields)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [lifelike(number) for number in range(180)]
    hostile = record(
        999, session_id=HOSTILE, kind=HOSTILE, model=HOSTILE, prompt=HOSTILE, caller=HOSTILE,
        timestamp="2026-11-19T00:00:00.000000Z", trace_id=HOSTILE,
        attempts=(attempt(1, raw=HOSTILE + "B" * LONG_CHARS, verdict="rejected",
                          findings=(replace(PHANTOM, message=HOSTILE, path=HOSTILE),)),),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("browser")
    write_segment(folder / "sessions.jsonl.1", encode_row(hostile) + b"".join(map(encode_row, rows[:100])))
    return write_segment(folder / "sessions.jsonl", b"".join(map(encode_row, rows[100:])), age_s=0)


@pytest.fixture(scope="module")
def site(live: Path) -> Iterator[Site]:
    with running_site(live) as running:
        yield running


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Its sandbox needs namespaces that a container may not have; the pages are our own.
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        await started.close()


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """Open a page that fails the test where the browser complains, of a broken policy for one."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860}, base_url=site.url)
    opened = await context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    requests: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    yield opened
    await context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith((site.url, "data:,"))] == []


async def keep_picture(page: Page, name: str, *, heading: str = "") -> None:
    """Keep a picture where one is wanted, from this heading of the page on."""
    if folder := os.environ.get("LAKEHOUSE_SCREENSHOTS"):
        await page.evaluate(
            "document.querySelector('.source').textContent = '/var/lib/lakehouse/gateway/sessions.jsonl'"
        )
        if heading:
            await page.get_by_role("heading", name=heading).evaluate("(each) => each.scrollIntoView()")
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def test_a_person_filters_by_the_form_and_pages_through(page: Page) -> None:
    await page.goto("/")
    await keep_picture(page, "sessions-list")
    await page.get_by_label("Verdict").select_option("max_iter_exhausted")
    await page.get_by_label("Model asked for").fill("gpt-4o-mini")
    await page.get_by_label("Text in it").fill("MAYA ortiz")
    await page.get_by_role("button", name="Filter").click()

    rows = page.locator("tbody tr")
    assert await rows.count() == 5
    assert set(await rows.locator(".verdict").all_inner_texts()) == {"max iter exhausted"}
    await expect(page.get_by_label("Text in it")).to_have_value("MAYA ortiz")

    await page.get_by_role("link", name="Clear").click()
    first = await rows.locator(".id").first.inner_text()
    await page.get_by_role("link", name="Older").click()
    assert await rows.count() == 50
    assert await rows.locator(".id").first.inner_text() != first


async def test_new_sessions_appear_by_themselves_until_paused(page: Page, live: Path) -> None:
    await page.goto("/?caller=tail")
    status = page.get_by_role("status")
    await expect(status).to_have_text("Live.")

    with live.open("ab") as file:
        file.write(encode_row(replace(lifelike(300), session_id="fresh-1", caller="tail")))
        file.write(encode_row(replace(lifelike(301), session_id="of-others")))
        file.write(encode_row(replace(lifelike(302), session_id="fresh-2", caller="tail", kind=HOSTILE)))
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(2)
    assert await rows.locator(".id").all_inner_texts() == ["fresh-2", "fresh-1"]
    await expect(status).to_have_text("Live: 2 new.")

    await page.get_by_role("button", name="Pause live updates").click()
    with live.open("ab") as file:
        file.write(encode_row(replace(lifelike(303), session_id="fresh-3", caller="tail")))
    await expect(status).to_have_text("Paused.")
    await page.get_by_role("button", name="Resume live updates").click()
    await expect(rows.locator(".id").first).to_have_text("fresh-3")
    assert await page.evaluate("window.ran") is None


async def test_without_javascript_all_but_the_live_tail_works(browser: Browser, site: Site) -> None:
    context = await browser.new_context(java_script_enabled=False, base_url=site.url)
    page = await context.new_page()
    await page.goto("/")
    await page.get_by_label("Kind").fill("email")
    await page.get_by_role("button", name="Filter").press("Enter")
    assert set(await page.locator("tbody tr td:nth-child(3)").all_inner_texts()) == {"email"}
    await page.locator("tbody tr a").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Session session-")
    await page.get_by_role("link", name="Statistics").click()
    assert await page.locator("svg").count() >= 8
    await context.close()


@pytest.mark.parametrize("path", ["/?until=2026-11-19T12:00", "/session?id=", "/session.html?id=", "/stats"])
async def test_a_hostile_row_is_shown_inert(page: Page, site: Site, path: str, tmp_path: Path) -> None:
    where = path + (quote(HOSTILE, safe="") if path.endswith("=") else "")
    if path.startswith("/session.html"):
        # As a person opens what was downloaded: from the disk, beyond our headers.
        saved = tmp_path / "session.html"
        saved.write_bytes(site.get(where).body)
        context = await page.context.browser.new_context()  # type: ignore[union-attr]
        shown = await context.new_page()
        await shown.goto(saved.as_uri())
    else:
        shown = page
        await shown.goto(where)

    assert await shown.evaluate("window.ran") is None
    # Nothing of it became an element.
    assert await shown.locator("main script, main img, main style, main a[href^=javascript]").count() == 0
    text = await shown.locator("main").inner_text()
    assert "<script>window.ran = 1" in text or path == "/stats"
    assert not re.search("[\u202e\x1b\u200b]", text)
    assert len(text) < 600_000
    if path == "/session?id=":
        assert "\\u202e" in text
        await keep_picture(shown, "session-hostile")
        await shown.get_by_text("The answer as it came").click()
        async with shown.expect_download() as waiting:
            await shown.get_by_role("link", name="Download the answer").first.click()
        assert (await (await waiting.value).path()).stat().st_size > LONG_CHARS


async def test_a_session_has_its_attempts_side_by_side(page: Page) -> None:
    await page.goto("/session?id=session-0172")
    columns = page.locator("article.attempt")
    boxes = [await columns.nth(place).bounding_box() for place in range(2)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    finding = page.locator(".finding").first
    above = finding.locator("xpath=preceding-sibling::div[1]")
    assert "W-009913" in await above.inner_text()
    assert "W-000052" in await columns.nth(1).locator(".line.changed").first.inner_text()
    await keep_picture(page, "session", heading="Attempts")


async def test_every_control_is_reached_by_keyboard_and_seen_there(page: Page) -> None:
    await page.goto("/")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = set()
    for _ in range(90):
        found = await page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();
            return [e.tagName + (e.id || e.textContent.trim().slice(0, 20)), s.outlineStyle, parseFloat(s.outlineWidth),
            b.width > 0 && b.height > 0]; }"""
        )
        if found[0].startswith("BODY"):
            break
        assert found[1:] == ["solid", 3, True], found
        reached.add(found[0])
        await page.keyboard.press("Tab")
    controls = {"ASessions", "AStatistics", "INPUTf-since", "SELECTf-verdict", "INPUTf-text", "BUTTONFilter", "AOlder"}
    assert controls <= reached
    assert sum(bool(re.match("A(session-|fresh-|of-others)", name)) for name in reached) == 50

    await page.get_by_label("Kind").focus()
    await page.keyboard.type("email")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**kind=email**")


# Every text against what is painted behind it, by WCAG's formula; what is not seen is passed over.
CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = (c) => { const f = c.slice(0, 3).map((v) => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const behind = (e) => { const layers = [];
    for (let n = e; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor); layers.push(c);
      if (c[3] === 1) break; }
    return layers.reverse().reduce((below, c) => over(c, below), [255, 255, 255, 1]); };
  const bad = []; let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.tagName.toLowerCase() === "title") continue;
    const s = getComputedStyle(e), svg = e.namespaceURI.endsWith("svg");
    const ground = behind(svg ? e.closest("section") : e);
    const [x, y] = [light(over(parse(svg ? s.fill : s.color), ground)), light(ground)].sort((a, b) => b - a);
    const ratio = (x + 0.05) / (y + 0.05); seen += 1;
    if (ratio < 4.5) bad.push([walker.currentNode.data.trim().slice(0, 40), ratio]);
  }
  return [seen, bad];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_the_contrast_of_wcag_aa(browser: Browser, site: Site, scheme: str) -> None:
    context = await browser.new_context(color_scheme=scheme, base_url=site.url)  # type: ignore[arg-type]
    page = await context.new_page()
    hostile = f"/session?id={quote(HOSTILE, safe='')}"
    for path in ("/", "/?since=never&verdict=x", "/session?id=session-0172", hostile, "/stats", "/none"):
        await page.goto(path)
        await page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
        seen, bad = await page.evaluate(CONTRAST)
        assert seen > 5
        assert bad == [], path
        if path == "/stats":
            await keep_picture(page, f"statistics-{scheme}")
    await context.close()


async def test_a_narrow_screen_never_scrolls_sideways_and_zoomed_text_fits(browser: Browser, site: Site) -> None:
    context = await browser.new_context(viewport={"width": 320, "height": 640}, base_url=site.url)
    page = await context.new_page()
    for path in ("/", "/session?id=session-0172", f"/session?id={quote(HOSTILE, safe='')}", "/stats"):
        await page.goto(path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320, path
    await context.close()


UNNAMED = """() => [...document.querySelectorAll('a, button, input, select, svg, [role=region], summary')]
  .filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).map((e) => e.outerHTML)"""
IDS_TWICE = """() => { const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  return ids.length - new Set(ids).size; }"""


async def test_the_page_is_one_that_a_screen_reader_can_name(page: Page) -> None:
    for path in ("/", "/session?id=session-0172", "/stats"):
        await page.goto(path)
        unnamed = await page.evaluate(UNNAMED)
        assert unnamed == []
        assert await page.evaluate("document.documentElement.lang") == "en"
        assert await page.get_by_role("heading", level=1).count() == 1
        assert await page.get_by_role("main").count() == 1
        assert await page.evaluate(IDS_TWICE) == 0
