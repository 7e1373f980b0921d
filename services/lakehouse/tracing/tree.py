"""Rebuilds the trees of traces from exported spans, and draws them for a terminal.

It imports neither `langfuse` nor grpc.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from lakehouse.tracing.otlp import ExportedSpan

_STATUS_CHARS_MAX: Final = 100
_NAME_CHARS_MAX: Final = 80


@dataclass(slots=True)
class SpanNode:
    """A span and what hangs under it, in order of start."""

    span: ExportedSpan
    children: list[SpanNode] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TraceTree:
    """One trace.

    Attributes:
        trace_id: 32 hex digits.
        tops: The spans without a parent, then those whose parent was not exported (such as a caller's own span),
            each in order of start.
    """

    trace_id: str
    tops: tuple[SpanNode, ...]

    @property
    def spans(self) -> tuple[ExportedSpan, ...]:
        """All spans, each before its children."""
        return tuple(node.span for _, node in walk(self.tops))

    @property
    def roots(self) -> tuple[ExportedSpan, ...]:
        """The spans without a parent."""
        return tuple(node.span for node in self.tops if node.span.parent_span_id is None)

    @property
    def orphans(self) -> tuple[ExportedSpan, ...]:
        """The spans whose parent is not among the exported ones."""
        return tuple(node.span for node in self.tops if node.span.parent_span_id is not None)

    @property
    def session_root(self) -> ExportedSpan | None:
        """The span that a session began with, wherever it hangs: the first agent at the top."""
        return next((node.span for node in self.tops if node.span.type == "agent"), None)

    def as_json(self) -> dict[str, Any]:
        """Return `{"trace_id", "spans": [...]}`, a mapping that `json.dumps` takes."""
        return {"trace_id": self.trace_id, "spans": [span.as_json() for span in self.spans]}


def build_trees(spans: Iterable[ExportedSpan]) -> list[TraceTree]:
    """Group spans by trace, in the order in which the traces appear first.

    A span that was sent twice counts once, the later one. Spans that are each other's ancestors, which nothing
    of ours sends, are cut loose at the earliest of them, so that every span stands in the tree exactly once.
    """
    by_trace: dict[str, dict[str, SpanNode]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, {})[span.span_id] = SpanNode(span)
    return [TraceTree(trace_id, _link(nodes)) for trace_id, nodes in by_trace.items()]


def _link(nodes: dict[str, SpanNode]) -> tuple[SpanNode, ...]:
    ordered = sorted(nodes.values(), key=lambda node: (node.span.start_unix_ns, node.span.span_id))
    roots: list[SpanNode] = []
    orphans: list[SpanNode] = []
    for node in ordered:
        parent_id = node.span.parent_span_id
        if parent_id is None:
            roots.append(node)
        elif parent_id in nodes and parent_id != node.span.span_id:
            nodes[parent_id].children.append(node)
        else:
            orphans.append(node)
    reached = {node.span.span_id for _, node in walk((*roots, *orphans))}
    for node in ordered:
        if node.span.span_id not in reached:
            parent = nodes[node.span.parent_span_id or ""]
            parent.children = [child for child in parent.children if child is not node]
            orphans.append(node)
            reached.update(below.span.span_id for _, below in walk((node,)))
    return (*roots, *orphans)


def walk(tops: Iterable[SpanNode]) -> Iterator[tuple[int, SpanNode]]:
    """Yield `(depth, node)` for each node before its children. It does not recurse: depth is the sender's."""
    pending = [(0, node) for node in reversed(tuple(tops))]
    while pending:
        depth, node = pending.pop()
        yield depth, node
        pending.extend((depth + 1, child) for child in reversed(node.children))


def render_tree(tree: TraceTree) -> str:
    """Return the tree as lines of plain text: name, type, level, duration, then what the type is about.

    Control characters are replaced: names and messages come from models, and a terminal obeys escapes.
    """
    lines = [f"trace {tree.trace_id}"]
    pending = [(node, "", "", "") for node in reversed(tree.tops)]
    while pending:
        node, margin, branch, below = pending.pop()
        lines.append(f"{margin}{branch}{_label(node.span)}")
        last = len(node.children) - 1
        pending.extend(
            (child, margin + below, "└─ " if index == last else "├─ ", "   " if index == last else "│  ")
            for index, child in reversed(list(enumerate(node.children)))
        )
    return "\n".join(lines)


def _label(span: ExportedSpan) -> str:
    parts = [_plain(span.name, _NAME_CHARS_MAX), _plain(span.type, _NAME_CHARS_MAX)]
    if span.level not in ("", "DEFAULT"):
        parts.append(_plain(span.level, _NAME_CHARS_MAX))
    parts.append(_duration(span.duration_ms))
    parts.extend(_generation_facts(span))
    if span.status_message:
        parts.append(f"“{_plain(span.status_message, _STATUS_CHARS_MAX)}”")
    return "  ".join(parts)


def _generation_facts(span: ExportedSpan) -> list[str]:
    facts: list[str] = []
    model = span.attributes.get("langfuse.observation.model.name")
    if isinstance(model, str) and model:
        facts.append(_plain(model, _NAME_CHARS_MAX))
    usage = _json_object(span.attributes.get("langfuse.observation.usage_details"))
    tokens_in, tokens_out = usage.get("input"), usage.get("output")
    if isinstance(tokens_in, int) and isinstance(tokens_out, int):
        facts.append(f"{tokens_in}→{tokens_out} tokens")
    first_token = _first_token(span)
    if first_token:
        facts.append(first_token)
    return facts


def _first_token(span: ExportedSpan) -> str:
    moment = span.attributes.get("langfuse.observation.completion_start_time")
    if not isinstance(moment, str):
        return ""
    try:
        seconds = datetime.fromisoformat(moment.strip('"')).timestamp()
    except (ValueError, OverflowError):
        return ""
    return f"first token {_duration(max(seconds * 1_000 - span.start_unix_ns / 1_000_000, 0.0))}"


def _json_object(value: object) -> dict[str, Any]:
    if not isinstance(value, str):
        return {}
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _duration(duration_ms: float) -> str:
    if duration_ms >= 1_000:
        return f"{duration_ms / 1_000:.2f} s"
    return f"{duration_ms:.1f} ms" if duration_ms < 10 else f"{duration_ms:.0f} ms"


def _plain(text: str, chars_max: int) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text[: chars_max + 1])
    return f"{shown[: chars_max - 1]}…" if len(shown) > chars_max else shown
