"""One HTTP POST to an address that somebody configured, without letting it reach into our own network.

The name is resolved once, every address it has must be public, and the connection goes to an address that was checked,
so a name that points elsewhere a moment later (DNS rebinding) changes nothing. Redirects are answers like any other
that is not 2xx. Of the answer only the status and a few headers are read, within limits; proxies of the environment
are not asked, because they would resolve the name again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import Refused, Unreachable
from ..settings import Webhook

Resolve = Callable[[str, int], Awaitable[list[str]]]

_MOST_HEADERS = 16_384
"""Bytes of status line and headers that an endpoint may answer with. The body is not read."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_RESERVED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "3fff::/20")))
"""Not on the internet (RFC 6890 2.2.2, 7526, 8215, 9637), whatever the version of Python believes."""


class Answer(NamedTuple):
    """What the endpoint said."""

    status: int
    retry_after: float | None = None
    """Seconds that it asks to be left alone for."""

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300


async def resolve(host: str, port: int) -> list[str]:
    """Every address of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, also the IPv4 address that an IPv6 one carries inside."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if any(ip in network for network in _RESERVED):
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.is_site_local:
            return False
        inner = ip.ipv4_mapped or ip.sixtofour  # Teredo's 2001::/32 is not global anyhow
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


async def post(hook: Webhook, headers: Mapping[str, str], body: bytes, *, resolve: Resolve = resolve) -> Answer:
    """Post it within `hook.timeout` seconds in all.

    Raises:
        Refused: the host has an address that is not public, and `allow_private` is not set; nothing was sent.
        Unreachable: no connection, no proof of its name, no answer in time, or none that is HTTP.
    """
    url = urlsplit(hook.url)
    host, port = str(url.hostname), url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(hook.timeout):
            addresses = await resolve(host, port)
            if not hook.allow_private and (inside := [a for a in addresses if not is_public(a)]):
                raise Refused(
                    f"webhook {hook.label}: {host} is at {inside[0]}, which is not on the public internet; "
                    "set allow_private if you mean that"
                )
            reader, writer = await _connect(hook, addresses, port, host if url.scheme == "https" else None)
            try:
                target = (url.path or "/") + (f"?{url.query}" if url.query else "")
                lines = [f"POST {target} HTTP/1.1", f"Host: {url.netloc}", "Connection: close"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                lines += [f"Content-Length: {len(body)}", "", ""]
                writer.write("\r\n".join(lines).encode("ascii") + body)
                return await _answer(reader)
            finally:
                writer.transport.abort()  # what the endpoint still has to say is nothing to us
    except TimeoutError:
        raise Unreachable(f"webhook {hook.label}: no answer within {hook.timeout:.0f} s") from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as exc:
        raise Unreachable(f"webhook {hook.label}: {type(exc).__name__}: {exc}"[:500]) from exc


async def _connect(
    hook: Webhook, addresses: list[str], port: int, tls_name: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To one of the addresses that were checked, and to nothing else."""
    context = None
    if tls_name is not None:
        context = ssl.create_default_context()
        if hook.ca_file is not None:
            context.load_verify_locations(hook.ca_file)
    error: OSError = OSError("the name has no address")
    for address in addresses[:4]:
        try:
            return await asyncio.open_connection(
                address, port, ssl=context, server_hostname=tls_name, limit=_MOST_HEADERS
            )
        except OSError as exc:
            error = exc
    raise error


async def _answer(reader: asyncio.StreamReader) -> Answer:
    """The final status (RFC 9110 15.2: any number of 1xx may come before it)."""
    for _ in range(8):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ValueError(f"not HTTP: {first[:40]!r}")
        status = int(rest[:3])
        if status >= 200:
            fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            return Answer(status, _seconds(fields.get("retry-after", "")))
    raise ValueError("too many interim answers")


def _seconds(value: str) -> float | None:
    with suppress(ValueError):  # the other form is a date (RFC 9110 10.2.3); our own backoff serves as well
        return min(86_400.0, max(0.0, float(int(value))))
    return None
