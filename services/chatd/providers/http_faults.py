"""What can go wrong between a request and its answer, as faults.

The rule of billing: an endpoint that was not reached has billed nothing. From the moment that the request is on the
wire, a broken or silent connection may stand for an answer that was made and lost.
"""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp import http_exceptions

from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason

# What aiohttp raises for an endpoint that cannot be reached, breaks off, falls silent or does not speak HTTP.
HTTP_ERRORS: Final = (aiohttp.ClientError, ConnectionError, http_exceptions.HttpProcessingError)

# For the operator's eyes, in the log.
OLLAMAS_OWN: Final = "Ollama's own form, not OpenAI's: base_url must end in /v1, as http://127.0.0.1:11434/v1"


def named_fault(error: Exception) -> UpstreamFault:
    """Return what one of HTTP_ERRORS is to chatd."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _unreachable(f"the proxy answered {error.status}", repeatable=error.status >= 500)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _unreachable(type(error).__name__, repeatable=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return _unreachable(type(error).__name__, repeatable=True)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return UpstreamFault(Reason.PROVIDER_TIMEOUT, billed=True, repeatable=True, detail="silent for read_timeout_ms")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL | http_exceptions.HttpProcessingError):
        # aiohttp's word for bytes that are not HTTP: no status of the endpoint is ever raised this way.
        return bad_answer(f"not HTTP: {type(error).__name__}")
    return broke_off(f"the connection broke: {type(error).__name__}")


def bad_answer(detail: str) -> UpstreamFault:
    """Return an answer that cannot be used; it was made, so it may be billed."""
    return UpstreamFault(Reason.PROVIDER_BAD_ANSWER, billed=True, detail=detail)


def broke_off(detail: str) -> UpstreamFault:
    """Return an answer that ended before its end."""
    return UpstreamFault(Reason.PROVIDER_FAILED, billed=True, repeatable=True, detail=detail)


def _unreachable(why: str, *, repeatable: bool) -> UpstreamFault:
    detail = f"no connection: {why}"
    return UpstreamFault(
        Reason.PROVIDER_UNREACHABLE, billed=False, repeatable=repeatable, detail=detail, no_connection=True
    )
