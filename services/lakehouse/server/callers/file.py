"""The callers' file: TOML with `[issuers.NAME]`, `[groups.NAME]` and `[callers.NAME]`. README has an example.

What a caller may is what it and its groups give, taken together. A limit counts where the caller sets it, else the
smallest one of its groups. Nothing in the file is a secret: tokens stand in it by their SHA-256.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator

from lakehouse.server.callers.policy import ANY, GROUNDINGS, RPCS, GroundingMax, ModelPattern, Policy
from lakehouse.settings import Table

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_PROBLEMS_MAX: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_DNS_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63}){0,31}")
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[!-~]{1,2000}")
_LIMIT_MAX: Final = 2**53


def is_caller_name(text: str) -> bool:
    """Return True for 1 to 64 characters of `[A-Za-z0-9._-]`, the first a letter or a digit."""
    return _NAME.fullmatch(text) is not None


def _name(text: str) -> str:
    if not is_caller_name(text):
        raise ValueError("must be 1 to 64 of the characters A-Z a-z 0-9 . _ -, the first a letter or a digit")
    return text


def _rpc(text: str) -> str:
    if text != ANY and text not in RPCS:
        raise ValueError(f"is no RPC; there are: {', '.join(RPCS)}, and * for all")
    return text


def _pattern(text: str) -> str:
    ModelPattern.parse(text)
    return text


def _certificate_name(text: str) -> str:
    if text.startswith("dns:"):
        if _DNS_NAME.fullmatch(text[4:]) is None:
            raise ValueError("must be a DNS name in lower case without a wildcard: dns:scheduler.internal")
    elif _URI.fullmatch(text) is None:
        raise ValueError("must be a URI, spiffe://domain/path, or dns:name")
    return text


def _sha256(text: str) -> str:
    # The value is not repeated: whoever makes this mistake may have put the token itself here.
    if _SHA256.fullmatch(text) is None:
        raise ValueError("must be the SHA-256 of a token, 64 digits of 0-9 a-f: printf %s TOKEN | sha256sum")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if not host or parts.username is not None or parts.fragment or not text.isascii() or not text.isprintable():
        raise ValueError("must be a URL without a user and a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in {"127.0.0.1", "::1", "localhost"}):
        raise ValueError("must be https: who reads the keys on the way may put others in (http: loopback alone)")
    return text


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1, max_length=512)]
Limit = Annotated[int, Field(ge=1, le=_LIMIT_MAX)]


class IssuerTable(Table):
    """Who signs tokens."""

    issuer: Text
    """The claim `iss`, to the letter."""
    audiences: Annotated[tuple[Text, ...], Field(min_length=1, max_length=20)]
    """One of them has to stand in the claim `aud`."""
    algorithms: Annotated[tuple[Literal["RS256", "ES256", "EdDSA"], ...], Field(min_length=1)]
    """What it signs with; no other is taken, whatever a token says."""
    jwks_file: Path | None = None
    """Its public keys (RFC 7517); read again when the file changes. Replace it by renaming another one onto it."""
    jwks_url: Annotated[str, AfterValidator(_url)] | None = None
    """Where its public keys are fetched, by https."""
    jwks_ca_file: Path | None = None
    """PEM of the authorities that vouch for `jwks_url`. None: the system's."""
    jwks_refresh_s: Annotated[int, Field(ge=10, le=86_400)] = 300
    """How often the URL is asked. A key id that is not known has it asked at once, at most every 5 seconds."""
    jwks_keep_s: Annotated[int, Field(ge=60, le=30 * 86_400)] = 86_400
    """How long keys are believed while the URL does not answer."""
    subject_claim: Annotated[str, Field(min_length=1, max_length=64)] = "sub"
    """The claim that says who the caller is."""
    leeway_s: Annotated[int, Field(ge=0, le=300)] = 30
    """How far the clocks of issuer and service may be apart."""

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("set jwks_file or jwks_url, one of them")
        if self.jwks_ca_file is not None and self.jwks_url is None:
            raise ValueError("jwks_ca_file goes with jwks_url")
        return self


class GrantTable(Table):
    """What a group, or a caller itself, may. Nothing is allowed that no list names."""

    rpcs: Annotated[tuple[Annotated[str, AfterValidator(_rpc)], ...], Field(max_length=100)] = ()
    """RPCs by name, or `*`."""
    kinds: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    """Kinds of artifacts, or `*`."""
    models: Annotated[tuple[Annotated[Text, AfterValidator(_pattern)], ...], Field(max_length=1000)] = ()
    """`provider/model`, `provider/beginning*`, `provider/*`, `*`. `/` is the default, `fast/` the route fast."""
    grounding_max: GroundingMax | None = None
    """The most that a model may get to know."""
    max_iterations: Annotated[int, Field(ge=1, le=100)] | None = None
    sessions_in_flight: Limit | None = None
    """At the same time, in each process."""
    sessions_per_minute: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Begun within any 60 seconds, in each process."""
    tokens_per_day: Limit | None = None
    """Input and output tokens of a day (UTC), in each process."""
    nano_usd_per_day: Limit | None = None
    """Billionths of a US dollar of a day (UTC), in each process; models without a known price cost nothing here."""
    session_tokens_reserved: Limit | None = None
    """What a running session holds of the day's tokens until it is known what it used. Default 4000."""
    session_nano_usd_reserved: Limit | None = None
    """What a running session holds of the day's money. Default 50000000, which is 0.05 US dollars."""


