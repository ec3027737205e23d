"""Which addresses a user may make us talk to: public unicast, and nothing that leads elsewhere. Pure.

From the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates). `ipaddress.is_global` is not
enough: it lets pass NAT64, 6to4, Teredo, multicast and parts of 192.0.0.0/24.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_FORBIDDEN_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's metadata service under a public address
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
# Inside global unicast, but protocols, tunnels that carry an IPv4 address, or documentation.
_FORBIDDEN_V6 = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)


def is_public(address: Address) -> bool:
    """Whether it is an ordinary address of the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _FORBIDDEN_V4)
    if address.scope_id is not None:
        return False
    return address in _GLOBAL_UNICAST_V6 and not any(address in network for network in _FORBIDDEN_V6)


def parse_literal(host: str) -> Address | None:
    """The address a host is, when it is written as one; brackets of IPv6 already taken off."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def looks_numeric(host: str) -> bool:
    """Whether a C library would read the host as an IPv4 address though it is not written as one (`0x7f.1`)."""
    last = host.rstrip(".").rsplit(".", 1)[-1].lower()
    return last.isdigit() or (last.startswith("0x") and all(c in "0123456789abcdef" for c in last[2:]))
