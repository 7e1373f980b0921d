"""The figures of many sessions: one pass over ``facts``, then sums of its groups.

Definitions, the same in ``stats``, its JSON and the report:

- acceptance rate: accepted sessions of all sessions, infra errors included;
- phantom rate: attempts with a finding PHANTOM_WORKER of the attempts that validated answered (findings present);
- tokens per accepted artifact: all tokens of all sessions of the group, failed ones too, by accepted sessions;
- cost: of the sessions whose every attempt has a price (``priced``), in 10^-9 US dollars;
- cost per accepted artifact: that sum, failed sessions too, by the accepted among them;
- accepted at attempt n: the sessions that ended so, of those that made an n-th attempt;
- periods are UTC days, or ISO weeks named by their Monday, of the session's end; ``model`` is the one asked for.

A rate without anything to divide by is None.
"""

# ruff: noqa: S608 - the texts put into SQL are this module's own and quoted file names; values are parameters
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter

Period = Literal["day", "week"]

PHANTOM_CODE: Final = "PHANTOM_WORKER"

# The groups of one period, kind, provider, model, verdict, iterations and cause: some thousand where rows are millions.
_QUERY: Final = f"""
SELECT strftime(date_trunc('{{period}}', timestamp), '%Y-%m-%d') AS period, kind, provider, model, final_verdict,
    coalesce(iterations, 0), error.code, error.reason, error."where",
    count(*), coalesce(sum(input_tokens), 0)::BIGINT, coalesce(sum(output_tokens), 0)::BIGINT,
    coalesce(sum(len(list_filter(attempts, lambda a: a.findings IS NOT NULL))), 0)::BIGINT,
    coalesce(sum(len(list_filter(attempts, lambda a:
        len(list_filter(a.findings, lambda f: f.code = '{PHANTOM_CODE}')) > 0))), 0)::BIGINT,
    count(*) FILTER (WHERE grounded_in_roster), count(*) FILTER (WHERE NOT grounded_in_roster),
    coalesce(sum(duration_ms), 0)::BIGINT,
    coalesce(sum(cost_nano_usd), 0), count(cost_nano_usd)
FROM facts WHERE {{where}} GROUP BY ALL
"""

CODES_MAX: Final = 5
ATTEMPTS_MAX: Final = 100

_FINDINGS_QUERY: Final = f"""
WITH counts AS MATERIALIZED (
    SELECT period, code, count(*) AS findings FROM (
        SELECT coalesce(strftime(date_trunc('{{period}}', timestamp), '%Y-%m-%d'), '') AS period,
            unnest(flatten(list_transform(attempts, lambda a: list_transform(a.findings, lambda f: f.code)))) AS code
        FROM facts WHERE {{where}}) GROUP BY ALL),
most AS (
    SELECT code, sum(findings) AS total FROM counts GROUP BY code ORDER BY total DESC, code LIMIT {CODES_MAX})
SELECT period, coalesce(most.code, ''), sum(findings)::BIGINT FROM counts LEFT JOIN most USING (code)
GROUP BY period, most.code, most.total ORDER BY period, most.total DESC NULLS LAST, most.code
"""


@dataclass(frozen=True, slots=True)
class _Group:
    period: str | None
    kind: str | None
    provider: str | None
    model: str | None
    final_verdict: str | None
    iterations: int
    code: str | None
    reason: str | None
    where: str | None
    sessions: int
    input_tokens: int
    output_tokens: int
    checked_attempts: int
    phantom_attempts: int
    grounded: int
    ungrounded: int
    duration_ms: int
    cost_nano_usd: int
    priced: int


@dataclass(slots=True)
class Totals:
    """Sums over some sessions."""

    sessions: int = 0
    accepted: int = 0
    exhausted: int = 0
    infra_errors: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    checked_attempts: int = 0
    phantom_attempts: int = 0
    grounded: int = 0
    ungrounded: int = 0
    duration_ms: int = 0
    cost_nano_usd: int = 0
    priced: int = 0
    """Sessions whose cost is known."""
    priced_accepted: int = 0

    @property
    def acceptance_rate(self) -> float | None:
        return _ratio(self.accepted, self.sessions)

    @property
    def phantom_rate(self) -> float | None:
        return _ratio(self.phantom_attempts, self.checked_attempts)

    @property
    def tokens_per_accepted(self) -> float | None:
        return _ratio(self.input_tokens + self.output_tokens, self.accepted)

    @property
    def cost_nano_usd_per_accepted(self) -> float | None:
        return _ratio(self.cost_nano_usd, self.priced_accepted)

    @property
    def attempts_per_session(self) -> float | None:
        return _ratio(self.attempts, self.sessions)

    @property
    def duration_ms_mean(self) -> float | None:
        return _ratio(self.duration_ms, self.sessions)

    def add(self, group: _Group) -> None:
        self.sessions += group.sessions
        self.accepted += group.sessions if group.final_verdict == "accepted" else 0
        self.exhausted += group.sessions if group.final_verdict == "max_iter_exhausted" else 0
        self.infra_errors += group.sessions if group.final_verdict == "infra_error" else 0
        self.attempts += group.sessions * group.iterations
        self.input_tokens += group.input_tokens
        self.output_tokens += group.output_tokens
        self.checked_attempts += group.checked_attempts
        self.phantom_attempts += group.phantom_attempts
        self.grounded += group.grounded
        self.ungrounded += group.ungrounded
        self.duration_ms += group.duration_ms
        self.cost_nano_usd += group.cost_nano_usd
        self.priced += group.priced
        self.priced_accepted += group.priced if group.final_verdict == "accepted" else 0

    def to_dict(self) -> dict[str, Any]:
        rates = (
            "acceptance_rate",
            "phantom_rate",
            "tokens_per_accepted",
            "cost_nano_usd_per_accepted",
            "attempts_per_session",
            "duration_ms_mean",
        )
        return {**asdict(self), **{name: getattr(self, name) for name in rates}}


