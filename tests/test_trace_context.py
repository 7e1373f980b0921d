"""Header names, id rules and what travels on a hop."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st

import lakehouse
from lakehouse import trace_context as tc

NATIVE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{NATIVE}-{SPAN}-01"


def root(**headers: str | bytes) -> tc.TraceContext:
    return tc.read_root_context(metadata(headers))


def hop(**headers: str | bytes) -> tc.TraceContext:
    return tc.read_hop_context(metadata(headers))


def metadata(headers: dict[str, str | bytes]) -> list[tuple[str, str | bytes]]:
    names = {"trace": tc.TRACE_ID_HEADER, "parent": tc.TRACEPARENT_HEADER, "session": tc.SESSION_ID_HEADER}
    return [(names[key], value) for key, value in headers.items()]


def test_a_native_id_is_kept_and_makes_a_root_without_a_parent() -> None:
    assert root(trace=NATIVE) == tc.TraceContext(trace_id=NATIVE)


@pytest.mark.parametrize(
    "sent", [NATIVE.upper(), str(uuid.UUID(NATIVE)), str(uuid.UUID(NATIVE)).upper(), NATIVE.encode()]
)
def test_a_uuid_or_upper_case_is_normalised_and_is_not_a_mapped_id(sent: str | bytes) -> None:
    assert root(trace=sent) == tc.TraceContext(trace_id=NATIVE)


@pytest.mark.parametrize("sent", ["order-7 / Toledo", "x", "~" * 200, NATIVE[:-1], f"{{{uuid.UUID(NATIVE)}}}"])
def test_another_printable_string_maps_to_its_sha256_and_is_kept(sent: str) -> None:
    context = root(trace=sent)
    assert context.trace_id == hashlib.sha256(sent.encode()).hexdigest()[:32]
    assert context.caller_trace == sent
    assert not context.warnings


def test_a_mapped_id_is_what_langfuse_makes_of_the_same_seed() -> None:
    from langfuse import Langfuse

    assert root(trace="order-7").trace_id == Langfuse.create_trace_id(seed="order-7")


@pytest.mark.parametrize(
    "sent", ["", "0" * 32, str(uuid.UUID(int=0)), "y" * 201, "a\nb", "a\x7f", "Toledo é", b"\xff\xfe", "a\x00"]
)
def test_an_unusable_id_is_ignored_with_a_warning_and_minted(sent: str | bytes) -> None:
    context = root(trace=sent)
    assert tc.is_valid_trace_id(context.trace_id)
    assert context.minted
    assert context.caller_trace is None
    assert len(context.warnings) == 1
    assert tc.TRACE_ID_HEADER in context.warnings[0]


def test_a_warning_never_repeats_what_the_caller_sent() -> None:
    context = root(trace="evil\r\nforged: line", parent="evil\r\n", session="evil\r\n")
    assert len(context.warnings) == 3
    assert not any("evil" in warning or "\n" in warning for warning in context.warnings)


def test_an_unusable_id_leaves_a_valid_traceparent_in_force() -> None:
    context = root(trace="", parent=TRACEPARENT)
    assert (context.trace_id, context.parent_span_id) == (NATIVE, SPAN)
    assert len(context.warnings) == 1


def test_a_traceparent_alone_gives_the_trace_and_the_parent() -> None:
    for context in (root(parent=TRACEPARENT), hop(parent=TRACEPARENT)):
        assert (context.trace_id, context.parent_span_id, context.minted) == (NATIVE, SPAN, False)


def test_an_agreeing_traceparent_names_the_parent() -> None:
    assert root(trace=NATIVE, parent=TRACEPARENT).parent_span_id == SPAN
    assert hop(trace=NATIVE, parent=TRACEPARENT).parent_span_id == SPAN


def test_a_traceparent_agrees_with_the_mapped_id_of_a_string() -> None:
    mapped = root(trace="order-7").trace_id
    assert root(trace="order-7", parent=f"00-{mapped}-{SPAN}-01").parent_span_id == SPAN


def test_a_disagreeing_traceparent_is_ignored_with_a_warning() -> None:
    context = root(trace=OTHER, parent=TRACEPARENT)
    assert (context.trace_id, context.parent_span_id) == (OTHER, None)
    assert len(context.warnings) == 1
    assert hop(trace=OTHER, parent=TRACEPARENT).parent_span_id == OTHER[16:]


def test_the_sampled_flag_of_a_caller_changes_nothing() -> None:
    assert root(parent=TRACEPARENT[:-2] + "00") == root(parent=TRACEPARENT)


def test_a_hop_with_the_id_alone_hangs_under_the_implied_span() -> None:
    assert hop(trace=NATIVE).parent_span_id == NATIVE[16:]
    assert hop(trace="order-7").parent_span_id == hop(trace="order-7").trace_id[16:]
    assert hop(trace="1" * 16 + "0" * 16).parent_span_id is None


def test_a_hop_without_metadata_is_minted_and_stands_alone() -> None:
    context = hop()
    assert context.minted
    assert context.parent_span_id is None


def test_of_a_repeated_key_the_first_value_counts() -> None:
    repeated = [
        (tc.TRACE_ID_HEADER, NATIVE),
        (tc.TRACE_ID_HEADER, OTHER),
        (tc.SESSION_ID_HEADER, "first"),
        (tc.SESSION_ID_HEADER, "second"),
        (tc.TRACEPARENT_HEADER, "rubbish"),
        (tc.TRACEPARENT_HEADER, TRACEPARENT),
    ]
    context = tc.read_root_context(repeated)
    assert (context.trace_id, context.session_id, context.parent_span_id) == (NATIVE, "first", None)


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (TRACEPARENT, True),
        ("01" + TRACEPARENT[2:], True),
        ("cc" + TRACEPARENT[2:] + "-more-to-come", True),
        ("01" + TRACEPARENT[2:] + "-", True),
        ("01" + TRACEPARENT[2:] + ".x", False),
        ("ff" + TRACEPARENT[2:], False),
        (TRACEPARENT + "-more", False),
        (TRACEPARENT + "\n", False),
        (TRACEPARENT[:-1], False),
        (TRACEPARENT.upper(), False),
        (" " + TRACEPARENT, False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{NATIVE}-{'0' * 16}-01", False),
        (f"00-{NATIVE}-{SPAN}-0g", False),
        (f"00-{NATIVE[:-1]}٣-{SPAN}-01", False),
        ("", False),
    ],
)
def test_traceparent_follows_the_w3c_version_rules(value: str, valid: bool) -> None:
    assert tc.parse_traceparent(value) == ((NATIVE, SPAN) if valid else None)


@pytest.mark.parametrize("session", ["", "a b", "é", "x" * 129, "a\n", b"\xff"])
def test_an_unusable_session_id_is_ignored_with_a_warning(session: str | bytes) -> None:
    context = root(session=session)
    assert context.session_id is None
    assert len(context.warnings) == 1


def test_minted_ids_are_valid_and_imply_a_span() -> None:
    for trace_id in {tc.mint_trace_id() for _ in range(1_000)}:
        assert tc.is_valid_trace_id(trace_id)
        assert tc.is_valid_span_id(tc.implied_span_id(trace_id) or "")
    assert len({tc.mint_span_id() for _ in range(1_000)}) == 1_000


def test_minting_repeats_itself_rather_than_give_an_id_without_an_implied_span(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = iter([b"\x01" * 8 + b"\x00" * 8, b"\x02" * 16, b"\x00" * 8, b"\x03" * 8])
    monkeypatch.setattr("lakehouse.trace_context.os.urandom", lambda _: next(drawn))
    assert tc.mint_trace_id() == "02" * 16
    assert tc.mint_span_id() == "03" * 8


def test_metadata_written_is_read_back() -> None:
    pairs = tc.trace_metadata(NATIVE, SPAN, "s-1")
    assert dict(pairs) == {
        tc.TRACE_ID_HEADER: NATIVE,
        tc.TRACEPARENT_HEADER: TRACEPARENT,
        tc.SESSION_ID_HEADER: "s-1",
    }
    context = tc.read_hop_context(pairs)
    assert (context.trace_id, context.parent_span_id, context.session_id) == (NATIVE, SPAN, "s-1")


def test_a_client_may_send_any_trace_string_with_its_own_span() -> None:
    pairs = tc.trace_metadata("order-7", SPAN)
    assert dict(pairs)[tc.TRACE_ID_HEADER] == "order-7"
    assert tc.read_root_context(pairs).parent_span_id == SPAN


@pytest.mark.parametrize(
    ("trace_id", "span_id", "session_id"),
    [
        ("", None, None),
        ("a\n", None, None),
        ("0" * 32, None, None),
        (NATIVE, "0" * 16, None),
        (NATIVE, SPAN.upper(), None),
        (NATIVE, None, "a b"),
    ],
)
def test_metadata_that_a_service_would_ignore_is_refused(
    trace_id: str, span_id: str | None, session_id: str | None
) -> None:
    with pytest.raises(ValueError, match="must be"):
        tc.trace_metadata(trace_id, span_id, session_id)


def test_without_a_span_of_ours_the_callers_span_travels() -> None:
    context = root(trace=NATIVE, parent=TRACEPARENT)
    assert dict(tc.forward_metadata(context, None, None))[tc.TRACEPARENT_HEADER] == TRACEPARENT
    ours = dict(tc.forward_metadata(context, "1" * 16, None))[tc.TRACEPARENT_HEADER]
    assert ours == f"00-{NATIVE}-{'1' * 16}-01"
    assert tc.TRACEPARENT_HEADER not in dict(tc.forward_metadata(root(trace=NATIVE), None, None))


header_values = st.one_of(
    st.binary(max_size=260),
    st.text(max_size=260),
    st.text(alphabet="0123456789abcdefABCDEF-", max_size=60),
    st.sampled_from([TRACEPARENT, NATIVE, "ff" + TRACEPARENT[2:], "s-1"]),
)


@campaign(150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([tc.TRACE_ID_HEADER, tc.TRACEPARENT_HEADER, tc.SESSION_ID_HEADER, "x-other"]),
            header_values,
        ),
        max_size=6,
    )
)
def test_any_bytes_in_the_headers_give_a_valid_context(pairs: list[tuple[str, str | bytes]]) -> None:
    for read in (tc.read_root_context, tc.read_hop_context):
        context = read(pairs)
        assert tc.is_valid_trace_id(context.trace_id)
        assert context.parent_span_id is None or tc.is_valid_span_id(context.parent_span_id)
        assert context.session_id is None or tc.is_valid_session_id(context.session_id)
        # What was read can be sent on and is read as the same trace by the next process.
        forwarded = tc.forward_metadata(context, None, context.session_id)
        assert tc.read_hop_context(forwarded).trace_id == context.trace_id


def test_the_module_imports_the_standard_library_alone() -> None:
    script = (
        "import sys; before = set(sys.modules); import lakehouse.trace_context; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names) - {'lakehouse'}))"
    )
    source_root = Path(lakehouse.__file__).parent.parent
    printed = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(source_root)!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert printed.strip() == "[]"
