"""Workers of an index who look like somebody who is not in it, where there are too many to compare with them all.
Bounded in rows and in time.
"""

from __future__ import annotations

import itertools
import time
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from rapidfuzz import fuzz, process

from validated.datasets.index import Pool, RosterIndex
from validated.datasets.names import full_name_key
from validated.datasets.texts import fold
from validated.datasets.worker import Wanted

_NEIGHBOURS: Final = 12
_FITTING_MAX: Final = 64
_LIKE_NAMES_MAX: Final = 12
_ID_CHARS_MAX: Final = 32
_EDITS_MAX: Final = 1500
# Letters of other scripts that are drawn as these.
_LOOK_ALIKE: Final = str.maketrans(
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0405\u0406\u0408\u051c"
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458\u051d\u03bf"
    "\u2010\u2011\u2012\u2013\u2014\u2212",
    "ABEZHIKMNOPTYXABEKMHOPCTYXSIJWaeopcyxsijwo------",
)


def near_workers(index: RosterIndex, wanted: Sequence[Wanted], pool: Pool, *, ends_at: float) -> Sequence[str]:
    """Ids of workers whose id or name is near to one of `wanted`, and of some of `pool`. What is not found by `ends_at`
    (monotonic seconds) is left out.
    """
    near: dict[str, None] = {}
    for each in wanted:
        if time.monotonic() > ends_at:
            break
        near.update(dict.fromkeys(_by_id(index, each.worker_id)))
        name = fold(each.name)[:200]
        if name:
            near.update(dict.fromkeys(index.near_names(full_name_key(name), _NEIGHBOURS)))
            like = process.extract(
                name, pool.names, scorer=fuzz.ratio, processor=None, limit=_LIKE_NAMES_MAX, score_cutoff=60
            )
            near.update(dict.fromkeys(pool.worker_ids[position] for _, _, position in like))
    # Spread over the pool, so that two requests in a row are not always sent to the same people.
    step = max(1, len(pool.worker_ids) // _FITTING_MAX)
    near.update(dict.fromkeys(pool.worker_ids[::step][:_FITTING_MAX]))
    return list(near)


def id_variants(worker_id: str, alphabet: str, *, known_chars: int | None = None) -> Iterator[str]:
    """Ids that somebody who wrote `worker_id` may have meant, likely ones first: without what does not print, with
    Latin letters for look-alikes, in the other case, then one slip away. Not distinct; at most some 1,500.

    `known_chars`: no id that is looked for begins with more characters of the plain form than these, so that a slip
    further back leads nowhere and is left out.
    """
    plain = plain_id(worker_id)
    yield from dict.fromkeys((plain, plain.upper(), plain.lower()))
    if len(plain) <= _ID_CHARS_MAX:
        last = len(plain) if known_chars is None else known_chars
        yield from itertools.islice(_edits(plain, alphabet, last), _EDITS_MAX)


def plain_id(worker_id: str) -> str:
    """`worker_id` as it was meant: without what does not print, Latin letters in place of look-alikes."""
    if worker_id.isascii() and worker_id.isprintable():
        return worker_id[:200].replace(" ", "")
    printable = "".join(each for each in unicodedata.normalize("NFKC", worker_id[:200]) if each.isprintable())
    return printable.replace(" ", "").translate(_LOOK_ALIKE)


def _by_id(index: RosterIndex, worker_id: str) -> Iterator[str]:
    plain = plain_id(worker_id)
    before, after = index.near_ids(plain, _NEIGHBOURS)
    # Ids are in the order of their code points: one of the two beside the place of `plain` shares the most with it.
    known_chars = max((_shared_chars(plain, each) for each in (*before[-1:], *after[:1])), default=0)
    yield from filter(index.has, id_variants(worker_id, index.alphabet, known_chars=known_chars))
    yield from before
    yield from after


def _shared_chars(one: str, other: str) -> int:
    shared = 0
    for here, there in zip(one, other, strict=False):
        if here != there:
            break
        shared += 1
    return shared


def _edits(text: str, alphabet: str, last: int) -> Iterator[str]:
    """Texts one step away, the step being at `last` or before it: two neighbours swapped, one character dropped,
    replaced or put in; likely ones first.
    """
    for at in range(min(len(text) - 1, last + 1)):
        yield text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    for at in range(min(len(text), last + 1)):
        yield text[:at] + text[at + 1 :]
    # From the end: what differs there is more often a slip.
    for at in reversed(range(min(len(text), last + 1))):
        for character in alphabet:
            yield text[:at] + character + text[at + 1 :]
    for at in reversed(range(min(len(text), last) + 1)):
        for character in alphabet:
            yield text[:at] + character + text[at:]
