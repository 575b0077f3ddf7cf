"""Which addresses a stranger may send us to, judged after the name was resolved."""

from __future__ import annotations

import pytest

from nestobs.observation.schema import Failure, Outcome
from nestobs.sources.address import NotDialled, kind_of, kinds_at, let_through, strangers_only
from nestobs.sources.clock import Clock
from nestobs.sources.dial import NotOpened, dial

KINDS = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "0.0.0.0": "unspecified",
    "::": "unspecified",
    "169.254.169.254": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "192.0.2.7": "private",
    "198.18.0.1": "private",
    "fd00::1": "private",
    "fc00:1234::1": "private",
    "2001:db8::1": "private",
    "100.64.0.1": "reserved",
    "100.127.255.255": "reserved",
    "240.0.0.1": "private",
    "255.255.255.255": "private",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "ff02::1": "multicast",
    "::ffff:127.0.0.1": "IPv4 inside IPv6",
    "::ffff:8.8.8.8": "IPv4 inside IPv6",
    "::127.0.0.1": "IPv4 inside IPv6",
    "64:ff9b::a00:1": "IPv4 inside IPv6",
    "64:ff9b:1::1": "IPv4 inside IPv6",
    "2002:7f00:1::": "IPv4 inside IPv6",
    "2001:0:53aa:64c::1": "IPv4 inside IPv6",
    "fec0::1": "private",
    "no-address": "no address",
    "": "no address",
    "8.8.8.8": "",
    "172.32.0.1": "",
    "100.128.0.1": "",
    "2606:4700:4700::1111": "",
}


@pytest.mark.parametrize("address", KINDS)
def test_an_address_is_of_the_public_internet_or_named_for_what_it_is(address):
    assert kind_of(address) == KINDS[address]
    assert bool(strangers_only()(address)) is bool(KINDS[address])


def test_where_the_operators_own_target_is_strangers_may_be_too_and_no_further():
    refuse = strangers_only({"loopback"})
    assert refuse("127.0.0.1") == ""
    assert "private" in refuse("10.0.0.1")
    assert refuse("::ffff:127.0.0.1") != ""


async def test_the_kinds_of_the_operators_own_hosts_are_looked_up():
    urls = ["http://127.0.0.1:80/api", "wss://[fe80::1]", "ws://10.1.2.3", "wss://8.8.8.8", "no-url", "ws://x.invalid"]
    assert await kinds_at(urls) == {"loopback", "link-local", "private"}
    assert await kinds_at([]) == frozenset()


def found(*addresses):
    return [(None, None, None, "", (address, 443)) for address in addresses]


def test_of_several_addresses_the_public_ones_are_kept():
    assert let_through(found("10.0.0.1", "8.8.8.8"), strangers_only()) == found("8.8.8.8")
    with pytest.raises(NotDialled, match="link-local"):
        let_through(found("169.254.169.254", "10.0.0.1"), strangers_only())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "0"])
async def test_a_strangers_host_is_judged_by_the_address_it_leads_to(host, listening):
    """However it is written, and whatever its name: nothing is sent, not even a connection made."""
    heard, port = listening
    opened = await dial(f"ws://{host}:{port}", tls=None, clock=Clock(), timeout_s=2.0, refuse=strangers_only())
    assert isinstance(opened, NotOpened)
    assert (opened.judgement.outcome, opened.judgement.failure) == (Outcome.PROBE_ERROR, Failure.SKIPPED)
    assert "only an event names this host" in opened.judgement.reason
    assert heard == []
