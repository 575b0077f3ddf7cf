"""Which addresses a stranger may send us to: those of the public internet, and no others.

An event names hosts, and anybody may write one. A name can resolve to loopback, to the network behind us or to a
cloud's link-local metadata server, and to something else a moment later: so what is judged is the address that is
connected to, after it was resolved. What carries an IPv4 address inside an IPv6 one (mapped, compatible, 6to4, Teredo,
NAT64) is refused as a whole, whatever it leads to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources.failures import Judgement

_CARRIERS: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
    )
)
"""IPv6 ranges with an IPv4 address inside. `::` and `::1` lie in the first, and are called by their own names."""

Refuse: TypeAlias = Callable[[str], str]
"""Of an address that was resolved: why it is not to be connected to; "" where it may be."""


Found: TypeAlias = tuple[Any, Any, Any, str, tuple[Any, ...]]
"""As getaddrinfo gives them."""


class NotDialled(Exception):
    """Nothing was sent: every address of the host is one that a stranger may not send us to."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.judgement = Judgement(Outcome.PROBE_ERROR, Failure.SKIPPED, FailureLayer.PROBER, f"not dialled: {why}")


def kind_of(address: str) -> str:
    """What an IP address is; "" where it is of the public internet, "no address" for what is none."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "no address"
    kinds = {
        "unspecified": found.is_unspecified,
        "loopback": found.is_loopback,
        "IPv4 inside IPv6": found.version == 6 and any(found in network for network in _CARRIERS),
        "link-local": found.is_link_local,
        "multicast": found.is_multicast,
        "private": found.is_private or (found.version == 6 and found.is_site_local),
        "reserved": found.is_reserved or not found.is_global,
    }
    return next((kind for kind, holds in kinds.items() if holds), "")


def strangers_only(own: Iterable[str] = ()) -> Refuse:
    """Refuses all but public addresses, and those of the kinds `own`: where the operator's own target is."""
    allowed = {"", *own}

    def refuse(address: str) -> str:
        kind = kind_of(address)
        return "" if kind in allowed else f"only an event names this host, and its address {address} is {kind}"

    return refuse


def let_through(found: Sequence[Found], refuse: Refuse) -> list[Found]:
    """Of what getaddrinfo found, that which may be connected to. Raises NotDialled where nothing is left."""
    kept = [each for each in found if not refuse(str(each[4][0]))]
    if not kept:
        raise NotDialled(next((refuse(str(each[4][0])) for each in found), "its host has no address"))
    return kept


async def kinds_at(urls: Iterable[str]) -> frozenset[str]:
    """The kinds, other than public, of the addresses that these URLs' hosts have now. A host without one has none."""
    loop, kinds = asyncio.get_running_loop(), set()
    for url in urls:
        with contextlib.suppress(OSError, ValueError):  # UnicodeError is a ValueError: a name that can be no host's
            if host := urlsplit(url).hostname:
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                kinds |= {kind_of(str(each[4][0])) for each in found}
    return frozenset(kinds - {""})
