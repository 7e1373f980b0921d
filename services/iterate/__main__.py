"""``python -m iterate``: the composition root."""

from __future__ import annotations

from lakehouse.server.process import begin_process

if __name__ == "__main__":
    begin_process()  # before the imports below bring grpc

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial

import grpc

from iterate.config import IterateConfig, advice
from iterate.hops import ChatHop, GateHop, hop_tls
from iterate.limits import Limits
from iterate.recall.recall import Recall
from iterate.servicer import IterateServicer
from iterate.session import Sessions
from iterate.session_log.config import session_log_missing
from iterate.session_log.counts import GAUGES
from iterate.session_log.log_probe import LogProbe
from iterate.session_log.logger import SessionLogger
from iterate.session_log.sweep import OnRecovered
from iterate.session_trace import trace_recovered_session
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncChatClient, AsyncClient, AsyncValidateClient
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.server.bootstrap import Registration, Runtime, run
from lakehouse.server.peers import PeerWatch
from lakehouse.server.tracing_setup import open_tracing
from lakehouse.sessions.record import SessionRecord
from lakehouse.trace_context import read_root_context
from lakehouse.validated.v1 import validated_pb2

_CHAT_SERVICE = chatd_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name
_VALIDATE_SERVICE = validated_pb2.DESCRIPTOR.services_by_name["ValidateService"].full_name


@contextlib.asynccontextmanager
async def compose(config: IterateConfig, runtime: Runtime) -> AsyncIterator[Registration]:
    """Everything that iterate needs, open for the time of the block."""
    ended = runtime.metrics.series("lakehouse_sessions", "kind", "final_verdict")
    asked_again = runtime.metrics.series("lakehouse_sessions_asked_again", "fate")
    findings = runtime.metrics.series("lakehouse_session_findings", "code")

    def count(record: SessionRecord) -> None:
        ended.add((record.kind, record.final_verdict))
        for attempt in record.attempts:
            for finding in attempt.findings or ():
                findings.add((finding.code,))

    tls = hop_tls(config.hop_tls)
    credentials = tls.credentials if tls is not None else None
    async with contextlib.AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(open_tracing(config, runtime, service="iterate"))
        on_recovered: OnRecovered = partial(trace_recovered_session, tracing)
        day_use = None
        if runtime.callers is not None and config.session_log_path:
            from iterate.day_use import DayUse  # noqa: PLC0415  for who has callers alone

            day_use = DayUse(runtime.callers.budgets, config.session_log_path)
            on_recovered = day_use.beside(on_recovered)
        log = SessionLogger(config, on_recovered=on_recovered)
        runtime.metrics.export("lakehouse_session_log", log.counts, gauges=GAUGES)
        await log.start()
        stack.push_async_callback(log.close)
        recall = None
        if config.session_log_path and config.recall_hours:
            recall = Recall(config, log)
            recall.start()
            stack.push_async_callback(recall.close)
        if day_use is not None:
            await stack.enter_async_context(day_use.restored())
        chat = await stack.enter_async_context(AsyncChatClient(config.chatd, credentials=credentials))
        gate = await stack.enter_async_context(AsyncValidateClient(config.validated, credentials=credentials))
        if tls is not None:
            stack.enter_context(tls.watched(partial(_reconnect, asyncio.get_running_loop(), (chat, gate))))
        grace_s = config.peer_away_ms / 1000
        peers = [
            await stack.enter_async_context(PeerWatch(f"{name} at {target}", service, channel, grace_s=grace_s).open())
            for name, target, service, channel in (
                ("chatd", config.chatd, _CHAT_SERVICE, lambda: chat.channel),
                ("validated", config.validated, _VALIDATE_SERVICE, lambda: gate.channel),
            )
        ]
        log_probe = stack.enter_context(LogProbe(config).running()) if log.strict else None

        def unready() -> Iterator[str]:
            if log_probe is not None and (problem := log_probe.problem() or log.problem()):
                yield problem
            yield from filter(None, (peer.cause() for peer in peers))

        gate_hop = GateHop(gate)
        sessions = Sessions(
            chat=ChatHop(chat),
            gate=gate_hop,
            source=gate_hop,
            log=log,
            tracing=tracing,
            daemon=config.daemon,
            recall=recall,
            on_end=count,
            on_asked_again=lambda fate: asked_again.add((fate,)),
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
        stack.push_async_callback(sessions.close)
        servicer = IterateServicer(sessions=sessions, config=config, callers=runtime.callers)
        yield Registration(
            service_names=(iterate_pb2.DESCRIPTOR.services_by_name["IterateService"].full_name,),
            add=lambda server: iterate_pb2_grpc.add_IterateServiceServicer_to_server(servicer, server),
            read_context=read_root_context,
            unready=unready,
            reload=(tls.reload,) if tls is not None else (),
        )


def _reconnect(
    loop: asyncio.AbstractEventLoop, clients: Sequence[AsyncClient], credentials: grpc.ChannelCredentials
) -> None:
    """Have the clients use new certificates; from any thread."""
    for client in clients:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(client.reconnect, credentials)


def main() -> None:
    run(
        "iterate",
        IterateConfig,
        compose,
        description="The loop: ask the model, validate, feed the findings back.",
        missing=session_log_missing,
        advise=advice,
    )


if __name__ == "__main__":
    main()
