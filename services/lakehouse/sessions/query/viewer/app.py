"""The pages: which address answers what. What reads the log runs in threads, few at a time, for a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from lakehouse.sessions.query.inert_text import one_line
from lakehouse.sessions.query.listing import SessionSummary, moment_of, place_of
from lakehouse.sessions.query.reader import QueryRefusedError
from lakehouse.sessions.query.report import report_body
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.query.stats import Period
from lakehouse.sessions.query.viewer.live import WAITING_MAX, WATCHERS_MAX, LiveTail, TooManyWatchersError
from lakehouse.sessions.query.viewer.rendering import Assets, Renderer
from lakehouse.sessions.query.viewer.request_form import (
    ID_CHARS_MAX,
    place_text,
    read_form,
    read_place,
)
from lakehouse.sessions.query.viewer.selection import NoSuchSessionError, Selection, query_of, select
from lakehouse.sessions.query.viewer.session_view import SessionView, view_of
from lakehouse.sessions.query.viewer.source import Listing, QuestionTooLongError, SessionSource
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.store.segments import SessionLogUnavailableError

ROWS_MAX: Final = 50
"""Sessions in one page of the list."""
LIVE_ROWS_MAX: Final = 200
QUESTIONS_MAX: Final = 2
"""Questions that are answered at a time; ``WAITING_QUESTIONS_MAX`` more wait for their turn."""
WAITING_QUESTIONS_MAX: Final = 16

_T = TypeVar("_T")
_Page = Callable[[Request], Awaitable[Response]]


class Pages:
    """The pages over one source."""

    def __init__(self, source: SessionSource, *, link_of: Callable[[str], str | None]) -> None:
        """``link_of`` gives the address of a trace by its id, where there is one."""
        self._source = source
        self._assets = Assets()
        self._renderer = Renderer(source.name, self._assets, link_of)
        self._turn = asyncio.Semaphore(QUESTIONS_MAX)
        self._waiting = 0
        self.live: Final = LiveTail(source)

    def app(self) -> Starlette:
        """Return the ASGI app, without its guard."""

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            await self.live.close()

        pages: dict[str, _Page] = {
            "/": self.newest,
            "/stats": self.stats,
            "/session": self.session,
            "/session.json": self.row_download,
            "/session.html": self.page_download,
            "/answer.txt": self.answer_download,
            "/live": self.events,
            "/page.css": self.style,
            "/live.js": self.script,
        }
        return Starlette(
            routes=[Route(path, page) for path, page in pages.items()],
            lifespan=lifespan,
            exception_handlers={
                HTTPException: self._http_problem,
                SessionLogUnavailableError: self._unavailable,
                QueryRefusedError: self._unavailable,
                OSError: self._unavailable,
                QuestionTooLongError: self._too_long,
                TooManyWatchersError: self._too_many,
                Exception: self._own_fault,
            },
        )

    async def newest(self, request: Request) -> Response:
        """Show the newest sessions that fit, and the form that filters them."""
        form = read_form(request.query_params, now=datetime.now(UTC))
        place = request.query_params.get("before", "")
        before = read_place(place)
        if place and before is None:
            raise HTTPException(400, "the address names no place in the list: begin anew")
        found: list[SessionSummary] = []
        warnings: tuple[str, ...] = ()
        if not form.problems:
            listing = await self._ask(
                lambda: self._source.newest(form.wanted, limit=ROWS_MAX + 1, before=before),
            )
            found, warnings = listing.sessions[:ROWS_MAX], listing.warnings
            more = len(listing.sessions) > ROWS_MAX
        live_href = ""
        if not form.problems and before is None:
            newest = found[0].timestamp if found else None
            live_href = f"/live?{form.query(after=newest or '')}"
        older = form.query(before=place_text(place_of(found[-1]))) if found and more else ""
        return self._html(
            "list.html",
            status=400 if form.problems else 200,
            here="sessions",
            form=form,
            rows=[Markup(self._row(session)) for session in found],  # noqa: S704  rendered by a template
            warnings=warnings,
            behind=before is not None,
            first_href=f"/?{form.query()}",
            older_href=f"/?{older}" if older else "",
            live_href=live_href,
            live_rows_max=LIVE_ROWS_MAX,
        )

    async def stats(self, request: Request) -> Response:
        """Show the figures and charts of the sessions that fit."""
        form = read_form(request.query_params, now=datetime.now(UTC))
        if form.problems:
            return self._html("stats.html", status=400, here="stats", form=form, warnings=(), body="")
        wanted = replace(form.wanted, text=None)
        body, warnings = await self._ask(lambda: self._figures(wanted, form.period))
        return self._html("stats.html", here="stats", form=form, warnings=warnings, body=body)

    async def session(self, request: Request) -> Response:
        """Show one session; where an id or a trace has several, the last one, and links to the others."""
        selected = await self._selected(request)
        view = await self._ask(lambda: view_of(selected.line))
        downloads = {
            name: f"{path}?{selected.query}"
            for name, path in (("json", "/session.json"), ("html", "/session.html"), ("raw", "/answer.txt"))
        }
        return self._html("session.html", here="", selected=selected, downloads=downloads, **_shown(view))

    async def row_download(self, request: Request) -> Response:
        """Give the row, to the byte as the log has it."""
        selected = await self._selected(request)
        return _download(selected.line + b"\n", "application/json", f"{selected.file_name}.json")

    async def page_download(self, request: Request) -> Response:
        """Give the session as one HTML file that needs nothing else and runs nothing."""
        selected = await self._selected(request)
        view = await self._ask(lambda: view_of(selected.line))
        html = self._renderer.page(
            "export.html",
            selected=None,
            downloads=None,
            style=Markup(self._assets.style),  # noqa: S704  our own file
            style_hash=self._assets.style_hash,
            **_shown(view),
        )
        return _download(html.encode(), "text/html; charset=utf-8", f"{selected.file_name}.html")

    async def answer_download(self, request: Request) -> Response:
        """Give the answer of one attempt, as the row has it."""
        selected = await self._selected(request)
        attempts = json.loads(read_row_line(selected.line).text)["attempts"]
        number = request.query_params.get("attempt", "")
        if not re.fullmatch("[0-9]{1,6}", number) or not 1 <= int(number) <= len(attempts):
            raise HTTPException(404, "the session has no such attempt")
        name = f"{selected.file_name}-attempt-{int(number)}.txt"
        return _download(attempts[int(number) - 1]["raw"].encode(), "text/plain; charset=utf-8", name)

    async def events(self, request: Request) -> Response:
        """Send what fits of the sessions to come, as server-sent events: each has the row of the list as HTML."""
        form = read_form(request.query_params, now=datetime.now(UTC))
        if form.problems:
            raise HTTPException(400, "; ".join(form.problems.values()))
        after = moment_of(request.headers.get("last-event-id") or request.query_params.get("after", ""))
        watching = self.live.watch(form.wanted)
        # Its first step, before the answer begins: it follows from here on, or refuses.
        began = await anext(watching, None)
        missed: list[SessionSummary] = []
        since = max(filter(None, (after, form.wanted.since)), default=None)
        try:
            if began is not None:
                missed = (await self._ask(lambda: self._newer(form.wanted, since))).sessions[::-1]
        except BaseException:
            await watching.aclose()
            raise

        async def stream() -> AsyncIterator[str]:
            try:
                yield "retry: 3000\n\n" + "".join(map(self._event, missed))
                async for sessions in watching:
                    if sessions is None:
                        yield "event: dropped\ndata: more sessions than could be sent\n\n"
                        continue
                    yield "".join(map(self._event, sessions)) or ": still here\n\n"
            finally:
                await watching.aclose()

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def style(self, _: Request) -> Response:
        """Give the style sheet."""
        return _kept(self._assets.style, "text/css")

    async def script(self, _: Request) -> Response:
        """Give the script of the live tail."""
        return _kept(self._assets.script, "text/javascript")

    def _figures(self, wanted: SessionFilter, period: Period) -> tuple[Markup, tuple[str, ...]]:
        figures = self._source.figures(wanted, period=period)
        return Markup(report_body(figures.stats, figures.findings)), figures.warnings  # noqa: S704  escaped there

    def _newer(self, wanted: SessionFilter, since: datetime | None) -> Listing:
        try:
            return self._source.newest(replace(wanted, since=since), limit=WAITING_MAX, before=None)
        except SessionLogUnavailableError:
            return Listing([], ())  # the first row is still to come

    def _event(self, session: SessionSummary) -> str:
        return f"event: session\nid: {session.timestamp or ''}\ndata: {json.dumps(self._row(session))}\n\n"

    def _row(self, session: SessionSummary) -> str:
        identifier = session.session_id or ""
        key = hashlib.sha256(identifier.encode(errors="replace")).hexdigest()[:16]
        is_short = 0 < len(identifier) <= ID_CHARS_MAX
        href = f"/session?{query_of(identifier, session.try_number)}" if is_short else ""
        return self._renderer.page("row.html", session=session, key=key, href=href)

    async def _selected(self, request: Request) -> Selection:
        """Return the session that the address means. Raises HTTPException."""
        given = request.query_params
        identifier = given.get("id", "")
        if not 0 < len(identifier) <= ID_CHARS_MAX:
            raise HTTPException(400, "the address names no session")
        place, try_number = given.get("n"), given.get("try")
        try:
            return await self._ask(lambda: select(self._source, identifier, place=place, try_number=try_number))
        except NoSuchSessionError as error:
            raise HTTPException(404, str(error)) from None

    async def _ask(self, question: Callable[[], _T]) -> _T:
        """Answer a question in a thread when it is its turn. Raises what it raises, and HTTPException."""
        if self._waiting >= WAITING_QUESTIONS_MAX:
            raise HTTPException(503, "too many questions at a time: try again in a moment", {"retry-after": "2"})
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        # The thread goes on where the one who asked is gone: the turn ends with it.
        asked = asyncio.get_running_loop().run_in_executor(None, question)
        asked.add_done_callback(self._end_turn)
        return await asyncio.shield(asked)

    def _end_turn(self, asked: asyncio.Future[Any]) -> None:
        self._turn.release()
        if not asked.cancelled():
            asked.exception()  # seen by whoever waits; nobody may

    def _html(self, template: str, *, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._renderer.page(template, **values), status)

    def _problem(self, status: int, title: str, text: str, headers: dict[str, str] | None = None) -> Response:
        response = self._html("problem.html", status=status, here="", title=title, text=text)
        response.headers.update(headers or {})
        return response

    async def _http_problem(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  what it is registered for
        titles = {400: "That cannot be asked", 404: "Not found", 405: "Read only", 503: "Busy"}
        headers = dict(error.headers) if error.headers else None
        return self._problem(error.status_code, titles.get(error.status_code, "Problem"), error.detail, headers)

    async def _unavailable(self, _: Request, error: Exception) -> Response:
        return self._problem(503, "The sessions cannot be read", str(error))

    async def _own_fault(self, _: Request, error: Exception) -> Response:
        text = f"These pages failed at what the log holds ({type(error).__name__}); where they run, the error is shown."
        return self._problem(500, "A fault of these pages", text)

    async def _too_long(self, _: Request, __: Exception) -> Response:
        text = "The answer would take too long: ask for a shorter time, or give --question-s more seconds."
        return self._problem(503, "Too much to look through", text)

    async def _too_many(self, _: Request, __: Exception) -> Response:
        return self._problem(503, "Busy", f"{WATCHERS_MAX} pages watch already", {"retry-after": "10"})


def _shown(view: SessionView) -> dict[str, Any]:
    raw_row = view.line.decode(errors="replace")
    return {"view": view, "raw_row": raw_row, "title_id": one_line(view.record.session_id, 80)}


def _download(body: bytes, media_type: str, name: str) -> Response:
    return Response(body, headers={"content-type": media_type, "content-disposition": f'attachment; filename="{name}"'})


def _kept(text: str, media_type: str) -> Response:
    """Return what a page names together with its version."""
    return Response(text, media_type=media_type, headers={"cache-control": "public, max-age=86400, immutable"})
