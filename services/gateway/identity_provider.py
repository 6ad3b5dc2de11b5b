"""Tokens of an outside identity provider (OpenID Connect): whether one is good, and whom it says its bearer is.

It follows RFC 8725 (best practices for JSON Web Tokens) and knows neither members nor invitations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from marshmallow import ValidationError

from services.gateway.issuer_keys import IssuerKeys, KeyUnknown
from services.gateway.schemas.accounts import NAME_MAX
from services.gateway.schemas.people import EmailAddress
from shared.config import Settings
from shared.problems import Unauthenticated, Unavailable

LEEWAY_SECONDS: Final = 30
_SUBJECT_CHARACTERS: Final = 255
_DOTS: Final = 2
# A logout token is signed with the same key, by the same issuer, for the same audience: its type tells it apart.
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_OPTIONS: Final[Any] = {"require": ["exp", "iss", "sub"], "verify_aud": False}
_email = EmailAddress()


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """Whom a good token names. ``email`` is None unless the issuer says that it verified it; ``name`` may be None.

    It is good until ``ends_at``, in seconds since 1970, if the key it was signed with is listed for as long.
    """

    issuer: str
    subject: str
    key_id: str | None
    ends_at: int
    email: str | None = None
    name: str | None = None


def looks_like_one(text: str) -> bool:
    """Tell whether ``text`` could be a signed token at all."""
    return text.count(".") == _DOTS


class IdentityProvider:
    """An issuer whose tokens are taken, if they are for one of ``audience``."""

    def __init__(self, *, issuer: str, audience: Sequence[str], keys: IssuerKeys) -> None:
        self._issuer = issuer
        self._audience = frozenset(audience)
        self._keys = keys

    def claimed(self, token: str) -> Claimed:
        """Return whom ``token`` names.

        Raises:
            Unauthenticated: it is not good.
            Unavailable: its key is not known, and the issuer cannot be asked.
        """
        try:
            claims = self._verified(token)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("This token has expired; get a new one from your identity provider.") from None
        except jwt.ImmatureSignatureError:
            raise Unauthenticated("This token is not good yet.") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"This token has no claim {error.claim}.") from None
        except (KeyUnknown, jwt.PyJWTError):
            raise _not_good() from None
        self._require_audience(claims)
        return _claimed(claims, key_id=jwt.get_unverified_header(_header(token)).get("kid"))

    def lists(self, key_id: str | None) -> bool:
        """Tell whether the issuer lists a key still; True also where it cannot be asked.

        What was signed with a key that is gone is refused; the others go on while the issuer is away, and end by
        themselves.
        """
        try:
            self._keys.find(key_id)
        except KeyUnknown:
            return False
        except Unavailable:
            return True
        return True

    def _verified(self, token: str) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(_header(token))
        kind, key_id = header.get("typ", "JWT"), header.get("kid")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
            raise jwt.InvalidTokenError("of another type")
        key = self._keys.find(key_id)
        # What the header says besides (jku, x5u, jwk) is never looked at: keys come from the issuer alone.
        return jwt.decode(
            token,
            key.public,
            algorithms=key.algorithms,
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options=_OPTIONS,
        )

    def _require_audience(self, claims: Mapping[str, Any]) -> None:
        """Refuse a token that was made for others.

        Clerk's session tokens have no ``aud``, and name in ``azp`` the origin they were made for; where there is an
        ``aud``, only that counts.
        """
        named = claims.get("aud", claims.get("azp"))
        names = named if isinstance(named, list) else [named]
        if not any(isinstance(name, str) and name in self._audience for name in names):
            raise Unauthenticated("This token is for another audience than this service.")


def of(settings: Settings) -> IdentityProvider | None:
    """Return the identity provider that was set, or None."""
    if not settings.oidc_issuer:
        return None
    keys = IssuerKeys(settings.oidc_issuer)
    return IdentityProvider(issuer=settings.oidc_issuer, audience=settings.oidc_audience, keys=keys)


def _header(token: str) -> str:
    """Return the header alone: the library takes a token apart letter by letter, and a forged key id is told by it."""
    return f"{token.partition('.')[0]}.."


def _claimed(claims: Mapping[str, Any], *, key_id: str | None) -> Claimed:
    subject = claims["sub"]
    if not 0 < len(subject) <= _SUBJECT_CHARACTERS or not subject.isprintable():
        raise _not_good()
    return Claimed(
        issuer=claims["iss"],
        subject=subject,
        key_id=key_id,
        ends_at=int(claims["exp"]) + LEEWAY_SECONDS,
        email=_verified_email(claims),
        name=_name(claims),
    )


def _verified_email(claims: Mapping[str, Any]) -> str | None:
    """Return the address as ours are kept; anything but a plain ``true`` means that nobody verified it."""
    if claims.get("email_verified") is not True:
        return None
    try:
        return _email.deserialize(claims.get("email"))
    except ValidationError:
        return None


def _name(claims: Mapping[str, Any]) -> str | None:
    name = claims.get("name")
    usable = isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= NAME_MAX
    return str(name) if usable else None


def _not_good() -> Unauthenticated:
    return Unauthenticated(
        "This token is not good: it has to be signed by the identity provider of this service, with a key it lists."
    )
