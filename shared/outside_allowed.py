"""Which address and port may be gone to: public ones on the web's ports, and what an operator has listed besides."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from shared.outside_addresses import Address, is_public

PUBLIC_PORTS: Final = frozenset({80, 443})
_WITH_PORT: Final = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+)):(?P<port>[0-9]{1,5})", re.ASCII)


class Allowed:
    """The public internet, and ``entries``: networks, each for the web's ports or for the one behind its colon.

    ``10.1.0.0/16``, ``127.0.0.1:8080``, ``fd00::/8``, ``[::1]:8080``.

    Raises:
        ValueError: an entry is of no such form.
    """

    def __init__(self, entries: Sequence[str] = ()) -> None:
        self._networks = [_entry(entry) for entry in entries]

    def has_port(self, port: int) -> bool:
        """Return whether anything may be reached at ``port`` besides the web's."""
        return any(port in ports for _, ports in self._networks)

    def lets(self, address: Address, *, port: int) -> bool:
        """Return whether ``address`` may be gone to at ``port``."""
        if port in PUBLIC_PORTS and is_public(address):
            return True
        return any(address in network and port in ports for network, ports in self._networks)


class Anywhere:
    """Every address and port: for what an operator has set, which nobody outside can choose."""

    def has_port(self, port: int) -> bool:
        """Return True."""
        del port
        return True

    def lets(self, address: Address, *, port: int) -> bool:
        """Return True."""
        del address, port
        return True


def _entry(entry: str) -> tuple[IPv4Network | IPv6Network, frozenset[int]]:
    found = _WITH_PORT.fullmatch(entry)
    if found is None:
        return ip_network(entry.strip("[]")), PUBLIC_PORTS
    return ip_network(found["bracketed"] or found["plain"]), frozenset({int(found["port"])})
