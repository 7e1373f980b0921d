"""Templates to HTML: every text of a row is escaped, inert and bounded, one by one and all of a page together."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lakehouse.sessions.query.inert_text import escaped, name_of, parts
from lakehouse.sessions.query.report_style import STYLE

TEXT_CHARS_MAX: Final = 32 * 1024
CELL_CHARS_MAX: Final = 120
PAGE_CHARS_MAX: Final = 512 * 1024
"""Of rows' texts in one page; what is beyond is left out, and said to be."""
_NAMED_MAX: Final = 200

_FOLDER: Final = Path(__file__).parent


class InertTexts:
    """Makes the texts of one page inert, within ``PAGE_CHARS_MAX`` for all of them."""

    def __init__(self) -> None:
        self._left = PAGE_CHARS_MAX
        self._named = 0

    def block(self, text: str, chars_max: int = TEXT_CHARS_MAX) -> Markup:
        """Return the text's beginning as HTML, and how much is missing where it is cut."""
        shown = text[: min(chars_max, self._left)]
        self._left -= len(shown)
        html = "".join(self._mark(part) if steers else escape(part) for part, steers in _joined(shown))
        if len(shown) < len(text):
            html += f'<span class="cut">… {len(text) - len(shown):,} more characters</span>'
        return Markup(html)  # noqa: S704  escaped above, piece by piece

    def cell(self, text: str | None) -> Markup:
        """Return a text of one line, of at most ``CELL_CHARS_MAX`` characters, kept apart from the direction around."""
        line = (text or "").replace("\n", "⏎").replace("\t", " ")
        cut = f'<span class="cut" title="{len(line) - CELL_CHARS_MAX:,} more characters">…</span>'
        more = Markup(cut if len(line) > CELL_CHARS_MAX else "")  # noqa: S704  our own words
        return Markup("<bdi>") + self.block(line[:CELL_CHARS_MAX], CELL_CHARS_MAX) + more + Markup("</bdi>")

    def _mark(self, characters: str) -> str:
        title = ""
        if len(characters) == 1 and self._named < _NAMED_MAX:
            self._named += 1
            title = f' title="{escape(name_of(characters))}"'
        return f'<span class="mark"{title}>{escape(escaped(characters))}</span>'


def _joined(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a text, characters that steer and stand side by side together."""
    joined: list[tuple[str, bool]] = []
    for part, steers in parts(text):
        if steers and joined and joined[-1][1]:
            joined[-1] = (joined[-1][0] + part, True)
        else:
            joined.append((part, steers))
    return joined


def usd(nano_usd: int) -> str:
    """Return an amount in US dollars, with as many digits as it takes."""
    dollars, nano = divmod(nano_usd, 10**9)
    return f"{dollars}.{f'{nano:09d}'.rstrip('0'):0<2} USD"


def duration(ms: int) -> str:
    """Return ``90 ms`` or ``1.25 s``."""
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def count(value: int | None) -> str:
    """Return a number with its thousands apart; nothing for None."""
    return "" if value is None else f"{value:,}"


class Assets:
    """The style sheet and the script, as they are served and as a page names them."""

    def __init__(self) -> None:
        self.style: Final = STYLE + "\n" + (_FOLDER / "assets" / "page.css").read_text(encoding="utf-8")
        self.script: Final = (_FOLDER / "assets" / "live.js").read_text(encoding="utf-8")

    @property
    def style_hash(self) -> str:
        """The style sheet as a Content-Security-Policy names it."""
        return "sha256-" + base64.b64encode(hashlib.sha256(self.style.encode()).digest()).decode()

    @property
    def version(self) -> str:
        """What changes when one of them does."""
        return hashlib.sha256((self.style + self.script).encode()).hexdigest()[:12]


class Renderer:
    """Renders the templates of this package."""

    def __init__(self, source_name: str, assets: Assets, link_of: Callable[[str], str | None]) -> None:
        """``link_of`` gives the address of a trace, where there is one."""
        self._environment = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"usd": usd, "duration": duration, "count": count}
        self._environment.globals |= {"source_name": source_name, "version": assets.version, "trace_link": link_of}

    def page(self, template: str, **values: Any) -> str:
        """Render a template with a budget of texts of its own."""
        return self._environment.get_template(template).render(texts=InertTexts(), **values)
