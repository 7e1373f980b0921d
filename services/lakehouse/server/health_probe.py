"""``python -m lakehouse.server.health_probe ADDRESS``: exit status 0 where the service is SERVING. For images.

It asks whether the service can do its work now; with ``--liveness`` whether its process lives.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lakehouse.server.liveness import LIVENESS
from lakehouse.server.tls_diagnosis import tls_problem
from lakehouse.targets import check_target


def probe(
    address: str,
    *,
    service: str,
    timeout_s: float,
    credentials: grpc.ChannelCredentials | None = None,
    server_name: str = "",
) -> str:
    """Return the health of `service` (empty: the whole server) at `address`: `SERVING`, `NOT_SERVING`, or what went
    wrong."""
    options = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
    with (
        grpc.secure_channel(address, credentials, options)
        if credentials is not None
        else grpc.insecure_channel(address, options)
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _credentials(*files: Path | None) -> grpc.ChannelCredentials:
    # Pydantic, which plain text can do without: an orchestrator starts a probe every few seconds.
    from lakehouse.server.tls import channel_credentials  # noqa: PLC0415

    return channel_credentials(*files)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="health_probe", description="Ask a service how it is (grpc.health.v1).")
    parser.add_argument("address", help="host:port or unix:/path")
    parser.add_argument("--service", default="", help="full proto name (default: the whole server)")
    parser.add_argument("--liveness", action="store_true", help="whether the process lives, not whether it can work")
    parser.add_argument("--timeout-ms", type=int, default=2000)
    for name, what in (
        ("ca", "PEM of the authorities to trust: probe by TLS"),
        ("cert", "PEM of our certificate, where one is demanded"),
        ("key", "PEM of its private key"),
    ):
        variable = f"LAKEHOUSE_{name.upper()}"
        parser.add_argument(f"--{name}", type=Path, default=os.environ.get(variable), help=f"{what} (${variable})")
    parser.add_argument(
        "--server-name",
        default=os.environ.get("LAKEHOUSE_SERVER_NAME", ""),
        help="the name in the listener's certificate, where it is not the address ($LAKEHOUSE_SERVER_NAME)",
    )
    given = parser.parse_args(arguments)
    files = [Path(each) if each else None for each in (given.ca, given.cert, given.key)]
    ca_file, certificate_file, key_file = files
    if (certificate_file is None) != (key_file is None):
        parser.error("give --cert and --key, or neither")
    secure = any(files)
    try:
        check_target(given.address)
        credentials = _credentials(*files) if secure else None
    except OSError as error:
        parser.error(f"TLS: {error.filename}: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))
    status = probe(
        given.address,
        service=LIVENESS if given.liveness else given.service,
        timeout_s=given.timeout_ms / 1000,
        credentials=credentials,
        server_name=given.server_name,
    )
    print(status)  # noqa: T201  a command's answer
    if status in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        problem = tls_problem(
            given.address,
            secure=secure,
            ca_file=ca_file,
            certificate_file=certificate_file,
            key_file=key_file,
            server_name=given.server_name,
        )
        if problem:
            print(problem, file=sys.stderr)  # noqa: T201  a command's answer
    sys.exit(0 if status == "SERVING" else 1)


if __name__ == "__main__":
    main()
