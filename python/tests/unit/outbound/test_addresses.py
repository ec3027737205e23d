from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.outbound.addresses import is_public, looks_numeric


@pytest.mark.parametrize(
    "text",
    ["1.1.1.1", "8.8.8.8", "93.184.216.34", "223.255.255.254", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"],
)
def test_ordinary_addresses_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "192.0.0.8", "192.0.0.9", "192.88.99.1", "224.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::",
        "2001::1",
        "::127.0.0.1", "::ffff:127.0.0.1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "100::1", "3fff::1", "::", "::1",
    ],
)  # fmt: skip
def test_what_is_global_address_space_on_paper_but_leads_elsewhere_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_ipv4_address_python_calls_private_is_public(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not is_public(address)


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_no_ipv6_address_that_embeds_an_ipv4_one_is_public(address: IPv6Address) -> None:
    if address.ipv4_mapped or address.sixtofour or address.teredo or not address.is_global:
        assert not is_public(address)


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0x7f000001", "1.2.3", "10.0x1"])
def test_short_and_octal_forms_are_seen(host: str) -> None:
    assert looks_numeric(host)


@pytest.mark.parametrize("host", ["example.com", "1.example.com", "0x.example.org", "a.b.c"])
def test_names_are_names(host: str) -> None:
    assert not looks_numeric(host)
