"""Every request to an address that came from outside (a customer's picture, a webhook's endpoint) goes through here.

A name is resolved once, every address it has is checked, and the connection goes to such an address, so that no later
answer of the name servers counts; Host, SNI and certificate stay the name's. It knows nothing of what is fetched.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin

import certifi
import structlog
from urllib3.response import BaseHTTPResponse

from shared import budget
from shared.outside_addresses import Address, parsed
from shared.outside_allowed import PUBLIC_PORTS, Allowed, Anywhere
from shared.outside_connections import CONNECT_SECONDS, Deadline, Pinned, PinnedTls, Tls, UrlUnreachable, told
from shared.outside_names import NameUnknown, NoTurn, Resolve, SystemResolver
from shared.outside_urls import Target, UrlRefused, target_of
from shared.problems import LimitExceeded, Unavailable

__all__ = ["Fetched", "Outside", "Reply", "UrlRefused", "UrlUnreachable"]

REDIRECTS_MAX: Final = 3
SECONDS: Final = 15.0
_PIECE_BYTES: Final = 64 << 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_NO_TURN: Final = "Too many addresses are being looked up; try again in a moment."
_NO_TURN_SECONDS: Final = 5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What an address answered; ``content_type`` is what its server claims."""

    data: bytes
    content_type: str
    url: str


