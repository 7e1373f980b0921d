"""Answers as vendors really send them: whole to Complete, and in pieces to StreamComplete.

Each case is one message; the same message is sent whole and as a stream, and the outcome must be the same.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond, completion, event, delta_event = fakes.respond, fakes.completion, fakes.event, fakes.delta_event
DONE = event("[DONE]")
JSON = '{"ok":true}'


def chunk_of(*choices: Any, **rest: Any) -> bytes:
    """One event with these choices."""
    found: bytes = event({"object": "chat.completion.chunk", "model": "fake-1", "choices": list(choices), **rest})
    return found


async def both_ways(
    openai_chatd: Any, whole: Any, events: Sequence[bytes], **table: Any
) -> tuple[Any, list[tuple[str, str]], Any]:
    """Return the response of Complete to `whole`; pieces and response of StreamComplete to `events`."""
    async with openai_chatd([whole, fakes.stream(*events)], **table) as (chatd, _):
        try:
            answered: Any = await chatd.ask()
        except Fault as fault:
            answered = fault
        pieces, streamed = await chatd.stream()
    return answered, pieces, streamed


def kinds(pieces: list[tuple[str, str]]) -> tuple[str, str]:
    """Text and reasoning of the pieces."""
    text = "".join(text for kind, text in pieces if kind == "text_delta")
    return text, "".join(text for kind, text in pieces if kind == "reasoning_delta")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *((word, "STOP") for word in ("stop", "STOP", "eos", "eos_token", "stop_sequence", "COMPLETE", "end_turn")),
        *((word, "LENGTH") for word in ("length", "MAX_TOKENS", "max_tokens", "model_length", "max_output_tokens")),
        *((word, "LENGTH") for word in ("max_new_tokens", "truncated", "incomplete")),
        *((word, "CONTENT_FILTER") for word in ("filtered", "policy_violation", "safety_violation")),
        *((word, "LENGTH") for word in ("model_context_window_exceeded", "pause_turn", "FinishReason.MAX_TOKENS")),
        *((word, "CONTENT_FILTER") for word in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "content_filter")),
        *((word, "CONTENT_FILTER") for word in ("BLOCKLIST", "SPII", "guardrail_intervened", "sensitive")),
        *((word, "MALFORMED") for word in ("MALFORMED_FUNCTION_CALL", "malformed_model_output")),
        *((word, "TOOL_CALLS") for word in ("tool_calls", "function_call", "tool_use", "TOOL_CALL")),
        *((word, "LENGTH") for word in ("maxTokens", "max_model_len_tokens", "contextOverflow", "exceeds_max_tokens")),
        *(
            (word, "CONTENT_FILTER")
            for word in ("ContentFilter", "contentFiltered", "output_moderation", "TOXIC_FILTER")
        ),
        ("endTurn", "STOP"),
        ("refusal", "REFUSAL"),
        *((word, "UNSPECIFIED") for word in ("OTHER", "load", "unload", "FINISH_REASON_UNSPECIFIED", "never heard of")),
    ],
)
async def test_every_vendors_finish_reason_is_read(word: str, expected: str, openai_chatd: Any) -> None:
    whole = respond(200, completion("Hello.", finish_reason=word))
    answered, _, streamed = await both_ways(openai_chatd, whole, [delta_event(content="Hello."), delta_event(word)])

    for response in (answered, streamed):
        assert response.text == "Hello."
        assert chatd_pb2.FinishReason.Name(response.finish_reason) == f"FINISH_REASON_{expected}"


@pytest.mark.parametrize(
    "word", ["SAFETY", "PROHIBITED_CONTENT", "content_filter", "guardrail_intervened", "ContentFilter"]
)
async def test_a_filter_that_leaves_nothing_is_content_filtered(word: str, openai_chatd: Any) -> None:
    whole = respond(200, completion(None, finish_reason=word))
    answered, pieces, streamed = await both_ways(openai_chatd, whole, [delta_event(word), DONE])

    assert (answered.reason, streamed.reason) == ("CONTENT_FILTERED", "CONTENT_FILTERED")
    assert pieces == []


@pytest.mark.parametrize("word", ["error", "abort", "insufficient_system_resource", "network_error", "ERROR"])
async def test_an_answer_that_the_endpoint_gave_up_is_no_answer(word: str, openai_chatd: Any) -> None:
    whole = respond(200, completion("Hel", finish_reason=word))
    answered, _, streamed = await both_ways(openai_chatd, whole, [delta_event(content="Hel"), delta_event(word), DONE])

    assert (answered.reason, answered.code) == ("PROVIDER_FAILED", "ABORTED")
    assert (streamed.reason, streamed.code) == ("PROVIDER_FAILED", "ABORTED")


async def test_what_a_proxy_calls_native_counts_where_it_says_more(openai_chatd: Any) -> None:
    choice = {"index": 0, "finish_reason": "stop", "native_finish_reason": "MAX_TOKENS"}
    whole = respond(200, {"choices": [{**choice, "message": {"content": "Hel"}}]})
    answered, _, streamed = await both_ways(openai_chatd, whole, [chunk_of({**choice, "delta": {"content": "Hel"}})])

    assert answered.finish_reason == streamed.finish_reason == chatd_pb2.FINISH_REASON_LENGTH


@pytest.mark.parametrize("order", [(1, 0), (0, 1), ("1", "0"), (2, 0), (True, 0)])
async def test_the_choice_with_index_0_is_the_answer(order: tuple[Any, Any], openai_chatd: Any) -> None:
    texts = {index: "right" if str(index) == "0" else "WRONG" for index in order}
    choices = [{"index": index, "message": {"content": texts[index]}, "finish_reason": "stop"} for index in order]
    events = [chunk_of({"index": index, "delta": {"content": texts[index]}, "finish_reason": None}) for index in order]
    ends = [chunk_of({"index": index, "delta": {}, "finish_reason": "stop"}) for index in order]
    answered, pieces, streamed = await both_ways(
        openai_chatd, respond(200, {"choices": choices}), [*events, *ends, DONE]
    )

    assert answered.text == streamed.text == kinds(pieces)[0] == "right"


async def test_choices_in_one_event_are_told_apart_too(openai_chatd: Any) -> None:
    both = chunk_of(
        {"index": 1, "delta": {"content": "WRONG"}, "finish_reason": "stop"},
        {"index": 0, "delta": {"content": "right"}, "finish_reason": "stop"},
    )
    async with openai_chatd([fakes.stream(both, DONE)]) as (chatd, _):
        _, response = await chatd.stream()

    assert response.text == "right"


async def test_an_index_that_is_a_float_counts(openai_chatd: Any) -> None:
    wrong = {"index": 1.0, "message": {"content": "WRONG"}, "delta": {"content": "WRONG"}, "finish_reason": "stop"}
    right = {"index": 0.0, "message": {"content": "right"}, "delta": {"content": "right"}, "finish_reason": "stop"}
    answered, _, streamed = await both_ways(
        openai_chatd, respond(200, {"choices": [wrong, right]}), [chunk_of(wrong), chunk_of(right), DONE]
    )

    assert answered.text == streamed.text == "right"


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "-Infinity"])
async def test_what_is_no_number_changes_nothing_beside_the_answer(odd: str, openai_chatd: Any) -> None:
    choice = f'"finish_reason":"stop","logprobs":{{"content":[{{"logprob": {odd}}}]}}'
    whole = respond(200, f'{{"choices":[{{"message":{{"content":"Hello NaN."}},{choice}}}]}}')
    answered, _, streamed = await both_ways(
        openai_chatd, whole, [event(f'{{"choices":[{{"delta":{{"content":"Hello NaN."}},{choice}}}]}}'), DONE]
    )

    assert answered.text == streamed.text == "Hello NaN."


@pytest.mark.parametrize("nothing", ["null", "[]"])
async def test_an_event_that_holds_nothing_keeps_the_stream_open(nothing: str, openai_chatd: Any) -> None:
    pieces = [
        event(nothing),
        delta_event(content="Hel"),
        event(nothing),
        delta_event(content="lo"),
        delta_event("stop"),
        DONE,
    ]
    async with openai_chatd([fakes.stream(*pieces)]) as (chatd, _):
        _, response = await chatd.stream()

    assert response.text == "Hello"


@pytest.mark.parametrize(
    "late", [b"event: error\ndata:\n\n", b"event: error\n\n", b"<html><title>502</title></html>\n\n"]
)
async def test_an_error_without_words_ends_the_stream_as_one_with_words(late: bytes, openai_chatd: Any) -> None:
    async with openai_chatd([fakes.stream(delta_event(content="Hel"), late, DONE)]) as (chatd, _):
        _, fault = await chatd.stream()

    assert (fault.reason, fault.code) == ("PROVIDER_FAILED", "ABORTED")


@pytest.mark.parametrize("name", ["reasoning_text", "reasoning_content", "thinking"])
async def test_an_answer_in_the_reasoning_alone_is_read_by_any_of_its_names(name: str, openai_chatd: Any) -> None:
    async with openai_chatd([respond(200, completion(None, **{name: JSON}))]) as (chatd, _):
        response = await chatd.ask()

    assert (response.text, response.text_from_reasoning) == (JSON, True)


async def test_a_tool_call_without_its_list_is_one(openai_chatd: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "one", "arguments": "{}"}}
    whole = respond(200, completion(None, finish_reason="tool_calls", tool_calls=call))
    answered, _, streamed = await both_ways(openai_chatd, whole, [delta_event("tool_calls", tool_calls=call), DONE])

    for response in (answered, streamed):
        assert [(each.id, each.name) for each in response.tool_calls] == [("a", "one")]


BOM = b"\xef\xbb\xbf"


async def test_a_byte_order_mark_changes_nothing(openai_chatd: Any) -> None:
    whole = respond(200, BOM + json.dumps(completion(JSON)).encode())
    events = fakes.openai_events(JSON)
    answered, _, streamed = await both_ways(openai_chatd, whole, [BOM + events[0], *events[1:]])

    assert answered.text == streamed.text == JSON


async def test_the_byte_order_mark_of_a_refusal_changes_nothing(openai_chatd: Any) -> None:
    body = BOM + json.dumps({"error": {"code": "insufficient_quota", "message": "no"}}).encode()
    async with openai_chatd([respond(429, body)]) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == "PROVIDER_QUOTA"


def piece(id_: str | None, name: str | None, arguments: str, index: Any = 0) -> bytes:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    call: dict[str, Any] = {"index": index, "function": function}
    if id_ is not None:
        call["id"] = id_
    if index is None:
        del call["index"]
    found: bytes = delta_event(tool_calls=[call])
    return found


@pytest.mark.parametrize(
    "pieces",
    [
        [piece("a", "one", '{"n":1}'), piece("b", "two", '{"n":2}')],
        [piece("a", "one", '{"n"'), piece("a", None, ":1}"), piece("b", "two", '{"n":2}')],
        [piece("a", "one", '{"n"'), piece("a", "one", ":1}"), piece("b", "two", '{"n":2}')],
        [piece("a", "one", '{"n"'), piece("x", None, ":1}"), piece("b", "two", '{"n":2}')],
        [piece("a", "one", '{"n"'), piece("b", "two", '{"n"'), piece("a", None, ":1}"), piece("b", None, ":2}")],
        [piece("a", "o", ""), piece(None, "ne", ""), piece(None, None, '{"n":1}'), piece("b", "two", '{"n":2}', 1)],
        [piece("a", "one", '{"n":1}', None), piece("b", "two", '{"n":', None), piece(None, None, "2}", None)],
        [piece("a", "one", '{"n":', "0"), piece("b", "two", '{"n":2}', "1"), piece(None, None, "1}", "0")],
        [piece("a", "one", '{"n":', 1), piece("b", "two", '{"n":2}', 2), piece(None, None, "1}", 1)],
    ],
    ids=[
        *("one index", "grown", "named again", "ids made up", "by turns", "name in pieces"),
        *("no index", "index as text", "from 1"),
    ],
)  # fmt: skip
async def test_tool_calls_are_told_apart_however_they_are_numbered(pieces: list[bytes], openai_chatd: Any) -> None:
    async with openai_chatd([fakes.stream(*pieces, delta_event("tool_calls"), DONE)]) as (chatd, _):
        _, response = await chatd.stream()

    assert [(call.id, call.name, call.arguments_json) for call in response.tool_calls] == [
        ("a", "one", '{"n":1}'),
        ("b", "two", '{"n":2}'),
    ]


async def test_calls_without_ids_that_share_an_index_are_two(openai_chatd: Any) -> None:
    pieces = [piece("", "one", '{"n":1}'), piece("", "one", '{"n":2}')]
    async with openai_chatd([fakes.stream(*pieces, delta_event("tool_calls"), DONE)]) as (chatd, _):
        _, response = await chatd.stream()

    assert [call.arguments_json for call in response.tool_calls] == ['{"n":1}', '{"n":2}']


BIG = '{"n":123456789012345678901234567890}'


async def test_integers_of_a_tools_input_keep_every_digit(openai_chatd: Any) -> None:
    call = '{"id":"a","type":"function","function":{"name":"one","arguments":BIG}}'.replace("BIG", BIG)
    body = '{"choices":[{"message":{"content":null,"tool_calls":[CALL]},"finish_reason":"tool_calls"}]}'
    chunk = '{"choices":[{"delta":{"tool_calls":[CALL]},"finish_reason":"tool_calls"}]}'
    answered, _, streamed = await both_ways(
        openai_chatd, respond(200, body.replace("CALL", call)), [event(chunk.replace("CALL", call))]
    )

    for response in (answered, streamed):
        assert response.tool_calls[0].arguments_json == BIG


async def test_the_first_form_of_a_tool_call_is_read(openai_chatd: Any) -> None:
    call = {"name": "one", "arguments": "{}"}
    whole = respond(200, completion(None, finish_reason="function_call", function_call=call))
    pieces = [
        delta_event(function_call={"name": "one", "arguments": "{"}),
        delta_event(function_call={"arguments": "}"}),
    ]
    answered, _, streamed = await both_ways(openai_chatd, whole, [*pieces, delta_event("function_call"), DONE])

    for response in (answered, streamed):
        assert [(each.name, each.arguments_json) for each in response.tool_calls] == [("one", "{}")]


@pytest.mark.parametrize(
    ("content", "reasoning"),
    [
        ("<think>hm</think>" + JSON, "hm"),
        ("<thinking>hm</thinking>\n\n" + JSON, "hm"),
        ("\n <THINK>hm</Think>" + JSON, "hm"),
        ("[THINK]hm[/THINK]" + JSON, "hm"),
        ("◁think▷hm◁/think▷" + JSON, "hm"),
        ("<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>" + JSON, "hm"),
        ("<seed:think>hm</seed:think>" + JSON, "hm"),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>" + JSON, "hm"),
        ('<think>Draft: {"ok": false} no, wait</think>' + JSON, 'Draft: {"ok": false} no, wait'),
        ("<think></think>" + JSON, ""),
        ("<think>a</think><think>b</think>" + JSON, "ab"),
        ('<think lang="en">hm</think>' + JSON, "hm"),
        ("<think >hm</think >" + JSON, "hm"),
        ("<thinking>hm</think>" + JSON, "hm"),
        ("<think>hm</thinking>" + JSON, "hm"),
        (JSON, ""),
    ],
)
async def test_thinking_at_the_head_of_the_text_is_reasoning(content: str, reasoning: str, openai_chatd: Any) -> None:
    events = [*(delta_event(content=each) for each in content), delta_event("stop"), DONE]
    answered, pieces, streamed = await both_ways(openai_chatd, respond(200, completion(content)), events)

    for response in (answered, streamed):
        assert (response.text, response.reasoning) == (JSON, reasoning)
        assert not response.text_from_reasoning
    assert kinds(pieces) == (JSON, reasoning)


@pytest.mark.parametrize("content", ['<think>Draft: {"ok": false}', "<think>", '<think>\n{"ok": true}\n'])
async def test_thinking_that_never_ends_leaves_no_answer(content: str, openai_chatd: Any) -> None:
    events = [*(delta_event(content=each) for each in content), delta_event("stop"), DONE]
    answered, pieces, streamed = await both_ways(openai_chatd, respond(200, completion(content)), events)

    for response in (answered, streamed):
        assert (response.text, response.reasoning) == ("", content.removeprefix("<think>"))
    assert kinds(pieces)[0] == ""


@pytest.mark.parametrize(
    ("content", "reasoning"),
    [
        ('a {"ok": 1} b</Think>\n' + JSON, 'a {"ok": 1} b'),
        ('a</think>b {"ok": 1}</think>' + JSON, 'a</think>b {"ok": 1}'),
        ('<think>a<think>b</think>c {"ok": 1}</think>' + JSON, 'a<think>bc {"ok": 1}'),
        (JSON + '\n<think>hm {"ok": 1}</think>', 'hm {"ok": 1}'),
        (JSON + '<think>hm {"ok": 1}', 'hm {"ok": 1}'),
    ],
    ids=["mixed case", "closed twice", "nested", "after the answer", "after the answer, open"],
)
async def test_a_draft_is_no_answer_wherever_it_stands(content: str, reasoning: str, openai_chatd: Any) -> None:
    events = [*(delta_event(content=each) for each in content), delta_event("stop"), DONE]
    answered, _, streamed = await both_ways(openai_chatd, respond(200, completion(content)), events)

    for response in (answered, streamed):
        assert (response.text, response.reasoning) == (JSON, reasoning)


async def test_thinking_that_the_prompt_opened_is_no_answer(openai_chatd: Any) -> None:
    content = 'Draft: {"ok": false} no, wait\n</think>\n\n' + JSON
    events = [*(delta_event(content=each) for each in content), delta_event("stop"), DONE]
    answered, pieces, streamed = await both_ways(openai_chatd, respond(200, completion(content)), events)

    for response in (answered, streamed):
        assert (response.text, response.reasoning) == (JSON, 'Draft: {"ok": false} no, wait\n')
    # A stream cannot know before the mark comes; its last event does.
    assert kinds(pieces)[0] == content


@pytest.mark.parametrize(
    "content",
    [
        *('{"body":"a </think> b"}', "<thinker>no</thinker>", "<b>bold</b>", "[1, 2]", "< 3", "  ", "I <think> so"),
        *('Here: {"body": "a </think> b"}', '{"a":1}\n{"b":"</think>"}'),
        '```json\n{"body": "<think>a</think> b"}\n```',
    ],
)
async def test_text_that_is_no_thinking_stays_as_it_is(content: str, openai_chatd: Any) -> None:
    events = [*(delta_event(content=each) for each in content), delta_event("stop"), DONE]
    answered, pieces, streamed = await both_ways(openai_chatd, respond(200, completion(content)), events)

    for response in (answered, streamed):
        assert (response.text, response.reasoning) == (content, "")
    assert kinds(pieces)[0] == content


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
@pytest.mark.parametrize("thoughts", [JSON, f"\n{JSON}\n", f"```json\n{JSON}\n```", f"<think>hm</think>{JSON}"])
async def test_json_that_came_as_reasoning_alone_is_the_answer_and_marked(
    field: str, thoughts: str, openai_chatd: Any
) -> None:
    whole = respond(200, completion(None, **{field: thoughts}))
    events = [delta_event(**{field: each}) for each in thoughts]
    answered, pieces, streamed = await both_ways(openai_chatd, whole, [*events, delta_event("stop"), DONE])

    for response in (answered, streamed):
        assert response.text == JSON
        assert response.text_from_reasoning
    assert kinds(pieces) == (JSON, thoughts)


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ({"content": None, "reasoning_content": f"Draft: {JSON} no, wait"}, "stop"),
        ({"content": None, "reasoning_content": JSON}, "length"),
        ({"content": "<think>hm</think>", "reasoning_content": JSON}, "stop"),
        ({"content": f"<think>{JSON}</think>"}, "stop"),
        ({"content": f"{JSON}</think>"}, "stop"),
        ({"content": "Done.", "reasoning_content": JSON}, "stop"),
        ({"content": None, "reasoning_content": "[1]"}, "stop"),
    ],
    ids=["a draft", "cut short", "thinking in the text", "all of it thought", "unopened", "other text", "no object"],
)
async def test_reasoning_is_no_answer_where_it_may_be_a_draft(message: Any, word: str, openai_chatd: Any) -> None:
    whole = respond(200, {"choices": [{"message": message, "finish_reason": word}]})
    answered, _, streamed = await both_ways(openai_chatd, whole, [delta_event(**message), delta_event(word), DONE])

    for response in (answered, streamed):
        assert response.text in {"", "Done."}
        assert not response.text_from_reasoning


async def test_the_halves_of_a_character_in_two_events_are_joined(openai_chatd: Any) -> None:
    def piece(escaped: str, field: str = "content") -> bytes:
        return b'data: {"choices":[{"index":0,"delta":{"%s":"%s"},"finish_reason":null}]}\n\n' % (
            field.encode(),
            escaped.encode(),
        )

    events = [
        piece(r"hm \ud83d", "reasoning"),
        piece(r"\ude00", "reasoning"),
        piece(r"a\ud83d"),
        piece(r"\ude00b"),
        piece(r"\ud83dc"),
        piece(r"\ud83d"),
        delta_event("stop"),
    ]
    async with openai_chatd([fakes.stream(*events)]) as (chatd, _):
        pieces, response = await chatd.stream()

    assert (response.text, response.reasoning) == ("a😀b\ufffdc\ufffd", "hm 😀")
    assert kinds(pieces) == (response.text, response.reasoning)


async def test_halves_in_the_arguments_of_a_tool_are_joined_too(openai_chatd: Any) -> None:
    call = r'{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"one","arguments":"ARGS"}}]}}]}'
    halves = [event(call.replace("ARGS", half)) for half in (r"\"\ud83d", r"\ude00\"")]
    async with openai_chatd([fakes.stream(*halves, delta_event("tool_calls"))]) as (chatd, _):
        _, response = await chatd.stream()

    assert response.tool_calls[0].arguments_json == '"😀"'


def sse_as(content_type: str, *events: bytes) -> Any:
    return respond(200, b"".join(events), content_type=content_type)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/octet-stream", "text/html"])
@pytest.mark.parametrize("head", [b"", b": hello\n\n", b"\n\n", b"\r\n", BOM])
async def test_events_are_read_under_any_content_type(content_type: str, head: bytes, openai_chatd: Any) -> None:
    answer = sse_as(content_type, head, *fakes.openai_events("Once ", "more."))
    async with openai_chatd([answer]) as (chatd, _):
        pieces, streamed = await chatd.stream()
        answered = await chatd.ask()

    assert kinds(pieces)[0] == streamed.text == answered.text == "Once more."


async def test_events_in_answer_to_a_request_that_was_no_stream_are_read(openai_chatd: Any) -> None:
    async with openai_chatd([fakes.stream(*fakes.openai_events("Once ", "more."))]) as (chatd, _):
        response = await chatd.ask()

    assert response.text == "Once more."
    assert response.usage.input_tokens == 12


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
async def test_a_whole_answer_to_a_wish_for_a_stream_is_read(content_type: str, openai_chatd: Any) -> None:
    async with openai_chatd([respond(200, completion("Whole."), content_type=content_type)]) as (chatd, _):
        pieces, response = await chatd.stream()

    assert pieces == [("text_delta", "Whole.")]
    assert response.text == "Whole."


async def test_a_stream_under_a_wrong_type_is_handed_on_as_it_comes(openai_chatd: Any) -> None:
    heard = asyncio.Event()

    async def behave(exchange: Any) -> None:
        head = fakes.sse_head().replace(b"text/event-stream", b"text/plain")
        await exchange.send(head, fakes.chunk(delta_event(content="Once ")))
        await heard.wait()
        await exchange.send(fakes.chunk(delta_event(content="more.") + delta_event("stop") + DONE), fakes.LAST_CHUNK)

    async with openai_chatd([behave]) as (chatd, _):
        request = chatd_pb2.CompleteRequest(messages=[chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content="Hi.")])
        async for each in chatd.client.stream_complete(request, timeout_s=5):
            if each.WhichOneof("event") == "text_delta":
                heard.set()
            else:
                assert each.response.text == "Once more."


def reset_after(*events: bytes) -> Any:
    async def then(exchange: Any) -> None:
        exchange.reset()

    return fakes.stream(*events, end=False, then=then)


async def test_a_reset_after_the_finish_reason_takes_nothing_from_the_answer(openai_chatd: Any) -> None:
    async with openai_chatd([reset_after(delta_event(content="All."), delta_event("stop"))]) as (chatd, endpoint):
        _, streamed = await chatd.stream()
        answered = await chatd.ask()

    assert streamed.text == answered.text == "All."
    assert len(endpoint.exchanges) == 2


async def test_a_reset_before_the_finish_reason_breaks_the_answer_off(openai_chatd: Any) -> None:
    async with openai_chatd([reset_after(delta_event(content="All"))]) as (chatd, _):
        _, fault = await chatd.stream()

    assert fault.reason == "PROVIDER_FAILED"


async def test_silence_after_the_finish_reason_costs_the_caller_no_answer(openai_chatd: Any) -> None:
    answer = fakes.stream(delta_event(content="All."), delta_event("stop"), end=False, then=fakes.hang())
    async with openai_chatd([answer]) as (chatd, _):
        _, response = await chatd.stream(timeout_s=1.5)

    assert response.text == "All."


async def test_the_last_event_may_lack_its_blank_line(openai_chatd: Any) -> None:
    async with openai_chatd([fakes.stream(delta_event(content="All."), delta_event("stop").rstrip())]) as (chatd, _):
        _, response = await chatd.stream()

    assert response.text == "All."


async def test_events_without_blank_lines_between_them_are_read(openai_chatd: Any) -> None:
    lines = b"".join(each[:-1] for each in (delta_event(content="All."), delta_event("stop"), DONE))
    for end in (b"\n", b""):
        async with openai_chatd([fakes.stream(lines + end)]) as (chatd, _):
            _, response = await chatd.stream()

        assert (response.text, response.finish_reason) == ("All.", chatd_pb2.FINISH_REASON_STOP)


@pytest.mark.parametrize("late", [b"data: {oops\n\n", event("[done]"), event({"choices": "none"}), event("bye")])
async def test_what_follows_a_whole_answer_takes_nothing_from_it(late: bytes, openai_chatd: Any) -> None:
    async with openai_chatd([fakes.stream(delta_event(content="All."), delta_event("stop"), late)]) as (chatd, _):
        _, response = await chatd.stream()

    assert response.text == "All."


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html>log in</html>"),
        ("application/json", b'"A"'),
        ("application/json", b""),
        ("application/json", b'{"choices":[]}'),
        ("application/json", b'{"choices":[null]}'),
        ("application/json", b'{"choices":[{"message":{"content":5}}]}'),
        ("text/event-stream", b""),
        ("text/event-stream", b"data: hello\n\n"),
    ],
)
async def test_what_is_no_answer_is_a_fault_that_may_be_billed(
    content_type: str, body: bytes, openai_chatd: Any
) -> None:
    async with openai_chatd([respond(200, body, content_type=content_type)]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.code == "ABORTED"
    assert len(endpoint.exchanges) == 1


@pytest.mark.parametrize("error", [None, {}, "", False, []])
async def test_an_empty_error_beside_an_answer_is_none(error: Any, openai_chatd: Any) -> None:
    async with openai_chatd([respond(200, {**completion("Hello."), "error": error})]) as (chatd, _):
        assert (await chatd.ask()).text == "Hello."


@pytest.mark.parametrize("pieces", [[b"\n" * 300], [b"  \n", b" \n", b" "]], ids=["at once", "slowly"])
async def test_white_space_that_keeps_a_connection_alive_is_no_part_of_the_answer(
    pieces: list[bytes], openai_chatd: Any
) -> None:
    body = json.dumps(completion("Hello.")).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = fakes.raw(head, *map(fakes.chunk, pieces), fakes.chunk(body), fakes.LAST_CHUNK)
    async with openai_chatd([answer]) as (chatd, _):
        assert (await chatd.ask()).text == "Hello."


@pytest.mark.parametrize("beat", [b"data:\n\n", b"data: \n\n", b"event: ping\ndata: {}\n\n", b": still here\n\n"])
async def test_heartbeats_are_no_part_of_an_answer(beat: bytes, openai_chatd: Any) -> None:
    events = fakes.openai_events("Hello.")
    async with openai_chatd([fakes.stream(beat, *events[:2], beat, *events[2:])]) as (chatd, _):
        _, response = await chatd.stream()

    assert response.text == "Hello."


RATE = {"message": "slow down", "code": 429}


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None}, None])
async def test_an_error_in_a_choice_is_read_as_one_and_repeated_as_such(message: Any, openai_chatd: Any) -> None:
    choice = {"index": 0, "message": message, "error": RATE, "finish_reason": "error"}
    async with openai_chatd([respond(200, {"choices": [choice]})]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == "PROVIDER_RATE_LIMITED"
    assert len(endpoint.exchanges) == 3


async def test_an_error_in_a_choice_after_text_may_have_been_billed(openai_chatd: Any) -> None:
    choice = {"index": 0, "message": {"content": "Hel"}, "error": RATE, "finish_reason": "error"}
    async with openai_chatd([respond(200, {"choices": [choice]})]) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.code == "ABORTED"
    assert len(endpoint.exchanges) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"error": RATE},
        {"object": "error", "message": "slow down", "code": 429},
        {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
        [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}],
        {"message": "Rate limit reached", "code": 429},
        {"choices": [], "error": RATE},
    ],
)
async def test_an_error_with_status_200_is_read_in_any_form(body: Any, openai_chatd: Any) -> None:
    answered, _, streamed = await both_ways(
        openai_chatd, respond(200, body), [event(body), DONE], retry={"max_retries": 0}
    )

    assert (answered.reason, streamed.reason) == ("PROVIDER_RATE_LIMITED", "PROVIDER_RATE_LIMITED")


@pytest.mark.parametrize(
    "late",
    [
        event({"error": {"code": 429, "message": "slow down"}}),
        event({"error": {"code": 503, "message": "overloaded"}}),
        event({"error": {"code": 529, "type": "overloaded_error", "message": "Overloaded"}}),
        event({"message": "boom"}, "error"),
        event("boom", "error"),
        event({"object": "error", "message": "boom", "code": 429}),
        event({"Message": "boom"}, "modelStreamErrorException"),
        event({"Message": "boom"}),
        b'error: {"code": 500, "message": "boom"}\n\n',
        b'{"error": {"message": "boom"}}\n\n',
        chunk_of({"index": 0, "delta": {"content": ""}, "error": RATE, "finish_reason": "error"}),
    ],
    ids=[
        *("429", "503", "529", "bare message", "no JSON", "vLLM", "Bedrock", "Bedrock without a name"),
        *("llama.cpp", "without data", "in a choice"),
    ],
)
@pytest.mark.parametrize("listening", [True, False])
async def test_an_error_after_text_is_aborted_whatever_its_words(
    late: bytes, listening: bool, openai_chatd: Any
) -> None:
    answer = fakes.stream(delta_event(content="Once"), late, DONE)
    async with openai_chatd([answer]) as (chatd, endpoint):
        if listening:
            pieces, fault = await chatd.stream()
            assert pieces == [("text_delta", "Once")]
        else:
            with pytest.raises(Fault) as caught:
                await chatd.ask()
            fault = caught.value

    assert fault.code == "ABORTED"
    assert len(endpoint.exchanges) == 1


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": ["Hel", "lo."]}, "Hello.", ""),
        ({"content": {"type": "text", "text": "Hello."}}, "Hello.", ""),
        ({"content": [{"type": "output_text", "text": "Hello."}]}, "Hello.", ""),
        ({"content": [{"type": "text", "text": {"value": "Hello."}}]}, "Hello.", ""),
        ({"content": {"ok": True}}, JSON, ""),
        ({"content": [{"type": "reasoning", "text": "R"}, {"type": "text", "text": "A"}]}, "A", "R"),
        ({"content": [{"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "A"}]}, "A", ""),
        ({"content": "A", "reasoning_details": [{"type": "reasoning.text", "text": "R"}]}, "A", "R"),
    ],
)
async def test_content_in_parts_is_read_whatever_they_are_called(
    message: Any, text: str, reasoning: str, openai_chatd: Any
) -> None:
    whole = respond(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
    answered, _, streamed = await both_ways(openai_chatd, whole, [delta_event(**message), delta_event("stop")])

    for response in (answered, streamed):
        assert (response.text, response.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
        ({"content": "I cannot.", "refusal": "I cannot."}, "I cannot."),
        ({"content": [{"type": "refusal", "refusal": "I cannot."}]}, "I cannot."),
    ],
)
async def test_a_refusal_is_an_answer_that_says_so(message: Any, text: str, openai_chatd: Any) -> None:
    whole = respond(200, {"choices": [{"message": message, "finish_reason": "stop"}]})
    answered, _, streamed = await both_ways(openai_chatd, whole, [delta_event(**message), delta_event("stop")])

    for response in (answered, streamed):
        assert response.text == text
        assert response.finish_reason == chatd_pb2.FINISH_REASON_REFUSAL


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"usage": {"input_tokens": 12, "output_tokens": 7}}, (12, 7, 0, 0)),
        ({"x_groq": {"usage": {"prompt_tokens": 12, "completion_tokens": 7}}}, (12, 7, 0, 0)),
        ({"usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 7}}, (12, 7, 0, 0)),
        ({"prompt_eval_count": 12, "eval_count": 7}, (12, 7, 0, 0)),
        ({"usage": {"prompt_tokens": 12, "completion_tokens": 7, "prompt_cache_hit_tokens": 4}}, (12, 7, 4, 0)),
        ({"usage": {"prompt_tokens": 12, "completion_tokens": 7, "cached_tokens": 4}}, (12, 7, 4, 0)),
        # Reasoning that stands in the total alone.
        (
            {
                "usage": {
                    "prompt_tokens": 12,
                    "completion_tokens": 7,
                    "total_tokens": 24,
                    "completion_tokens_details": {"reasoning_tokens": 5},
                }
            },
            (12, 12, 0, 5),
        ),
        ({"usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 24}}, (12, 12, 0, 5)),
        ({"usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}}, (12, 7, 0, 0)),
        ({"usage": []}, (0, 0, 0, 0)),
    ],
)
async def test_usage_is_found_where_vendors_put_it(usage: Any, expected: tuple[int, ...], openai_chatd: Any) -> None:
    whole = respond(200, {"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}], **usage})
    answered, _, streamed = await both_ways(
        openai_chatd, whole, [delta_event(content="A"), delta_event("stop"), chunk_of(**usage), DONE]
    )

    for response in (answered, streamed):
        told = response.usage
        assert expected == (
            told.input_tokens,
            told.output_tokens,
            told.cached_input_tokens,
            told.reasoning_tokens,
        )


async def test_usage_in_the_choice_of_a_stream_is_found(openai_chatd: Any) -> None:
    last = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 12, "completion_tokens": 7}}
    async with openai_chatd([fakes.stream(delta_event(content="A"), chunk_of(last), DONE)]) as (chatd, _):
        _, response = await chatd.stream()

    assert (response.usage.input_tokens, response.usage.output_tokens) == (12, 7)


async def test_a_blocked_prompt_without_choices_is_content_filtered(openai_chatd: Any) -> None:
    body = {"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    async with openai_chatd([respond(200, body)]) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == "CONTENT_FILTERED"


async def test_a_stream_in_the_form_of_whole_answers_is_read_once(openai_chatd: Any) -> None:
    whole = {"index": 0, "message": {"content": "Hello."}, "finish_reason": "stop"}
    async with openai_chatd([fakes.stream(chunk_of(whole), DONE)]) as (chatd, _):
        _, alone = await chatd.stream()
    async with openai_chatd([fakes.stream(delta_event(content="Hello."), chunk_of(whole), DONE)]) as (chatd, _):
        _, repeated = await chatd.stream()

    assert alone.text == repeated.text == "Hello."


# What is no error, and what is no answer ------------------------------------------------------------------------------

NO_ERRORS = [
    {"code": 0, "message": ""},
    {"code": "0", "message": "success", "type": None},
    {"code": 200, "message": "OK"},
    {"code": None, "message": None},
    "none",
]


@pytest.mark.parametrize("nothing", NO_ERRORS)
async def test_an_error_that_says_nothing_takes_nothing_from_the_answer_beside_it(
    nothing: Any, openai_chatd: Any
) -> None:
    whole = {**completion("Hello."), "error": nothing}
    choice = {"index": 0, "delta": {"content": "Hello."}, "finish_reason": "stop", "error": nothing}
    answered, _, streamed = await both_ways(openai_chatd, respond(200, whole), [chunk_of(choice, error=nothing), DONE])

    assert answered.text == streamed.text == "Hello."


@pytest.mark.parametrize("error", [{"code": 0, "message": "overloaded"}, {"type": "server_error"}, "broken"])
async def test_an_error_that_says_anything_is_one(error: Any, openai_chatd: Any) -> None:
    whole = {**completion("Hello."), "error": error}
    answered, _, streamed = await both_ways(openai_chatd, respond(200, whole), [event({"error": error}), DONE])

    assert isinstance(answered, Fault)
    assert isinstance(streamed, Fault)


@pytest.mark.parametrize(
    "late",
    [
        event({"error": {"message": "usage failed", "code": 500}}),
        event({"message": "usage failed"}, "error"),
        chunk_of({"index": 0, "delta": {}, "finish_reason": "error", "error": {"message": "late"}}),
    ],
)
async def test_an_error_after_the_finish_reason_takes_nothing_from_the_answer(late: bytes, openai_chatd: Any) -> None:
    events = [delta_event(content="Hello."), delta_event("stop"), late, DONE]
    async with openai_chatd([fakes.stream(*events)]) as (chatd, _):
        _, response = await chatd.stream()

    assert response.text == "Hello."


async def test_an_error_after_pieces_and_before_the_finish_reason_is_aborted(openai_chatd: Any) -> None:
    events = [delta_event(content="Hel"), event({"error": {"message": "broken", "code": 400}}), DONE]
    async with openai_chatd([fakes.stream(*events)]) as (chatd, _):
        _, fault = await chatd.stream()

    assert (fault.code, fault.reason) == ("ABORTED", "PROVIDER_FAILED")


@pytest.mark.parametrize("status", [200, 201, 202, 203])
async def test_a_good_answer_is_read_under_every_status_of_success(status: int, openai_chatd: Any) -> None:
    async with openai_chatd([respond(status, completion("Hello."))]) as (chatd, _):
        assert (await chatd.ask()).text == "Hello."


OLLAMA = [
    {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": "lo."}, "done": True, "done_reason": "stop"},
]


@pytest.mark.parametrize("lines", [OLLAMA, OLLAMA[1:]], ids=["lines", "whole"])
@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/json"])
async def test_ollamas_own_form_is_refused_with_the_base_url_that_is_right(
    content_type: str, lines: Any, openai_chatd: Any
) -> None:
    body = "".join(json.dumps(line) + "\n" for line in lines)
    async with openai_chatd([respond(200, body, content_type)]) as (chatd, _):
        for streamed in (False, True):
            if streamed:
                _, fault = await chatd.stream()
                assert fault.reason == "PROVIDER_BAD_ANSWER"
            else:
                with pytest.raises(Fault) as caught:
                    await chatd.ask()
                assert caught.value.reason == "PROVIDER_BAD_ANSWER"
            assert "base_url must end in /v1" in str(chatd.last_line["upstream"])


async def test_lines_of_openais_own_pieces_are_no_whole_answer(openai_chatd: Any) -> None:
    body = "".join(json.dumps(completion(word)) + "\n" for word in ("Hel", "lo."))
    async with openai_chatd([respond(200, body)]) as (chatd, _):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == "PROVIDER_BAD_ANSWER"


ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("text", "answer", "thinking"),
    [
        (f"{ANALYSIS}Hm {{}}<|end|><|start|>assistant{FINAL}{JSON}", JSON, "Hm {}"),
        (f"{ANALYSIS}Hm {{}}{FINAL}{JSON}", JSON, "Hm {}"),
        (f"<|start|>assistant{ANALYSIS}Hm<|end|>{FINAL}{JSON}", JSON, "Hm"),
        (f"Hm<|end|><|start|>assistant{FINAL}{JSON}", JSON, "Hm"),
        (f"Hm</reasoning>\n{JSON}", JSON, "Hm"),
        ('{"a": "</reasoning> <|channel|>final<|message|>"}', '{"a": "</reasoning> <|channel|>final<|message|>"}', ""),
    ],
)
async def test_channels_and_reasoning_without_its_opening_mark_are_reasoning(
    text: str, answer: str, thinking: str, openai_chatd: Any
) -> None:
    events = [*(delta_event(content=each) for each in text), delta_event("stop"), DONE]
    answered, _, streamed = await both_ways(openai_chatd, respond(200, completion(text)), events)

    assert (answered.text, answered.reasoning) == (streamed.text, streamed.reasoning) == (answer, thinking)
