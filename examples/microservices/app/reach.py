"""Which hosts the ping service may reach: public addresses only, and exactly the address that was looked at.

A name is resolved once, every address that it has must be public, and the connection goes to that address: a second
look-up could give another one (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import socket
import time

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Looks public and answers inside every virtual network (Azure: "What is IP address 168.63.129.16?").
AZURE_PLATFORM = ipaddress.ip_address("168.63.129.16")


class Refused(Exception):
    """The host is not one to reach from here."""


def public_address(host: str) -> Address:
    """Raises Refused for private, loopback, link-local, metadata, multicast and embedded IPv4 addresses."""
    try:
        found = {item[4][0] for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise Refused(f"{host!r} cannot be resolved") from error
    addresses = [ipaddress.ip_address(str(text).split("%")[0]) for text in sorted(found, key=str)]
    if not addresses or not all(is_public(address) for address in addresses):
        raise Refused(f"{host!r} is not a public address")
    return addresses[0]


def is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        # IPv4 in IPv6 clothes: ::ffff:a.b.c.d, 6to4, Teredo and NAT64 lead to the address inside.
        nat64 = ipaddress.ip_network("64:ff9b::/96")
        inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in nat64 else None
        if address.ipv4_mapped or address.sixtofour or address.teredo or inside:
            return False
    return address.is_global and not address.is_multicast and address != AZURE_PLATFORM


def reach(address: Address, port: int = 443, timeout: float = 2.0) -> str:
    """How long a TCP connection to this address takes."""
    began = time.monotonic()
    try:
        with socket.create_connection((str(address), port), timeout=timeout):
            return f"answered in {(time.monotonic() - began) * 1000:.0f} ms"
    except OSError as error:
        return f"no answer: {error.strerror or 'timed out'}"
