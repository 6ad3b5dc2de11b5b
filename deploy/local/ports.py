"""Choosing ports on 127.0.0.1 that are free and stay so."""

import random
import socket
from collections.abc import Collection

# Below the range from which Linux and macOS take the ports of outgoing connections: a port picked there could
# be gone again when its program restarts.
LOWEST, HIGHEST = 20000, 32000


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def pick(*, besides: Collection[int] = ()) -> int:
    """A free port that is not among `besides`. Raises RuntimeError when 1000 tries find none."""
    for _ in range(1000):
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311 (a port number is no secret)
        if port not in besides and is_free(port):
            return port
    raise RuntimeError(f"No free port on 127.0.0.1 between {LOWEST} and {HIGHEST}.")


def pick_several(count: int) -> list[int]:
    """`count` different free ports."""
    ports: list[int] = []
    while len(ports) < count:
        ports.append(pick(besides=ports))
    return ports
