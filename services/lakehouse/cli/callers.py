"""``lakehouse callers``: look at a callers' file before, or while, services use it. No service is asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lakehouse.cli.exit_status import NOT_ACCEPTED, Negative, SystemFault, statuses

if TYPE_CHECKING:
    from lakehouse.server.callers.authentication import Directory
    from lakehouse.server.callers.file import CallersFile
    from lakehouse.server.callers.policy import Policy


_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
_INPUT = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group(epilog=statuses("good, or known and allowed", "the file is refused, nobody is known, or it may not"))
def command() -> None:
    """Look at a callers' file: check it, and who a credential would be. Tokens are read from files and not shown."""


@command.command()
@_FILE
@_JSON
def check(file: Path, *, as_json: bool) -> None:
    """Say all that is wrong with FILE, else what each caller may. A file that passes is one that a service takes."""
    callers = _read(file)
    advice = list(_advice(callers))
    policies = {name: _described(callers.policy_of(name)) for name in callers.callers}
    if as_json:
        click.echo(json.dumps({"callers": policies, "advice": advice}))
        return
    for name, policy in policies.items():
        _show(name, policy)
    for each in advice:
        click.echo(f"warning: {each}")
    click.echo(f"{file} is good: {len(policies)} caller{'s' * (len(policies) != 1)}")


@command.command()
@_FILE
@click.option("--token-file", type=_INPUT, help="Holds a token, opaque or JWT.")
@click.option("--certificate-file", type=_INPUT, help="PEM of a client certificate.")
@click.option("--rpc", help="Also say whether the caller may call this RPC, …")
@click.option("--kind", help="… ask for this kind, …")
@click.option("--model", help="… and this provider/model.")
@_JSON
def whoami(
    file: Path,
    *,
    token_file: Path | None,
    certificate_file: Path | None,
    rpc: str | None,
    kind: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Say which caller of FILE a credential is, and what it may; and where it is nobody's, why. A service says no more
    than that nobody is known. Of a certificate the names are read: who signed it is for the handshake to see."""
    if (token_file is None) == (certificate_file is None):
        raise click.UsageError("give --token-file or --certificate-file")
    if model is not None and "/" not in model:
        raise click.UsageError("--model is provider/model")
    callers = _read(file)
    name, problem = _identify(callers, token_file, certificate_file)
    if name is None:
        if as_json:
            click.echo(json.dumps({"caller": None, "problem": problem}))
        else:
            click.echo(f"nobody: {problem}")
        sys.exit(NOT_ACCEPTED)
    policy = callers.policy_of(name)
    provider, _, model_name = (model or "").partition("/")
    asked = (
        ("rpc", rpc, policy.may_call(rpc or "")),
        ("kind", kind, policy.may_ask_kind(kind or "")),
        ("model", model, policy.may_ask_model(provider, model_name)),
    )
    answers = {key: allowed for key, given, allowed in asked if given is not None}
    if as_json:
        click.echo(json.dumps({"caller": name, "policy": _described(policy), "allowed": answers}))
    else:
        _show(name, _described(policy))
        for key, allowed in answers.items():
            click.echo(f"{key}: {'allowed' if allowed else 'not allowed'}")
    if not all(answers.values()):
        sys.exit(NOT_ACCEPTED)


def _show(name: str, policy: dict[str, Any]) -> None:
    click.echo(name)
    for key, value in policy.items():
        click.echo(f"  {key:26} {', '.join(value) if isinstance(value, list) else value}")


def _read(file: Path) -> CallersFile:
    from lakehouse.server.callers.file import read_callers_file  # noqa: PLC0415  pydantic, which --help can do without

    try:
        return read_callers_file(file)
    except OSError as error:
        raise SystemFault(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise Negative(str(error)) from None


def _identify(callers: CallersFile, token_file: Path | None, certificate_file: Path | None) -> tuple[str | None, str]:
    """Return the caller's name, or why there is none."""
    from lakehouse.server.callers.unknown import UnknownCredential  # noqa: PLC0415  beside what it needs

    directory = _directory(callers)
    try:
        if certificate_file is not None:
            return directory.by_certificate({"x509_pem_cert": [certificate_file.read_bytes()]}).name, ""
        return directory.by_authorization(f"Bearer {_token(token_file)}").name, ""
    except UnknownCredential as unknown:
        return None, unknown.problem


def _directory(callers: CallersFile) -> Directory:
    """Return the file's directory, with the keys of all issuers read as far as they can be."""
    from lakehouse.server.callers.authentication import Directory  # noqa: PLC0415  80 ms of cryptography
    from lakehouse.server.callers.key_source import KeySource  # noqa: PLC0415

    sources = [KeySource(name, table) for name, table in callers.issuers.items()]
    for source in sources:
        try:
            source.read()
        except ValueError as error:
            click.echo(f"warning: {error}", err=True)
    return Directory(callers, sources)


def _token(file: Path | None) -> str:
    assert file is not None  # noqa: S101  one of the two options was given
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SystemFault(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Negative(f"{file}: not UTF-8") from None


def _described(policy: Policy) -> dict[str, Any]:
    """Return what a policy says, for a reader; a limit that is not set is left out."""
    lists = {
        "rpcs": sorted(policy.rpcs),
        "kinds": sorted(policy.kinds),
        "models": [f"{each.provider}/{each.model}{'*' * each.is_prefix}" for each in policy.models],
    }
    limits = {
        key: getattr(policy, key)
        for key in (
            "grounding_max",
            "max_iterations",
            "sessions_in_flight",
            "sessions_per_minute",
            "tokens_per_day",
            "nano_usd_per_day",
        )
        if getattr(policy, key) is not None
    }
    if policy.tokens_per_day is not None:
        limits["session_tokens_reserved"] = policy.session_tokens_reserved
    if policy.nano_usd_per_day is not None:
        limits["session_nano_usd_reserved"] = policy.session_nano_usd_reserved
    return {**lists, **limits}


def _advice(callers: CallersFile) -> Iterable[str]:
    """Yield what a file may say and hardly means."""
    for name, table in callers.callers.items():
        policy = callers.policy_of(name)
        if not (table.certificates or table.subjects or table.tokens_sha256):
            yield f"{name} has no credential: nobody can be it"
        if not policy.rpcs:
            yield f"{name} may call nothing: no list of rpcs names anything"
        for limit, reserved in (
            ("tokens_per_day", "session_tokens_reserved"),
            ("nano_usd_per_day", "session_nano_usd_reserved"),
        ):
            most, held = getattr(policy, limit), getattr(policy, reserved)
            if most is not None and held > most:
                yield f"{name} runs one session at a time: {reserved}, {held}, is above {limit}, {most}"
    used = {group for table in callers.callers.values() for group in table.groups}
    for group in callers.groups:
        if group not in used:
            yield f"the group {group} has nobody in it"