@dataclass(frozen=True, slots=True)
class Slice:
    """The totals of one group of sessions; a key is "" where it is summed over, or where rows have none."""

    period: str
    kind: str
    provider: str
    model: str
    totals: Totals

    def to_dict(self) -> dict[str, Any]:
        keys = {"period": self.period, "kind": self.kind, "provider": self.provider, "model": self.model}
        return {**keys, **self.totals.to_dict()}


@dataclass(frozen=True, slots=True)
class Cause:
    where: str
    reason: str
    code: str
    sessions: int


@dataclass(frozen=True, slots=True)
class AttemptsBar:
    """How many sessions took so many attempts, by how they ended."""

    iterations: int
    accepted: int
    exhausted: int
    infra_errors: int


@dataclass(frozen=True, slots=True)
class AttemptStep:
    """How many sessions made an attempt of this number, and how many were accepted at it."""

    iteration: int
    """From 1."""
    sessions: int
    accepted: int

    @property
    def acceptance_rate(self) -> float:
        return self.accepted / self.sessions


@dataclass(frozen=True, slots=True)
class FindingCount:
    period: str
    """"" where rows have no timestamp."""
    code: str
    """"" sums up all codes but the most frequent."""
    findings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStats:
    period: Period
    totals: Totals
    by_model: list[Slice] = field(default_factory=list)
    """By kind, provider and model, most sessions first."""
    by_period: list[Slice] = field(default_factory=list)
    """By period alone, oldest first; sessions without a timestamp are under ""."""
    by_period_and_model: list[Slice] = field(default_factory=list)
    attempts: list[AttemptsBar] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    """Of the infra errors, most frequent first."""

    @property
    def by_attempt(self) -> list[AttemptStep]:
        """Of each number of an attempt that was made, from 1."""
        return [
            AttemptStep(
                number,
                sum(
                    bar.accepted + bar.exhausted + bar.infra_errors for bar in self.attempts if bar.iterations >= number
                ),
                sum(bar.accepted for bar in self.attempts if bar.iterations == number),
            )
            for number in range(1, min(ATTEMPTS_MAX, max((bar.iterations for bar in self.attempts), default=0)) + 1)
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "period": self.period,
            "totals": self.totals.to_dict(),
            "by_model": [part.to_dict() for part in self.by_model],
            "by_period": [part.to_dict() for part in self.by_period],
            "by_period_and_model": [part.to_dict() for part in self.by_period_and_model],
            "attempts": [asdict(bar) for bar in self.attempts],
            "causes": [asdict(cause) for cause in self.causes],
        }


def session_stats(reader: SessionReader, wanted: SessionFilter, *, period: Period) -> SessionStats:
    """One scan of the log. Raises QueryRefusedError."""
    where, parameters = wanted.where()
    _, rows = reader.query(_QUERY.format(period=period, where=where), parameters)
    groups = [_Group(*row) for row in rows]
    totals = Totals()
    for group in groups:
        totals.add(group)
    return SessionStats(
        period=period,
        totals=totals,
        by_model=sorted(
            _slices(groups, lambda group: ("", group.kind or "", group.provider or "", group.model or "")),
            key=lambda part: (-part.totals.sessions, part.kind, part.provider, part.model),
        ),
        by_period=_slices(groups, lambda group: (group.period or "", "", "", "")),
        by_period_and_model=_slices(
            groups,
            lambda group: (group.period or "", group.kind or "", group.provider or "", group.model or ""),
        ),
        attempts=_attempts_bars(groups),
        causes=_causes(groups),
    )


def finding_counts(reader: SessionReader, wanted: SessionFilter, *, period: Period) -> list[FindingCount]:
    """Count the findings of all attempts by period and code, oldest period first, the most frequent code first; beyond
    ``CODES_MAX`` codes the others together. One scan of the log. Raises QueryRefusedError."""
    where, parameters = wanted.where()
    _, rows = reader.query(_FINDINGS_QUERY.format(period=period, where=where), parameters)
    return [FindingCount(*row) for row in rows]


def _slices(groups: Iterable[_Group], key: Callable[[_Group], tuple[str, str, str, str]]) -> list[Slice]:
    slices: dict[tuple[str, str, str, str], Totals] = {}
    for group in groups:
        slices.setdefault(key(group), Totals()).add(group)
    return [Slice(*keys, totals) for keys, totals in sorted(slices.items())]


def _attempts_bars(groups: Iterable[_Group]) -> list[AttemptsBar]:
    bars: dict[int, Totals] = {}
    for group in groups:
        bars.setdefault(group.iterations, Totals()).add(group)
    return [
        AttemptsBar(iterations, totals.accepted, totals.exhausted, totals.infra_errors)
        for iterations, totals in sorted(bars.items())
    ]


def _causes(groups: Iterable[_Group]) -> list[Cause]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for group in groups:
        if group.final_verdict == "infra_error":
            counts[group.where or "", group.reason or "", group.code or ""] += group.sessions
    return [Cause(*cause, sessions) for cause, sessions in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
