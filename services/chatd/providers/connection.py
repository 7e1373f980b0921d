"""The HTTP session of one endpoint: its authorities, its proxy, its idle connections."""

from __future__ import annotations

import base64
import ipaddress
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp
from yarl import URL

from chatd.config import HttpProviderTable
from lakehouse.settings import ConfigError, read_secret

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """An HTTP proxy and how it knows us."""

    url: URL
    authorization: str = ""
    """Of its header Proxy-Authorization."""


def open_session(table: HttpProviderTable, headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """Return a session that sends `headers` with each request. Raises ConfigError where a file cannot be used.

    Not for what a proxy must not see: aiohttp sends the headers of a session to the proxy as well, the endpoint's key
    as if it were the proxy's.
    """
    return aiohttp.ClientSession(
        # No limit here: the endpoint's ConcurrencyLimit is the one queue.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=table.keepalive_ms / 1000, ssl=_authorities(table)),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def proxy_of(table: HttpProviderTable) -> Proxy | None:
    """Return the proxy to go through; None for none. Raises ConfigError where it cannot be used."""
    if not table.proxy:
        return None
    if table.proxy == "environment":
        return _proxy_of_environment(URL(table.base_url))
    password = read_secret(table.proxy_password, table.proxy_password_file)
    return Proxy(URL(table.proxy), _authorization(table.proxy_user, password))


def _authorities(table: HttpProviderTable) -> ssl.SSLContext | bool:
    if table.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(table.ca_file))
    except OSError as error:
        # ssl.SSLError is one: a file that holds no certificate.
        raise ConfigError([f"ca_file {table.ca_file}: {error.strerror or 'no PEM certificates'}"]) from None


def _proxy_of_environment(url: URL) -> Proxy | None:
    """Return what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say about `url`; read once, at the start."""
    proxies = urllib.request.getproxies_environment()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or _is_bypassed(url, proxies):
        return None
    proxy = URL(found if "://" in found else f"http://{found}")
    if proxy.scheme not in _DEFAULT_PORTS or not proxy.host:
        # Not quoted: it may hold a password.
        raise ConfigError([f"the environment's proxy for {url.scheme} is no http:// or https:// URL"])
    return Proxy(proxy.with_user(None), _authorization(proxy.user or "", proxy.password or ""))


def _authorization(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""


def _is_bypassed(url: URL, proxies: Mapping[str, str]) -> bool:
    host = url.host or ""
    port = url.port or _DEFAULT_PORTS[url.scheme]
    listed = [each.strip().lower() for each in proxies.get("no", "").split(",") if each.strip()]
    if any(each in {"*", host, f"{host}:{port}"} or host.endswith(f".{each.lstrip('.*')}") for each in listed):
        return True
    # Networks: 10.0.0.0/8.
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(each, strict=False) for each in listed if "/" in each)
    except ValueError:
        return False
