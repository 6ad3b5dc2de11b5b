"""The path of a request, in its one canonical form: what is written in another is not there.

A proxy in front that keeps some addresses from some clients compares texts; it must not be a matter of spelling.
"""

import re
import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from shared.http_problems import NO_ADDRESS
from shared.problems import NotFound

_UNRESERVED = string.ascii_letters + string.digits + "-._~"
_DELIMITERS = "!$&'()*+,;=:@"
# RFC 3986, 3.3 and 6.2.2: segments that are not empty, except the last; capitals in what is encoded.
_PATH = re.compile(rf"/|(?:/(?:[{re.escape(_UNRESERVED + _DELIMITERS)}]|%[0-9A-F]{{2}})+)+/?")
_ENCODED = re.compile(r"%([0-9A-F]{2})")
# What is never encoded, and what some reader takes for the end of a segment or of the whole path.
_NOT_ENCODED = frozenset(_UNRESERVED + "/\\\x7f").union(map(chr, range(0x20)))


def path_of(environ: Mapping[str, Any]) -> str:
    """Return the decoded path of a WSGI environment.

    Raises:
        NotFound: it has an empty segment, ``.`` or ``..``, encodes what needs no encoding, a slash, a backslash or a
            control character, leaves unencoded what needs it, or is no UTF-8.
    """
    raw = environ.get("RAW_PATH_INFO")
    if raw is None:  # a server that does not tell how the path was written
        raw = quote(environ["PATH_INFO"].encode("latin-1"), safe=f"/{_DELIMITERS}")
    if not _PATH.fullmatch(raw) or any(chr(int(code, 16)) in _NOT_ENCODED for code in _ENCODED.findall(raw)):
        raise NotFound(NO_ADDRESS)
    if not {".", ".."}.isdisjoint(raw.split("/")):
        raise NotFound(NO_ADDRESS)
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError as error:
        raise NotFound(NO_ADDRESS) from error
