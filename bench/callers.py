"""What it costs to know a caller: microseconds of one call's admission, by credential, in this process.

python bench/callers.py [--rounds 5] [--calls 20000]

What is timed is `Callers.admit`, which the interceptor awaits before each call; the kinds of credential take turns in
each round, and the median round counts. A token that comes "first" was not seen before: its signature is verified.
"off" is what a service without callers does instead: look whether there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from caller_credentials import Authority, Signer, issuer_table, key_set, rsa_signer, sha256, uri

from lakehouse.server.call import Call
from lakehouse.server.callers.access import Callers
from lakehouse.server.config import CallersTable
from lakehouse.trace_context import TraceContext

TOKEN = "t" * 64
SPIFFE = "spiffe://example.test/ns/prod/sa/scheduler"
TRACE = (("x-lakehouse-trace-id", "0af7651916cd43dd8448eb211c80319c"), ("user-agent", "grpc-python-asyncio/1.80.1"))


class Context:
    """As much of a call as the admission looks at."""

    def __init__(self, token: str | None, pem: bytes = b"") -> None:
        self._metadata = TRACE if token is None else (*TRACE, ("authorization", f"Bearer {token}"))
        self._auth = {"x509_pem_cert": [pem]} if pem else {}

    def invocation_metadata(self) -> Any:
        return self._metadata

    def auth_context(self) -> Any:
        return self._auth


@contextlib.contextmanager
def opened(folder: Path, *signers: Signer) -> Iterator[Callers]:
    (folder / "keys.json").write_text(key_set(*signers))
    file = folder / "callers.toml"
    file.write_text(
        f"""
        {issuer_table(folder / "keys.json", "ES256", "RS256")}
        [callers.scheduler]
        rpcs = ["Iterate"]
        subjects = [{{issuer = "corp", subject = "svc-scheduler"}}]
        tokens_sha256 = ["{sha256(TOKEN)}"]
        certificates = ["{SPIFFE}"]
        """
    )
    callers = Callers("iterate", CallersTable(file=file))
    with callers.watched():
        yield callers


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        elliptic, rsa = Signer("es-1"), rsa_signer("rs-1")
        certificate, _ = Authority(folder).issue("client", [uri(SPIFFE)])
        with opened(folder, elliptic, rsa) as callers:
            cases: dict[str, tuple[Callers | None, list[Context], int]] = {
                "off": (None, [Context(None)], arguments.calls),
                "token": (callers, [Context(TOKEN)], arguments.calls),
                "JWT, remembered": (callers, [Context(elliptic.token())], arguments.calls),
                "certificate, remembered": (callers, [Context(None, certificate.read_bytes())], arguments.calls),
            }
            times: dict[str, list[float]] = {name: [] for name in cases}
            for round_number in range(arguments.rounds):
                for credential, case in cases.items():
                    times[credential].append(await timed(*case))
                for signer in (elliptic, rsa):
                    fresh = [Context(signer.token(jti=f"{round_number} {number}")) for number in range(200)]
                    times.setdefault(f"JWT {signer.algorithm}, first", []).append(
                        await timed(callers, fresh, len(fresh))
                    )
    for credential, found in times.items():
        print(f"{credential:26} {statistics.median(found):8.2f} us a call ({min(found):.2f} to {max(found):.2f})")


async def timed(callers: Callers | None, contexts: list[Context], count: int) -> float:
    """Microseconds of one admission."""
    task = asyncio.current_task()
    assert task is not None
    trace = TraceContext("0af7651916cd43dd8448eb211c80319c")
    call = Call("/lakehouse.iterate.v1.IterateService/Iterate", trace, "", task, bool, lambda: None)
    started = time.perf_counter()
    for number in range(count):
        if callers is not None:
            await callers.admit(call, "Iterate", contexts[number % len(contexts)])
    return (time.perf_counter() - started) * 1e6 / count


if __name__ == "__main__":
    asyncio.run(main())
