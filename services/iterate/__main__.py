"""``python -m iterate``: the composition root."""

from __future__ import annotations

from lakehouse.server.grpc_switches import set_grpc_switches

if __name__ == "__main__":
    set_grpc_switches()  # before the imports below bring grpc

import contextlib
from collections.abc import AsyncIterator
from functools import partial

from prometheus_client import Counter

from iterate.config import IterateConfig, advice
from iterate.hops import ChatHop, GateHop, hop_credentials
from iterate.limits import Limits
from iterate.servicer import IterateServicer
from iterate.session import Sessions
from iterate.session_log.counts import GAUGES
from iterate.session_log.logger import SessionLogger
from iterate.session_trace import trace_recovered_session
from lakehouse.clients import AsyncChatClient, AsyncValidateClient
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.server.bootstrap import Registration, Runtime, run
from lakehouse.server.tracing_setup import open_tracing
from lakehouse.sessions.record import SessionRecord
from lakehouse.trace_context import read_root_context


@contextlib.asynccontextmanager
async def compose(config: IterateConfig, runtime: Runtime) -> AsyncIterator[Registration]:
    """Everything that iterate needs, open for the time of the block."""
    sessions_total = Counter(
        "lakehouse_sessions", "Sessions ended.", ("kind", "final_verdict"), registry=runtime.metrics.registry
    )

    def count(record: SessionRecord) -> None:
        sessions_total.labels(record.kind, record.final_verdict).inc()

    credentials = hop_credentials(config.hop_tls)
    async with contextlib.AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(open_tracing(config, runtime, service="iterate"))
        log = SessionLogger(config, on_recovered=partial(trace_recovered_session, tracing))
        runtime.metrics.export("lakehouse_session_log", log.counts, gauges=GAUGES)
        await log.start()
        stack.push_async_callback(log.close)
        chat = await stack.enter_async_context(AsyncChatClient(config.chatd, credentials=credentials))
        gate = await stack.enter_async_context(AsyncValidateClient(config.validated, credentials=credentials))
        gate_hop = GateHop(gate)
        sessions = Sessions(
            chat=ChatHop(chat),
            gate=gate_hop,
            source=gate_hop,
            log=log,
            tracing=tracing,
            daemon=config.daemon,
            on_end=count,
            limits=Limits(
                chat_ms_min=config.chat_ms_min,
                validate_ms_max=config.validate_ms_max,
                session_tokens_max=config.session_tokens_max,
                artifact_bytes_max=config.artifact_bytes_max,
                context_bytes_max=config.context_bytes_max,
                brief_ms_max=config.brief_ms_max,
                candidates_max=config.candidates_max,
                asks_infeasible=config.on_infeasible == "ask",
                stops_repeats=config.on_no_progress == "stop",
            ),
        )
        servicer = IterateServicer(sessions=sessions, config=config)
        yield Registration(
            service_names=(iterate_pb2.DESCRIPTOR.services_by_name["IterateService"].full_name,),
            add=lambda server: iterate_pb2_grpc.add_IterateServiceServicer_to_server(servicer, server),
            read_context=read_root_context,
        )


def main() -> None:
    run(
        "iterate",
        IterateConfig,
        compose,
        description="The loop: ask the model, validate, feed the findings back.",
        advise=advice,
    )


if __name__ == "__main__":
    main()
