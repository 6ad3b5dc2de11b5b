"""The keys an identity provider or an AI vendor signs with: fetched from where it lists them, kept while it is away.

PyJWT's own client for this reads answers of any size, holds everybody up while it fetches, asks a provider that is
down once per request, and has no keys when one fetch fails. Here a key that is known is never waited for.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

import jwt
import structlog

from shared import budget
from shared.outside import Outside
from shared.outside_urls import is_confidential, target_of
from shared.problems import Problem, Unavailable

log = structlog.get_logger(__name__)

FRESH_SECONDS: Final = 300.0
USABLE_SECONDS: Final = 3600.0
# At most this often a key that nobody knows makes us ask, or else whoever invents ids of keys could have us do it.
ASK_AGAIN_SECONDS: Final = 30.0
AFTER_FAILURE_SECONDS: Final = 5.0
FETCH_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 1.2
WAITING_MOST: Final = 10
_DOCUMENT_BYTES: Final = 128 << 10
_KEYS_MOST: Final = 100
_RSA_BITS: Final = range(2048, 8193)
_PUBLIC_MEMBERS: Final = ("kty", "n", "e", "crv", "x", "y")
# Asymmetric only: what a public key verifies must never be a secret's work.
_ALGORITHMS: Final[Mapping[tuple[Any, Any], tuple[str, ...]]] = MappingProxyType(
    {
        ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        ("EC", "P-256"): ("ES256",),
        ("EC", "P-384"): ("ES384",),
        ("EC", "P-521"): ("ES512",),
        ("OKP", "Ed25519"): ("EdDSA",),
    }
)


class KeyUnknown(Exception):
    """The issuer lists no such key, or listed none when it could be asked last."""


class DocumentUnusable(Exception):
    """The issuer answered, but not with what it should; the message says what was wrong, for the log."""


@dataclass(frozen=True)
class Key:
    """A public key, and the algorithms it may verify."""

    public: Any
    algorithms: tuple[str, ...]


@dataclass(frozen=True)
class _Known:
    """The keys of one answer, all and by id, and when it came. One that is the only one is there under None as well."""

    every: Sequence[Key]
    keys: Mapping[str | None, Key]
    since: float


class IssuerKeys:
    """The keys of ``issuer``, fetched in a thread of their own, one fetch at a time.

    ``listed_at`` is the address of its key set; its discovery document names it where that is not given. ``clock``
    gives seconds that only grow.
    """

    def __init__(
        self,
        issuer: str,
        *,
        listed_at: str | None = None,
        outside: Outside | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._listed_at = listed_at
        self._outside = outside or Outside(anywhere=True)
        self._clock = clock
        self._lock = threading.Lock()
        self._known = _Known((), {}, since=float("-inf"))
        self._under_way: threading.Event | None = None
        self._not_before = float("-inf")
        self._waiting = 0

    def find(self, key_id: str | None) -> Key:
        """Return the key with this id; the only one there is for None, as an issuer with one key may leave it out.

        Raises:
            KeyUnknown: there is none.
            Unavailable: the issuer could not be asked, and what it said last is too old to go by.
        """
        key = self._usable().keys.get(key_id)
        if key is None:
            self._wait_for_news()
            key = self._usable().keys.get(key_id)
        elif self._clock() - self._known.since > FRESH_SECONDS:
            self._ask()
        if key:
            return key
        if not self._usable().every:
            raise self._away()
        raise KeyUnknown(key_id or "")

    def every(self, *, anew: bool = False) -> Sequence[Key]:
        """Return all keys, of an issuer that does not say with which it signed; ``anew``: as it lists them now.

        It is asked anew only as often as `find` would for a key it does not know.

        Raises:
            Unavailable: as `find`.
        """
        if anew or not self._usable().every:
            self._wait_for_news()
        elif self._clock() - self._known.since > FRESH_SECONDS:
            self._ask()
        if not self._usable().every:
            raise self._away()
        return self._known.every

    def _usable(self) -> _Known:
        fresh_enough = self._clock() - self._known.since <= USABLE_SECONDS
        return self._known if fresh_enough else _Known((), {}, since=self._known.since)

    def _wait_for_news(self) -> None:
        """Ask the issuer, or wait with those who do, if now is a time to ask.

        Raises:
            Unavailable: it takes too long, or too many wait already.
        """
        under_way = self._ask()
        if under_way is None:
            return
        if self._waiting >= WAITING_MOST:
            raise self._away()
        with self._counted():
            if not under_way.wait(budget.remaining_seconds(WAIT_SECONDS)):
                raise self._away()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def _ask(self) -> threading.Event | None:
        """Return what is set when the fetch under way has ended, begun now if it is time; None where it is not."""
        with self._lock:
            if self._under_way is None and self._clock() >= self._not_before:
                self._under_way = threading.Event()
                # Whatever comes of it, and however few keys: the next time to ask is settled before this one begins.
                self._not_before = self._clock() + AFTER_FAILURE_SECONDS
                threading.Thread(target=self._fetch, args=(self._under_way,), daemon=True).start()
            return self._under_way

    def _fetch(self, done: threading.Event) -> None:
        try:
            every, keys = self._listed()
        except (Problem, DocumentUnusable) as error:
            log.warning(
                "issuer_keys_not_fetched", issuer=self._issuer, error_type=type(error).__name__, error=str(error)
            )
        except Exception:
            log.exception("issuer_keys_not_fetched", issuer=self._issuer)
        else:
            self._known = _Known(every, keys, since=self._clock())
            self._not_before = self._known.since + ASK_AGAIN_SECONDS
            log.info("issuer_keys_fetched", issuer=self._issuer, keys=len(every))
        finally:
            self._under_way = None
            done.set()

    def _listed(self) -> tuple[Sequence[Key], Mapping[str | None, Key]]:
        """Return the keys the issuer lists now, all and by id.

        Raises:
            Problem: it did not answer in time, or too much.
            DocumentUnusable: what it answered is not what it should be.
        """
        until = time.monotonic() + FETCH_SECONDS
        if self._listed_at:
            return _keys_in(self._document(self._listed_at, until=until))
        described = self._document(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration", until=until)
        if described.get("issuer") != self._issuer:
            raise DocumentUnusable("its discovery document is another issuer's")
        address = described.get("jwks_uri")
        if not isinstance(address, str) or not is_confidential(target_of(address)):
            raise DocumentUnusable("its discovery document has no jwks_uri that can be trusted")
        every, by_id = _keys_in(self._document(address, until=until))
        if not by_id:
            raise DocumentUnusable("its keys have no ids, and are several")
        return every, by_id

    def _away(self) -> Unavailable:
        whose = "The AI provider" if self._listed_at else "The identity provider"
        return Unavailable(f"{whose} does not answer right now; try again in a moment.", retry_after=1)

    def _document(self, url: str, *, until: float) -> Mapping[str, Any]:
        seconds = max(0.1, until - time.monotonic())
        with self._outside.opened(url, max_bytes=_DOCUMENT_BYTES, seconds=seconds) as reply:
            if reply.status != HTTPStatus.OK:
                raise DocumentUnusable(f"it answered with status {reply.status}")
            body = reply.read()
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise DocumentUnusable("it did not answer with JSON") from error
        if not isinstance(document, dict):
            raise DocumentUnusable("it did not answer with an object")
        return document


def _keys_in(document: Mapping[str, Any]) -> tuple[Sequence[Key], Mapping[str | None, Key]]:
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _KEYS_MOST:
        raise DocumentUnusable(f"its list of keys is none, or has more than {_KEYS_MOST}")
    usable = [(one.get("kid"), key) for one in listed if isinstance(one, dict) and (key := _key_of(one))]
    found: dict[str | None, Key] = {}
    for key_id, key in usable:
        if isinstance(key_id, str):
            found.setdefault(key_id, key)
    if len(usable) == 1:
        found[None] = usable[0][1]
    if not usable:
        raise DocumentUnusable("it lists no key with which we could verify anything")
    return [key for _, key in usable], found


def _key_of(listed: Mapping[str, Any]) -> Key | None:
    """Return a listed key, or None where it is not for signatures, or not of a kind that is accepted."""
    kind, curve, use, named = (listed.get(name) for name in ("kty", "crv", "use", "alg"))
    operations = listed.get("key_ops", ["verify"])
    if use not in (None, "sig") or not isinstance(operations, list) or "verify" not in operations:
        return None
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return None
    algorithms = tuple(one for one in _ALGORITHMS.get((kind, curve), ()) if named in (None, one))
    if not algorithms:
        return None
    try:
        public = jwt.PyJWK({name: listed[name] for name in _PUBLIC_MEMBERS if name in listed}, algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if kind == "RSA" and public.key_size not in _RSA_BITS:
        return None
    return Key(public, algorithms)
