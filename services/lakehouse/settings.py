"""What all settings have in common: the table that they stand in, and the kinds of values that several tables hold.

A rule about a setting stands in its table and nowhere else, so that `--check` and the start refuse the same. A rule
about two settings is a validator of the later one, which sees the earlier ones in `info.data`: pydantic runs it beside
whatever else is wrong, so that all problems are reported at once.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from lakehouse.targets import check_target

MACHINE_ERROR: Final = "machine"
"""The type of a pydantic error that is about the machine, not about the setting."""


class ConfigError(Exception):
    """The configuration cannot be used.

    Attributes:
        problems: One line for each thing that is wrong.
        of_machine: The settings are good, and this machine lacks what they name (a file, an address): it may come.
    """

    def __init__(self, problems: list[str], *, of_machine: bool = False) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.of_machine = of_machine


class Table(BaseModel):
    """A table of settings: unknown keys are errors, values do not change after the start.

    A setting called `*_file` names a file that the start reads, and is refused where that cannot be read. Beside a
    secret `x`, `x_file` names the file that holds it in its place.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
        allow_inf_nan=False,
        # Rules about two settings also hold where one of them was left at its default.
        validate_default=True,
    )

    @field_validator("*")
    @classmethod
    def _check_any_setting(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, (str, Path)) and "\0" in str(value):
            raise ValueError("must not hold the character U+0000")
        name = info.field_name or ""
        if isinstance(value, Path) and name.endswith("_file"):
            secret = name.removesuffix("_file")
            # A table with a file of further entries, such as prices, is no secret.
            given = info.data.get(secret)
            if isinstance(given, SecretStr) and given.get_secret_value():
                raise ValueError(f"set {secret} or {name}, not both")
            try:
                _check_file(value, holds_secret=isinstance(given, SecretStr))
            except ValueError as error:
                raise machine_error(str(error)) from None
        return value


def machine_error(problem: str) -> PydanticCustomError:
    """Return what a validator raises where the machine lacks what a setting names."""
    return PydanticCustomError(MACHINE_ERROR, "{problem}", {"problem": problem})


def read_secret(value: SecretStr, file: Path | None) -> str:
    """Return the secret itself, from the value or the file's text. Raises ConfigError where the file holds none."""
    if file is None:
        return value.get_secret_value()
    try:
        return _read_secret_file(file)
    except ValueError as error:
        raise ConfigError([f"secret file {error}"], of_machine=True) from None


def _read_secret_file(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not UTF-8") from None
    if not text:
        raise ValueError(f"{file}: is empty")
    return text


def _check_file(file: Path, *, holds_secret: bool) -> None:
    try:
        # A pipe gives its text once: it is left to the start.
        if not file.exists() or file.is_file() or file.is_dir():
            with file.open("rb"):
                pass
            if holds_secret:
                _read_secret_file(file)
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None


def check_certificates(*, certificate_file: Path | None, key_file: Path | None, ca_file: Path | None) -> None:
    """Raise a machine error where readable files (None: no file) are no PEM of a chain and its key, of authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # How strong a certificate must be is for the handshake to say.
    context.set_ciphers("ALL:@SECLEVEL=0")
    problems = []
    if certificate_file is not None and key_file is not None:
        try:
            # A key behind a password cannot be used: an empty one in place of a question on the terminal.
            context.load_cert_chain(certificate_file, key_file, password="")
        except (OSError, ValueError) as error:
            problems.append(
                f"{certificate_file} and {key_file} are no PEM certificate chain and its private key without a "
                f"password ({_reason(error)})"
            )
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ValueError) as error:
            problems.append(f"{ca_file} holds no PEM certificates ({_reason(error)})")
    if problems:
        raise machine_error("; ".join(problems))


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or type(error).__name__).lower().replace("_", " ")


GrpcTarget = Annotated[str, AfterValidator(check_target)]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]
Port = Annotated[int, Field(ge=0, le=65535)]
