"""What browsers are told: which web pages may call (CORS), and what none may do with an answer.

Credentials are sent in the Authorization header and never by a cookie, so a page gains nothing it does not have.
"""

from collections.abc import Iterable, Mapping, Sequence

ANY = "*"
_SENT = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
)
_READ = (
    "Content-Disposition",
    "Content-Location",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
)
_REMEMBERED_SECONDS = 600
_YEAR_SECONDS = 31_536_000


class Origins:
    """The web pages that may call, by their origins (``https://app.example.com``); ``*`` stands for all."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(allowed)

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """Return the headers of an answer to a page of ``origin``; a page that may not call is told nothing."""
        if not self._allowed:
            return {}
        if ANY in self._allowed:
            return {"Access-Control-Allow-Origin": ANY, "Access-Control-Expose-Headers": ", ".join(_READ)}
        if origin not in self._allowed:
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": origin or "",
            "Access-Control-Expose-Headers": ", ".join(_READ),
            "Vary": "Origin",
        }

    def preflight(self, origin: str | None, allow: Sequence[str]) -> Mapping[str, str]:
        """Return what a browser asks for before it sends a request of a page of ``origin``."""
        if "Access-Control-Allow-Origin" not in self.headers(origin):
            return {}
        return {
            "Access-Control-Allow-Methods": ", ".join(allow),
            "Access-Control-Allow-Headers": ", ".join(_SENT),
            "Access-Control-Max-Age": str(_REMEMBERED_SECONDS),
        }


def security_headers(*, encrypted: bool = False) -> Mapping[str, str]:
    """Return what goes with every answer that does not say otherwise; ``encrypted``: whether clients come by https."""
    always = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
    return {**always, "Strict-Transport-Security": f"max-age={_YEAR_SECONDS}"} if encrypted else always