class Reply:
    """An answer whose body has not been read yet."""

    def __init__(self, answer: BaseHTTPResponse, *, url: str, deadline: Deadline, max_bytes: int) -> None:
        self.status = int(answer.status)
        self.headers: Mapping[str, str] = answer.headers
        self.url = url
        self._answer = answer
        self._deadline = deadline
        self._max_bytes = max_bytes

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes.

        Raises:
            LimitExceeded: it is, or says that it is, larger than ``max_bytes``.
            UrlUnreachable: it is packed, cut short, or takes too long.
        """
        if self.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
            raise UrlUnreachable("The address sent its content packed; it must send it as it is.")
        size = getattr(self._answer, "length_remaining", None) or 0
        taken = 0
        while max(size, taken) <= self._max_bytes:
            with told(self._deadline):
                piece = self._answer.read1(_PIECE_BYTES, decode_content=False)
            if not piece:
                return
            taken += len(piece)
            if taken <= self._max_bytes:
                yield piece
        raise LimitExceeded(f"The address has more than {self._max_bytes} bytes to give.", limit=self._max_bytes)

    def read(self) -> bytes:
        """Return the whole body; raises what `pieces` does."""
        return b"".join(self.pieces())


class Outside:
    """Goes to addresses outside on behalf of others.

    ``allowed`` lists what may be reached though it is not public, each a network with an optional port
    (``10.1.0.0/16``, ``127.0.0.1:8080``). ``anywhere`` is for addresses that an operator has set, which may lead
    inside; all else holds for them too. ``resolve`` asks the machine's own resolver, and ``authorities`` (a PEM file)
    are the web's, unless a test says otherwise.
    """

    def __init__(
        self,
        *,
        allowed: Sequence[str] = (),
        anywhere: bool = False,
        resolve: Resolve | None = None,
        authorities: str | None = None,
    ) -> None:
        self._allowed = Anywhere() if anywhere else Allowed(allowed)
        self._resolve = resolve or SystemResolver()
        self._tls = Tls(authorities or certifi.where())

    def check(self, url: str, *, whose: str = "", seconds: float = CONNECT_SECONDS) -> None:
        """Refuse what no request would be made to: for a URL that is kept now and asked later, and again then.

        Raises:
            UrlRefused, Unavailable: as `opened`.
        """
        self._addresses(self._target(url), whose=whose, seconds=seconds)

    def fetch(self, url: str, *, max_bytes: int, whose: str = "", seconds: float = SECONDS) -> Fetched:
        """Return what ``url`` answers to GET, following up to 3 redirects.

        Raises:
            UrlRefused, UrlUnreachable, LimitExceeded, Unavailable: as `opened` and `Reply.pieces`; UrlUnreachable also
                for any status but 200.
        """
        with self.opened(url, max_bytes=max_bytes, whose=whose, seconds=seconds, redirects=REDIRECTS_MAX) as reply:
            if reply.status != HTTPStatus.OK:
                raise UrlUnreachable(f"The address answered with status {reply.status}.")
            return Fetched(data=reply.read(), content_type=reply.headers.get("Content-Type", ""), url=reply.url)

    @contextmanager
    def opened(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int,
        whose: str = "",
        seconds: float = SECONDS,
        redirects: int = 0,
    ) -> Iterator[Reply]:
        """Send one request and give the reply; all of it, redirects and body included, within ``seconds``.

        A redirect beyond ``redirects`` is answered as it came when none may be followed, else refused. ``whose`` it is
        done for shares few look-ups of names at a time.

        Raises:
            UrlRefused: the URL, or one it redirects to, is none we go to.
            UrlUnreachable: no answer, or none in time.
            Unavailable: nothing was sent, as too many names of others are being looked up.
        """
        with Deadline(budget.remaining_seconds(seconds)) as deadline:
            for _ in range(redirects + 1):
                target = self._target(url)
                addresses = self._addresses(target, whose=whose, seconds=deadline.left())
                with ExitStack() as undo:
                    connection = self._connection(target, addresses, deadline)
                    undo.callback(connection.close)
                    with told(deadline):
                        answer = _asked(connection, target, method=method, headers=headers or {}, body=body)
                    undo.callback(answer.close)  # it keeps the connection open by itself
                    location = answer.headers.get("Location")
                    if answer.status not in _REDIRECTS or not location or not redirects:
                        yield Reply(answer, url=target.url, deadline=deadline, max_bytes=max_bytes)
                        return
                    url = _redirected(target, location)
            raise UrlUnreachable(f"The address redirects more than {redirects} times.")

    def _target(self, url: str) -> Target:
        target = target_of(url)
        if target.port not in PUBLIC_PORTS and not self._allowed.has_port(target.port):
            raise UrlRefused("Only the ports 80 and 443 are used.")
        return target

    def _addresses(self, target: Target, *, whose: str, seconds: float) -> list[Address]:
        """Return where ``target`` is, if every address it has may be gone to."""
        literal = parsed(target.host)
        try:
            texts = [target.host] if literal else self._resolve(target.host, seconds, whose=whose)
        except NameUnknown:
            texts = []
        except NoTurn:
            log.warning("outside_name_not_looked_up", host=target.host, whose=whose)
            raise Unavailable(_NO_TURN, retry_after=_NO_TURN_SECONDS) from None
        addresses = [parsed(text.partition("%")[0]) for text in texts]
        found = [address for address in addresses if address and self._allowed.lets(address, port=target.port)]
        if not found or len(found) < len(addresses):
            log.info("outside_refused", host=target.host, addresses=list(texts))
            # The same words for a name that does not exist: names inside our network are nobody's business.
            raise UrlRefused("The address leads to no place on the public internet.")
        return found

    def _connection(self, target: Target, addresses: Sequence[Address], deadline: Deadline) -> Pinned:
        if target.scheme == "https":
            return PinnedTls(target, addresses, deadline, ssl_context=self._tls)
        return Pinned(target, addresses, deadline)


def _redirected(target: Target, location: str) -> str:
    try:
        return urljoin(target.url, location)
    except ValueError as error:
        raise UrlRefused("The address redirects to what is no address.") from error


def _asked(
    connection: Pinned, target: Target, *, method: str, headers: Mapping[str, str], body: bytes | None
) -> BaseHTTPResponse:
    sent = {"User-Agent": "Darkroom", "Accept": "*/*", **headers, "Accept-Encoding": "identity", "Connection": "close"}
    connection.request(method, target.path, body=body, headers=sent, preload_content=False, decode_content=False)
    return connection.getresponse()
