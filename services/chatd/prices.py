"""What calls cost: prices by model, exact decimals from the operator's words to the last digit.

A cost is the sum over the kinds of tokens of count times price, exact, rounded once at its end, to whole nano US
dollars (10^-9), halves up.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from chatd.completion import Usage
from lakehouse.settings import Table

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
# A count has ten digits, a price at most sixteen: no product and no sum of them is ever rounded.
_EXACT: Final = Context(prec=60)
_TOKENS: Final = Decimal(1_000_000)
_NANO: Final = Decimal(1_000_000_000)

Price = Annotated[Decimal, Field(ge=0, le=1_000_000, max_digits=16, decimal_places=9)]


class PriceTable(Table):
    """Prices of one model in US dollars per million tokens: decimals of at most nine places."""

    input: Price
    output: Price
    """Reasoning tokens are output tokens."""
    cache_read: Price | None = Field(default=None, validation_alias=AliasChoices("cache_read", "cached_input"))
    """Input tokens that the provider read from its cache. None: as `input`. `cached_input` is its older name."""
    cache_write: Price | None = None
    """Input tokens that the provider wrote to its cache. None: as `input`."""


Prices = Mapping[str, PriceTable]
_PRICES: Final = TypeAdapter(dict[str, PriceTable])


class Cost(NamedTuple):
    """What a call cost, in US dollars, exact."""

    input_usd: Decimal
    output_usd: Decimal

    @property
    def total_usd(self) -> Decimal:
        return _EXACT.add(self.input_usd, self.output_usd)

    @property
    def nano_usd(self) -> int:
        """The total in nano US dollars, halves up."""
        return int(_EXACT.multiply(self.total_usd, _NANO).to_integral_value(ROUND_HALF_UP))


def cost_of(usage: Usage, price: PriceTable) -> Cost | None:
    """Return what `usage` costs at `price`; None where the provider counted nothing, since no call is free of
    tokens."""
    if not (usage.input_tokens or usage.output_tokens):
        return None
    read = min(usage.cached_input_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - read)
    parts = (
        (usage.input_tokens - read - written, price.input),
        (read, price.input if price.cache_read is None else price.cache_read),
        (written, price.input if price.cache_write is None else price.cache_write),
    )
    total = Decimal(0)
    for tokens, each in parts:
        if tokens:
            total = _EXACT.add(total, _EXACT.multiply(Decimal(tokens), each))
    output = _EXACT.multiply(Decimal(usage.output_tokens), price.output)
    return Cost(_EXACT.divide(total, _TOKENS), _EXACT.divide(output, _TOKENS))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object each of whose names stands once, as TOML wants it too: of two prices for one model none is
    believed."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def read_prices(inline: Prices, file: Path | None) -> Prices:
    """Return the prices of `file`, a TOML or JSON table by model, and over them those of the configuration itself.

    Raises ValueError, whose text names the file and what is wrong.
    """
    if file is None:
        return inline
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"{file}: larger than {FILE_BYTES_MAX} bytes")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    try:
        # Decimals as they are written: a double would have rounded them already.
        document: Any = (
            json.loads(text, parse_float=Decimal, object_pairs_hook=_once)
            if text.lstrip()[:1] == "{"
            else tomllib.loads(text, parse_float=Decimal)
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: neither TOML nor JSON: {error}") from None
    try:
        return {**_PRICES.validate_python(document), **inline}
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{file}: {where}: {first['msg']}") from None
