from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.completion import Usage
from chatd.prices import PriceTable, cost_of, read_prices
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond, completion, error = fakes.respond, fakes.completion, fakes.error
USAGE = Usage(input_tokens=1000, output_tokens=500, cached_input_tokens=400, cache_write_tokens=100)


def nano(usage: Usage, **prices: Any) -> int:
    cost = cost_of(usage, PriceTable.model_validate(prices))
    assert cost is not None
    return cost.nano_usd


def test_cost_is_by_the_million_and_each_kind_of_token_has_its_price() -> None:
    assert nano(USAGE, input="2", output="10") == (1000 * 2 + 500 * 10) * 1000
    assert nano(USAGE, input="2", output="10", cache_read="0.5") == (600 * 2 + 400 // 2 + 500 * 10) * 1000
    assert (
        nano(USAGE, input="2", output="0", cache_read="0.5", cache_write="2.5") == 500 * 2000 + 400 * 500 + 100 * 2500
    )
    assert nano(USAGE, input="2", output="0", cached_input="0.5") == (600 * 2 + 200) * 1000


def test_more_cached_tokens_than_tokens_cost_no_less_than_nothing() -> None:
    usage = Usage(input_tokens=10, output_tokens=0, cached_input_tokens=20, cache_write_tokens=20)

    assert nano(usage, input="1", output="1", cache_read="0") == 0


@pytest.mark.parametrize(("price", "expected"), [("0.0005", 1), ("0.0004", 0), ("0.0015", 2), ("0.15", 150)])
def test_half_a_nano_dollar_is_rounded_up_once(price: str, expected: int) -> None:
    assert nano(Usage(input_tokens=1), input=price, output="0") == expected
    # Two halves are one, not two: what is rounded is the sum.
    assert nano(Usage(input_tokens=1, output_tokens=1), input="0.0005", output="0.0005") == 1


counts = st.integers(0, 2**31 - 1)
prices = st.decimals(0, 1_000_000, places=9, allow_nan=False)


@settings(derandomize=True, max_examples=300)
@given(counts, counts, prices, prices)
def test_cost_is_exact_at_any_size(asked: int, answered: int, input_price: Decimal, output_price: Decimal) -> None:
    if not (asked or answered):
        return
    # In units of 10^-12 dollars a price is a whole number of tokens' worth: integers alone.
    exact = asked * int(input_price * 10**9) + answered * int(output_price * 10**9)
    usage = Usage(input_tokens=asked, output_tokens=answered)

    assert nano(usage, input=input_price, output=output_price) == (exact + 500_000) // 1_000_000


def test_what_was_not_counted_has_no_cost() -> None:
    assert cost_of(Usage(), PriceTable(input=Decimal(1), output=Decimal(1))) is None


TOML = '["fake-1"]\ninput = 0.1\noutput = 0.3\ncache_read = 0.025\n'


@pytest.mark.parametrize("text", [TOML, json.dumps({"fake-1": {"input": 0.1, "output": 0.3, "cache_read": "0.025"}})])
async def test_prices_may_stand_in_a_file_and_the_configuration_wins(
    text: str, openai_chatd: Any, tmp_path: Path
) -> None:
    file = tmp_path / "prices"
    file.write_text(text)
    answer = respond(200, completion("Hello."))
    async with openai_chatd([answer], prices_file=str(file)) as (chatd, _):
        response = await chatd.ask()
        # 8 tokens, 4 cached ones, 7 of the answer.
        assert response.cost_nano_usd == 8 * 100 + 4 * 25 + 7 * 300
        assert chatd.last_line["cost_nano_usd"] == response.cost_nano_usd
        assert response.cost.total_usd == pytest.approx(response.cost_nano_usd / 1e9)
    async with openai_chatd([answer], prices_file=str(file), prices={"fake-1": {"input": 1, "output": 0}}) as (
        chatd,
        _,
    ):
        assert (await chatd.ask()).cost_nano_usd == 12_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "No such file"),
        ("[", "neither TOML nor JSON"),
        ("{", "neither TOML nor JSON"),
        ('["m"]\ninput = 1\n', "m.output"),
        ('["m"]\ninput = -1\noutput = 1\n', "m.input"),
        ('["m"]\ninput = 0.0000000001\noutput = 1\n', "m.input"),
        ('["m"]\ninput = nan\noutput = 1\n', "m.input"),
        ('["m"]\ninput = 1\noutput = 1\noutpt = 1\n', "m.outpt"),
        ('{"m": 7}', "m: "),
    ],
)
def test_a_table_of_prices_that_cannot_be_used_says_where(text: str | None, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "prices"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ValueError, match="prices") as caught:
        read_prices({}, file)
    assert problem in str(caught.value)


