"""Too few qualify for a fill: how many do, and which single demand shuts most out. No names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from validated.datasets.worker import Found
from validated.findings import Finding, quoted
from validated.kinds.fill_terms import FillTerms

_PATH: Final = "/workers"
_PLACE: Final = ("WRONG_CITY", "WRONG_STATE")

# A demand: a code, and of several of one code the one that is meant, in the words of the spec.
_Demand = tuple[str, str]


def shortage_text(terms: FillTerms, count: int, *, nobody_there: bool) -> str:
    """One sentence. `nobody_there`: nobody has the role where he may be based."""
    if nobody_there:
        where = " where they may be based" if terms.places else ""
        return f'nobody in the roster is "{quoted(terms.role)}"{where}, {terms.count} asked for: no answer can pass'
    qualify = "worker of the roster qualifies" if count < 2 else "workers of the roster qualify"
    few = f"only {count}" if count else "no"
    return f"{few} {qualify} under all terms, {terms.count} asked for: no answer can pass"


class Shortage:
    """Counts who is shut out, and by what."""

    def __init__(self, terms: FillTerms) -> None:
        self._terms = terms
        self._alone: Counter[_Demand] = Counter()
        self._all: Counter[_Demand] = Counter()
        self._there = 0
        self._holders = 0
        self._is_floor = False

    def add(self, others: Iterable[Found]) -> None:
        """Take those of the role, where they may be based, who do not qualify. Who has another role is left out."""
        for found in others:
            demands = list(self._unmet(found))
            codes = {code for code, _ in demands}
            if "WRONG_ROLE" in codes:
                continue
            self._holders += 1
            self._there += codes.isdisjoint(_PLACE)
            self._all.update(demands)
            if len(demands) == 1:
                self._alone[demands[0]] += 1

    def add_elsewhere(self, qualified: Iterable[Found], others: Iterable[Found], *, is_whole: bool) -> None:
        """Take those of the role, wherever they are: `qualified` would, were it not for the place."""
        shut_out = [found for found in qualified if not self._terms.met_by(found)]
        codes = Counter(code for found in shut_out for code in {code for code, _ in self._unmet(found)})
        if codes:
            # One demand, though a place may miss by city and state: its commoner code stands for it.
            (code, _), *_ = codes.most_common(1)
            self._alone[code, ""] = self._all[code, ""] = len(shut_out)
            self._is_floor = not is_whole
        self._holders += len(shut_out) + sum(self._terms.has_role(found.worker) for found in others)

    def findings(self, count: int) -> list[Finding]:
        """Return what is said where `count` qualify."""
        there = self._there + count
        findings = [Finding("COUNT", _PATH, shortage_text(self._terms, count, nobody_there=not there))]
        role = quoted(self._terms.role)
        if not self._holders + count:
            return [*findings, Finding("WRONG_ROLE", _PATH, f'nobody in the roster holds the role "{role}"')]
        if not self._all:
            text = (
                f'the role "{role}" shuts most out: {self._holders + count} hold it, and no other demand shuts one out'
            )
            return [*findings, Finding("WRONG_ROLE", _PATH, text)]
        if self._alone:
            (demand, shut_out), *_ = self._alone.most_common(1)
            floor = "at least " if self._is_floor and demand[0] in _PLACE else ""
            text = f"{self._words(demand)} shuts most out: without it {floor}{shut_out} more would qualify"
            findings.append(Finding(demand[0], _PATH, text))
        else:
            (demand, shut_out), *_ = self._all.most_common(1)
            text = f"{self._words(demand)} shuts most out: {shut_out} of {there} miss it, each of them another one too"
            findings.append(Finding(demand[0], _PATH, text))
        return findings

    def _unmet(self, found: Found) -> Iterable[_Demand]:
        for breach in self._terms.breaches(found):
            if breach.code == "MISSING_CERTIFICATION":
                yield from ((breach.code, each) for each in self._terms.missing(found.worker))
            else:
                yield breach.code, ""

    def _words(self, demand: _Demand) -> str:
        terms, (code, which) = self._terms, demand
        places = "; ".join(map(str, terms.places[:3])) + ("; …" if len(terms.places) > 3 else "")
        return {
            "INACTIVE_WORKER": "that a worker must be active",
            "WRONG_CITY": f"the place ({places})",
            "WRONG_STATE": f"the place ({places})",
            "TOO_FAR": f"the distance of at most {terms.max_distance_km or 0:g} km",
            "NO_COORDINATES": "that a worker's distance must be known",
            "MISSING_CERTIFICATION": f'the certification "{quoted(which)}"',
            "SHIFT_OVERLAP": "that a worker must be free during the shift",
            "DO_NOT_SEND": f'the do-not-send list of client "{quoted(terms.client_id)}"',
        }[code]
