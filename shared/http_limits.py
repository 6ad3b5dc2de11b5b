"""How often one may ask: by address before it is known who asks, by credential after it.

Policies are told in RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers). Counters are kept by
`limits`: in this process, or in Redis where several share them. Where Redis does not answer, each counts for itself.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import structlog
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import SlidingWindowCounterSupport, Storage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.http_problems import AbnormalUsage, Quota, RateLimited

log = structlog.get_logger(__name__)

COUNTERS_MAX = 100_000
REDIS_SECONDS = 0.1
_ALONE_SECONDS = 5.0
_IPV6_NETWORK_BITS = 64  # what one customer of a network provider has


def client_address(environ: Mapping[str, Any], *, proxies: int) -> str:
    """Return whom to count a request for: an IPv4 address, or the /64 of an IPv6 one.

    Args:
        environ: the WSGI environment.
        proxies: how many reverse proxies of ours a request passes. Each notes in X-Forwarded-For whom it heard from;
            whatever stands before their notes is the client's own word, and not believed.
    """
    address = str(environ.get("REMOTE_ADDR") or "unknown")
    if proxies:
        noted = [part.strip() for part in str(environ.get("HTTP_X_FORWARDED_FOR", "")).split(",") if part.strip()]
        address = noted[-proxies] if len(noted) >= proxies else address
    return counted_as(address)


class Limits:
    """The policies of a process. A policy of None limits nothing.

    Args:
        address: ``"600/minute"``: requests of one address, whoever asks.
        credential: as above, of one API key, session or administrator.
        refused: as above, requests of one address whose credential was refused: guesses.
        storage_url: ``redis://…``, or empty to count in this process.
    """

    def __init__(
        self, *, address: str | None, credential: str | None, refused: str | None, storage_url: str = ""
    ) -> None:
        self._address = _parsed(address)
        self._credential = _parsed(credential)
        self._refused = _parsed(refused)
        self._alone = SlidingWindowCounterRateLimiter(Counters())
        self._shared = SlidingWindowCounterRateLimiter(_redis(storage_url)) if storage_url else None
        self._alone_until = 0.0

    def let_in(self, address: str) -> list[Quota]:
        """Count a request of ``address``.

        Raises:
            RateLimited: it asks too often.
            AbnormalUsage: too many of its requests had a credential that was refused.
        """
        if self._refused:
            left = self._state(self._refused, "refused-credentials", address)
            if not left.remaining:
                raise AbnormalUsage(**_told(left))
        return self._spend(self._address, "address", address)

    def let_on(self, principal_id: str) -> list[Quota]:
        """Count a request of a known credential.

        Raises:
            RateLimited: it asks too often.
        """
        return self._spend(self._credential, "credential", principal_id)

    def note_refused(self, address: str) -> None:
        """Count a request whose credential was refused."""
        if self._refused:
            self._hit(self._refused, "refused-credentials", address)

    def _spend(self, item: RateLimitItem | None, policy: str, whose: str) -> list[Quota]:
        if item is None:
            return []
        accepted = self._hit(item, policy, whose)
        left = self._state(item, policy, whose)
        if not accepted:
            problem = RateLimited(
                f"At most {item.amount} requests per {item.get_expiry()} s are taken from one {policy}.",
                **_told(left),
            )
            problem.quotas = [left]
            raise problem
        return [left]

    def _hit(self, item: RateLimitItem, policy: str, whose: str) -> bool:
        return bool(self._ask("hit", item, policy, whose))

    def _state(self, item: RateLimitItem, policy: str, whose: str) -> Quota:
        stats = self._ask("get_window_stats", item, policy, whose)
        return Quota(
            policy=policy,
            quota=item.amount,
            window_seconds=item.get_expiry(),
            remaining=stats.remaining,
            seconds=max(1, math.ceil(stats.reset_time - time.time())),
        )

    def _ask(self, what: str, *args: Any) -> Any:
        if self._shared and time.monotonic() >= self._alone_until:
            try:
                return getattr(self._shared, what)(*args)
            except StorageError as error:
                self._alone_until = time.monotonic() + _ALONE_SECONDS
                log.warning("rate_limits_not_shared", error_type=type(error.storage_error).__name__)
        return getattr(self._alone, what)(*args)


class Counters(Storage, SlidingWindowCounterSupport):
    """Counters in this process, of a bounded number: the one longest unused goes first.

    The library's own walks through all of them from a timer, which with many addresses would stop every other request.
    No green thread is switched to within a method, so there is nothing to lock.
    """

    STORAGE_SCHEME = ["darkroom"]  # noqa: RUF012  the library's registry reads it

    def __init__(self, *, most: int = COUNTERS_MAX) -> None:
        super().__init__()
        self._most = most
        self._counts: OrderedDict[str, tuple[int, int, int]] = OrderedDict()  # number of the window, in it, in the last

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the storage raises: nothing."""
        return StorageError

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count ``amount`` unless that makes more than ``limit``; tell whether it was."""
        window, past = divmod(time.time(), expiry)
        current, previous = self._counted(key, int(window))
        if math.floor(previous * (1 - past / expiry) + current) + amount > limit:
            return False
        self._counts[key] = (int(window), current + amount, previous)
        self._counts.move_to_end(key)
        if len(self._counts) > self._most:
            self._counts.popitem(last=False)
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return counts and seconds left of the previous and the current window."""
        window, past = divmod(time.time(), expiry)
        past = max(past, 1e-6)  # a window that begins right now ends after its whole length, not at once
        current, previous = self._counted(key, int(window))
        return previous, expiry - past if previous else 0.0, current, 2 * expiry - past

    def clear_sliding_window(self, key: str, _expiry: int) -> None:
        """Forget a counter."""
        self._counts.pop(key, None)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count ``amount`` without a limit; return how many there are in this window."""
        self.acquire_sliding_window_entry(key, 1 << 62, expiry, amount)
        return self._counts[key][1]

    def get(self, key: str) -> int:
        """Return how many there are in the last window that was counted in."""
        return self._counts.get(key, (0, 0, 0))[1]

    def get_expiry(self, _key: str) -> float:
        """Return when the counter may be forgotten: at any time."""
        return time.time()

    def check(self) -> bool:
        """Tell that it works."""
        return True

    def reset(self) -> int | None:
        """Forget all counters; return how many there were."""
        found = len(self._counts)
        self._counts.clear()
        return found

    def clear(self, key: str) -> None:
        """Forget a counter."""
        self._counts.pop(key, None)

    def _counted(self, key: str, window: int) -> tuple[int, int]:
        """Return what was counted in this window and in the one before."""
        last, current, previous = self._counts.get(key, (window, 0, 0))
        if last == window:
            return current, previous
        return 0, current if last == window - 1 else 0


@lru_cache(maxsize=10_000)
def counted_as(address: str) -> str:
    """Return whom an address is counted as: an IPv4 address itself, an IPv6 one with the others of its /64."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((known, _IPV6_NETWORK_BITS), strict=False))


def _told(left: Quota) -> dict[str, Any]:
    return {"retry_after": left.seconds, "violated-policies": [left.policy]}


def _parsed(text: str | None) -> RateLimitItem | None:
    return parse(text) if text else None


def _redis(url: str) -> Any:
    """Return the storage at ``url``; it is slow only once: then everybody counts alone for a while."""
    options: dict[str, Any] = {
        "socket_timeout": REDIS_SECONDS,
        "socket_connect_timeout": REDIS_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    return storage_from_string(url, wrap_exceptions=True, **options)
