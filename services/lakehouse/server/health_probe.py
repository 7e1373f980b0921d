"""``python -m lakehouse.server.health_probe ADDRESS``: exit status 0 where the service is SERVING. For compose."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def probe(address: str, *, service: str, timeout_s: float) -> str:
    """The health of `service` (empty: the whole server) at `address`: `SERVING`, `NOT_SERVING`, or what went wrong."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main() -> None:
    parser = argparse.ArgumentParser(prog="health_probe", description="Ask a service how it is (grpc.health.v1).")
    parser.add_argument("address", help="host:port or unix:/path")
    parser.add_argument("--service", default="", help="full proto name (default: the whole server)")
    parser.add_argument("--timeout-ms", type=int, default=2000)
    arguments = parser.parse_args()
    status = probe(arguments.address, service=arguments.service, timeout_s=arguments.timeout_ms / 1000)
    print(status)  # noqa: T201  a command's answer
    sys.exit(0 if status == "SERVING" else 1)


if __name__ == "__main__":
    main()
