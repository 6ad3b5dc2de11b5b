"""Reading a URL that came from outside: one reading only, that of the library which then sends the request."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from shared.outside_addresses import parsed
from shared.problems import Problem

URL_CHARACTERS_MAX: Final = 2048
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)
# What the C library reads as an address though it is not written like one: 2130706433, 0x7f.1, 0177.0.0.1.
_ENDS_IN_NUMBER: Final = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)", re.ASCII)


class UrlRefused(Problem):
    """The address is of no form we go to, or leads elsewhere than to the public internet."""

    status = 400
    code = "url_refused"
    title = "We do not go to this address"
    remedy = "Give an http or https address on the public internet, without user or password in it."


@dataclass(frozen=True, kw_only=True)
class Target:
    """A checked URL in its parts; ``host`` is an ASCII name or an address without brackets."""

    scheme: str
    host: str
    port: int
    path: str
    url: str


def target_of(url: str) -> Target:
    """Return the parts of ``url``.

    Raises:
        UrlRefused: it is no plain http or https address.
    """
    if len(url) > URL_CHARACTERS_MAX or not url.isprintable() or set(url) & {" ", "\\"}:
        raise UrlRefused("The address is longer than 2048 characters or holds some that no address has.")
    try:
        parts = parse_url(url)
        named = urlsplit(url).netloc
    except (LocationParseError, ValueError) as error:
        raise UrlRefused("This is no address that can be read.") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.host:
        raise UrlRefused("Give a whole address that begins with http:// or https://.")
    if parts.auth is not None or "@" in named:
        raise UrlRefused("Give the address without a user name or password.")
    port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
    return Target(scheme=parts.scheme, host=_host(parts.host), port=port, path=parts.request_uri or "/", url=parts.url)


def _host(host: str) -> str:
    """Return the name or address in a URL in the one way it is used from here on.

    Raises:
        UrlRefused: it is neither, or an address written so that others would read it as another one.
    """
    bare = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    if parsed(bare) and "%" not in bare:
        return bare
    if not _NAME.fullmatch(bare) or _ENDS_IN_NUMBER.fullmatch(bare):
        raise UrlRefused("The host in the address is neither a name nor an address in its usual writing.")
    return bare
