"""Which addresses a crawl may connect to: those of the public internet, and networks that the config names.

A page can send a crawler to any name, and a name can point anywhere, at every look-up anew. So names are resolved
here, the answer is checked, and the connection goes to the very address that was checked.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a host name as text; raises OSError where there is none."""

NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(OSError):
    """A host has an address that a crawl must not connect to."""


async def system_lookup(host: str, port: int) -> list[str]:
    """Return the addresses that the system's resolver gives."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Guard:
    """The rule about addresses: only public ones, and those of the allowed networks."""

    def __init__(self, allowed_networks: Iterable[str]) -> None:
        self.allowed = [ipaddress.ip_network(network) for network in allowed_networks]

    def check(self, text: str) -> None:
        """Raise AddressRefused unless a crawl may connect to the address."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError as error:
            raise AddressRefused(f"{text!r} is no address") from error
        inner = _inner(address)
        if not any(inner in network for network in self.allowed) and not _is_public(inner):
            raise AddressRefused(f"{text} is not a public address")

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for a connection to the address of `info`, after a last check of it."""
        family, kind, proto, _, address = info
        self.check(str(address[0]))
        opened = socket.socket(family, kind, proto)
        opened.setblocking(False)
        return opened


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or getattr(address, "is_site_local", False)
    )


class CheckedResolver(AbstractResolver):
    """Resolves names to checked addresses. One bad address in an answer refuses the host: no honest name mixes them."""

    def __init__(self, lookup: Lookup, guard: Guard) -> None:
        self.lookup, self.guard = lookup, guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the host's addresses; raise AddressRefused where one may not be connected to, OSError for none."""
        addresses = await self.lookup(host, port)
        for address in addresses:
            self.guard.check(address)
        if not addresses:
            raise OSError(f"{host} has no address")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Hold nothing."""