class SubjectTable(Table):
    """A caller as an issuer's tokens name it."""

    issuer: Name
    """A name of `[issuers]`."""
    subject: Annotated[str, Field(min_length=1, max_length=256)]


class CallerTable(GrantTable):
    """One caller: how it is known, and what it may."""

    certificates: Annotated[tuple[Annotated[str, AfterValidator(_certificate_name)], ...], Field(max_length=100)] = ()
    """Names in its client certificate: a URI (`spiffe://…`) or `dns:name`. Needs `tls.client_ca_file`."""
    subjects: Annotated[tuple[SubjectTable, ...], Field(max_length=100)] = ()
    """Whom its JWTs name."""
    tokens_sha256: Annotated[tuple[Annotated[str, AfterValidator(_sha256)], ...], Field(max_length=100)] = ()
    """The SHA-256 of its opaque tokens; several while one replaces another."""
    groups: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    may_name_callers: bool = False
    """Believe it when it says for whom it calls (`x-lakehouse-caller`). For iterate, in its calls to others."""


class CallersFile(Table):
    """The whole file."""

    issuers: dict[Name, IssuerTable] = Field(default={}, max_length=20)
    groups: dict[Name, GrantTable] = Field(default={}, max_length=1000)
    callers: Annotated[dict[Name, CallerTable], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        problems: list[str] = []
        for name, caller in self.callers.items():
            problems += [
                f"callers.{name}: there is no group {each}" for each in caller.groups if each not in self.groups
            ]
            problems += [
                f"callers.{name}: there is no issuer {each.issuer}"
                for each in caller.subjects
                if each.issuer not in self.issuers
            ]
        problems += self._shared()
        issuers = [each.issuer for each in self.issuers.values()]
        if len(set(issuers)) != len(issuers):
            problems.append("issuers: two of them have the same issuer")
        if problems:
            raise ValueError("; ".join(problems[:_PROBLEMS_MAX]))
        return self

    def _shared(self) -> Iterator[str]:
        """Yield a problem for each way of being known that two callers have. What a token's is, is not repeated."""
        known: dict[object, str] = {}
        for name, caller in self.callers.items():
            ways: list[tuple[str, object]] = [("certificate name", each) for each in caller.certificates]
            ways += [("token", each) for each in caller.tokens_sha256]
            ways += [("subject", (each.issuer, each.subject)) for each in caller.subjects]
            for way in ways:
                other = known.setdefault(way, name)
                if other != name:
                    yield f"callers.{name} and callers.{other} have the same {way[0]}"

    def policy_of(self, caller: str) -> Policy:
        """Return what this caller may."""
        table = self.callers[caller]
        grants = [table, *(self.groups[group] for group in table.groups)]
        reserved = {
            key: value
            for key in ("session_tokens_reserved", "session_nano_usd_reserved")
            if (value := _least([getattr(grant, key) for grant in grants])) is not None
        }
        return Policy(
            rpcs=frozenset(each for grant in grants for each in grant.rpcs),
            kinds=frozenset(each for grant in grants for each in grant.kinds),
            models=tuple(dict.fromkeys(ModelPattern.parse(each) for grant in grants for each in grant.models)),
            grounding_max=_least_grounding([grant.grounding_max for grant in grants]),
            max_iterations=_least([grant.max_iterations for grant in grants]),
            sessions_in_flight=_least([grant.sessions_in_flight for grant in grants]),
            sessions_per_minute=_least([grant.sessions_per_minute for grant in grants]),
            tokens_per_day=_least([grant.tokens_per_day for grant in grants]),
            nano_usd_per_day=_least([grant.nano_usd_per_day for grant in grants]),
            **reserved,
        )


def _least_grounding(values: Sequence[GroundingMax | None]) -> GroundingMax | None:
    """As `_least`, of levels."""
    given = [value for value in values if value is not None]
    return values[0] or min(given, key=GROUNDINGS.index, default=None)


def _least(values: Sequence[int | None]) -> int | None:
    """Return the caller's own, which stands first, else the least of its groups'."""
    return values[0] if values[0] is not None else min((value for value in values if value is not None), default=None)


def read_callers_file(file: Path) -> CallersFile:
    """Return the file. Raises ValueError with all that is wrong with it, and OSError."""
    with file.open("rb") as opened:
        data = opened.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"{file}: is longer than {FILE_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        # A parser's words may quote the file.
        place = re.search(r"\(at [a-z0-9 ,]{1,60}\)", str(error))
        raise ValueError(f"{file}: is not TOML in UTF-8{f' {place[0]}' if place else ''}") from None
    try:
        return CallersFile.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        problems = [
            f"{'.'.join(map(str, each['loc']))}: {_said(each['type'], each['msg'])}".removeprefix(": ")
            for each in found[:_PROBLEMS_MAX]
        ]
        if len(found) > _PROBLEMS_MAX:
            problems.append(f"and {len(found) - _PROBLEMS_MAX} more")
        raise ValueError(f"{file}: " + "; ".join(problems)) from None


def _said(kind: str, message: str) -> str:
    return "unknown key" if kind == "extra_forbidden" else message.removeprefix("Value error, ")
