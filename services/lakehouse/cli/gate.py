"""What the commands that ask validated have in common: the spec, and a validated of one's own where it is asked for."""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource
from google.protobuf.message import Message

from lakehouse.cli.connection import Connection, checked_address, connection_options
from lakehouse.cli.exit_status import SystemFault, of_fault
from lakehouse.cli.finite_numbers import timeout_option
from lakehouse.cli.stack import Stack, StackError
from lakehouse.clients import ValidateClient
from lakehouse.errors import Fault, Reason
from lakehouse.message_fields import FieldsError, set_fields
from lakehouse.spec_member import SpecError, set_spec, spec_member

ADDRESS: Final = "127.0.0.1:50053"

T = TypeVar("T")

_SERVER_OPTIONS: Final = (
    click.option(
        "--address",
        envvar="LAKEHOUSE_VALIDATED",
        callback=checked_address,
        help=f"A running validated (default: {ADDRESS}).",
    ),
    connection_options,
    click.option("--roster", type=click.Path(path_type=Path), help="Start a validated of our own on this roster."),
    timeout_option(30.0),
    click.option("--json", "as_json", is_flag=True, help="Print the response as one JSON object and nothing else."),
)
SPEC_OPTIONS: Final = (
    click.option("--kind", default="fill", show_default=True, help="Which kind: fill, email, json_schema, …"),
    click.option("--spec", help="The kind's spec: JSON, or @FILE (JSON or TOML); for json_schema the schema itself."),
    click.option("--role", help="fill: the role that each worker must hold."),
    click.option("--count", type=int, help="fill: how many workers, exactly."),
    click.option("--city", help="fill: where each worker must be based."),
    click.option("--state", help="fill: the same, two letters."),
    click.option("--shift-start", help="fill: RFC 3339 with an offset."),
    click.option("--shift-end", help="fill: RFC 3339 with an offset."),
    click.option("--certification", "required_certifications", multiple=True, help="fill: must be held; repeatable."),
    click.option("--client-id", help="fill: whose do-not-send list counts."),
)


def with_options(*options: Any) -> Callable[[Any], Any]:
    """Return a decorator that gives a command these options, in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@dataclass(frozen=True)
class Validated:
    """Which validated answers: the one at `address`, or one of our own on `roster`."""

    address: str | None
    roster: Path | None
    connection: Connection

    def _is_address_typed(self) -> bool:
        # What the environment says gives way to what is typed.
        source = click.get_current_context().get_parameter_source("address")
        return source is ParameterSource.COMMANDLINE

    def ask(self, call: Callable[[ValidateClient], T]) -> T:
        """Return what `call` answers. Raises ClickException, and UsageError where the flags do not go together."""
        if self.roster is not None and self._is_address_typed():
            raise click.UsageError("give --roster or --address, not both")
        try:
            if self.roster is not None:
                return asyncio.run(_with_roster(self.roster, call))
            return _at(self.address or ADDRESS, call, self.connection)
        except Fault as fault:
            raise self._failed(fault) from None
        except StackError as error:
            raise SystemFault(str(error)) from None

    def _failed(self, fault: Fault) -> click.ClickException:
        text = str(fault)
        address = self.address or ADDRESS
        if self.roster is None and (problem := self.connection.explain(fault, address)):
            text += f"\n{problem}"
        elif self.roster is None and fault.reason is Reason.VALIDATED_UNREACHABLE:
            text += f"\nnobody listens on {address}: start the services with `lakehouse up`, or give --roster FILE"
        elif fault.code == "UNIMPLEMENTED":
            text += f"\nthe validated on {address} is of an older release: it does not know this call"
        return of_fault(fault, text)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a decorator that gives a command `validated`, `timeout_s` and `as_json`."""

    @functools.wraps(function)
    def with_validated(*, address: str | None, roster: Path | None, connection: Connection, **rest: Any) -> Any:
        return function(validated=Validated(address, roster, connection), **rest)

    return with_options(*_SERVER_OPTIONS)(with_validated)  # type: ignore[no-any-return]


def give_spec(request: Message, kind: str, spec: str | None, fields: dict[str, Any]) -> None:
    """Set the spec of `request`: what `spec` says, and over it those `fields` that were given by flags. Raises
    UsageError.
    """
    given = {name: value for name, value in fields.items() if value not in (None, ())}
    member = spec_member(request, kind)
    members = request.DESCRIPTOR.oneofs_by_name["spec"].fields
    for name in given:
        owners = [each.name for each in members if name in _fields_of(each)]
        if member.name not in owners:
            raise click.UsageError(f"--{name.replace('_', '-')} belongs to kind {', '.join(owners)}; use --spec")
    try:
        if spec is not None:
            set_spec(request, kind, _spec_text(spec), unwrapped=True)
        elif member.message_type is not None:
            # Set, though empty: the answer then names the fields that are missing.
            getattr(request, member.name).SetInParent()
        if given:
            message = getattr(request, member.name)
            for name in given:
                message.ClearField(name)
            set_fields(message, given)
    except (SpecError, FieldsError) as error:
        raise click.UsageError(f"the spec does not fit: {error}") from None


def read_text(file: str) -> str:
    """Return the text of a file, of standard input where it is `-`. Raises UsageError."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{file}: not UTF-8") from None


def roster_line(roster: Any) -> str:
    """One line that says which roster answered."""
    return f"roster {roster.source}, {roster.version}, {roster.row_count} workers, loaded {roster.loaded_at}"


def _fields_of(member: Any) -> Collection[str]:
    """Return the names of the fields of a member of ``oneof spec``."""
    return () if member.message_type is None else member.message_type.fields_by_name.keys()


def _at(address: str, call: Callable[[ValidateClient], T], connection: Connection) -> T:
    with ValidateClient(address, credentials=connection.credentials(), token=connection.token()) as client:
        return call(client)


async def _with_roster(roster: Path, call: Callable[[ValidateClient], T]) -> T:
    environ = {"VALIDATED_BIND": "127.0.0.1:0", "VALIDATED_ROSTER__PATH": str(roster)}
    stack = Stack(on_log=lambda *_: None, environ=environ)
    try:
        await stack.start_service("validated")
        if causes := stack.causes["validated"]:
            raise StackError("\n".join(causes))
        return await asyncio.to_thread(_at, stack.addresses["validated"], call, Connection())
    finally:
        await stack.stop()


def _spec_text(spec: str) -> str:
    if not spec.startswith("@"):
        return spec
    file = Path(spec[1:])
    text = read_text(str(file))
    if file.suffix != ".toml":
        return text
    try:
        return json.dumps(tomllib.loads(text), default=str)
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{file}: not TOML: {error}") from None
