"""`lakehouse callers …` as a person or a script uses it: what is printed, and the exit status."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from caller_credentials import Authority, Signer, dns, issuer_table, key_set, sha256
from click.testing import CliRunner, Result
from rosters import small_table
from validated_server import serving

from lakehouse.cli.callers import command
from lakehouse.cli.kinds import command as kinds_command

TOKEN = "opaque-" + "k" * 40
SIGNER = Signer("one")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "keys.json").write_text(key_set(SIGNER))
    path = tmp_path / "callers.toml"
    path.write_text(
        f"""
        {issuer_table(tmp_path / "keys.json", "ES256")}
        [groups.unused]
        [callers.scheduler]
        rpcs = ["Iterate"]
        kinds = ["fill"]
        models = ["openai/gpt*"]
        tokens_per_day = 1000
        tokens_sha256 = ["{sha256(TOKEN)}"]
        subjects = [{{issuer = "corp", subject = "svc-scheduler"}}]
        certificates = ["dns:scheduler.test"]
        [callers.idle]
        """
    )
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], prog_name="lakehouse callers")


def test_check_says_what_each_caller_may_and_what_is_hardly_meant(file: Path) -> None:
    result = run("check", file)

    assert result.exit_code == 0, result.output
    assert "openai/gpt*" in result.stdout
    assert "warning: idle has no credential: nobody can be it" in result.stdout
    assert "warning: idle may call nothing" in result.stdout
    assert "warning: scheduler runs one session at a time: session_tokens_reserved, 4000" in result.stdout
    assert "warning: the group unused has nobody in it" in result.stdout
    assert json.loads(run("check", file, "--json").stdout)["callers"]["scheduler"]["kinds"] == ["fill"]


def test_check_refuses_what_a_service_refuses(file: Path) -> None:
    file.write_text("[callers.x]\nrpcs = ['Itrate']\nkid = 1\n")

    result = run("check", file)

    assert result.exit_code == 1
    assert "callers.x.kid: unknown key" in result.stderr
    assert "is no RPC" in result.stderr


def test_whoami_names_the_caller_of_a_credential_and_what_it_may(file: Path, tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).issue("client", [dns("scheduler.test")])
    token = tmp_path / "token"
    for text in (TOKEN, SIGNER.token()):
        token.write_text(text + "\n")
        found = run("whoami", file, "--token-file", token, "--rpc", "Iterate", "--json")
        assert found.exit_code == 0, found.output
        assert json.loads(found.stdout)["caller"] == "scheduler"
        assert text not in found.output
    assert run("whoami", file, "--certificate-file", certificate).stdout.startswith("scheduler\n")
    assert run("whoami", file, "--token-file", token, "--model", "openai/gpt-5").exit_code == 0
    refused = run("whoami", file, "--token-file", token, "--model", "other/gpt-5", "--kind", "fill")
    assert refused.exit_code == 1
    assert "kind: allowed\nmodel: not allowed\n" in refused.stdout


def test_whoami_says_why_a_credential_is_nobodys_and_does_not_repeat_it(file: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    for text, problem in ((TOKEN[:-1], "token of nobody listed"), (SIGNER.token(exp=1), "expired")):
        token.write_text(text)
        result = run("whoami", file, "--token-file", token)
        assert result.exit_code == 1
        assert result.stdout == f"nobody: {problem}\n"
    assert run("whoami", file).exit_code == 2


async def test_a_command_shows_the_token_of_its_file_and_without_one_says_what_to_give(tmp_path: Path) -> None:
    callers = tmp_path / "callers.toml"
    callers.write_text(f'[callers.desk]\nrpcs = ["ListKinds"]\nkinds = ["*"]\ntokens_sha256 = ["{sha256(TOKEN)}"]\n')
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "other").write_text("o" * 40)
    (tmp_path / "two").write_text(f"{TOKEN} {TOKEN}")

    async with serving(roster=small_table(tmp_path), callers={"file": callers}) as client:

        async def kinds(*arguments: str) -> Result:
            return await asyncio.to_thread(
                CliRunner().invoke, kinds_command, ["ls", "--address", client.address, *arguments]
            )

        known = await kinds("--token-file", str(tmp_path / "token"))
        nobody = await kinds()
        other = await kinds("--token-file", str(tmp_path / "other"))
        two = await kinds("--token-file", str(tmp_path / "two"))

    assert (known.exit_code, "json_schema" in known.stdout) == (0, True), known.output
    assert "give --token-file, or --cert and --key" in nobody.stderr
    assert "does not know the credential that was sent" in other.stderr
    assert two.exit_code == 2
    assert "must hold one token and nothing else" in two.stderr
    assert TOKEN not in known.output + nobody.output + other.output + two.output