PRICES = {"fake-1": {"input": "1", "output": "1"}, "asked-1": {"input": "2", "output": "2"}}


@pytest.mark.parametrize(
    ("named", "asked", "expected"),
    [("fake-1", "asked-1", 19_000), ("fake-1-2026-01-01", "asked-1", 38_000), ("other", "other", None)],
)
async def test_a_model_is_priced_as_it_was_named_or_as_it_was_asked_for(
    named: str, asked: str, expected: int | None, openai_chatd: Any
) -> None:
    body = {**completion("Hello."), "model": named}
    async with openai_chatd([respond(200, body)], prices=PRICES) as (chatd, _):
        response = await chatd.ask(target=chatd_pb2.Target(model=asked))

    assert (response.cost_nano_usd if response.HasField("cost_nano_usd") else None) == expected
    assert response.HasField("cost") is (expected is not None)


async def test_an_answer_whose_tokens_nobody_counted_has_no_cost(openai_chatd: Any) -> None:
    body = {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}
    async with openai_chatd([respond(200, body)], prices=PRICES) as (chatd, _):
        assert not (await chatd.ask()).HasField("cost_nano_usd")


@pytest.mark.parametrize(
    ("first", "stated"),
    [
        (error(429, "slow down"), True),
        (error(400, "Unsupported parameter: 'temperature' is not supported.", param="temperature"), True),
        (error(500, "boom"), False),
        (fakes.reset(), False),
    ],
    ids=["rate limit", "healed", "500", "reset"],
)
async def test_the_cost_is_left_out_where_a_failed_request_may_have_been_billed(
    first: Any, stated: bool, openai_chatd: Any
) -> None:
    behaviours = [first, respond(200, completion("Hello."))]
    retry = {"repeat_billed": True}
    async with openai_chatd(behaviours, prices=PRICES, retry=retry) as (chatd, _):
        response = await chatd.ask(temperature=0.2)

    assert response.upstream_requests == 2
    assert response.HasField("cost_nano_usd") is stated


async def test_a_free_model_costs_nothing_and_says_so(openai_chatd: Any) -> None:
    prices = {"fake-1": {"input": 0, "output": 0}}
    async with openai_chatd([respond(200, completion("Hello."))], prices=prices) as (chatd, _):
        response = await chatd.ask()

    assert response.HasField("cost_nano_usd")
    assert response.cost_nano_usd == 0


async def test_writes_to_anthropics_cache_are_priced(chatd: Any) -> None:
    async with fakes.FakeEndpoint([respond(200, fakes.anthropic_message())]) as endpoint:
        provider = {
            "type": "anthropic",
            "base_url": endpoint.url,
            "default_model": "fake-claude-1",
            "prices": {"fake-claude-1": {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75"}},
        }
        async with chatd(providers={"claude": provider}) as running:
            response = await running.ask()

    # 8 tokens, 3 read from the cache, 1 written to it, 7 of the answer.
    assert response.usage.cache_write_input_tokens == 1
    assert response.cost_nano_usd == 8 * 3000 + 3 * 300 + 1 * 3750 + 7 * 15000


async def test_a_fault_states_no_cost(openai_chatd: Any) -> None:
    async with openai_chatd([error(401, "no")], prices=PRICES) as (chatd, _):
        with pytest.raises(Fault):
            await chatd.ask()
        assert "cost_nano_usd" not in chatd.last_line


def test_a_price_file_may_begin_with_a_byte_order_mark_and_prices_no_model_twice(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('{"m": {"input": 1, "output": 2}}', encoding="utf-8-sig")
    assert read_prices({}, file)["m"].output == 2

    file.write_text('{"m": {"input": 1, "output": 2}, "m": {"input": 3, "output": 4}}', encoding="utf-8")
    with pytest.raises(ValueError, match="stands twice"):
        read_prices({}, file)
