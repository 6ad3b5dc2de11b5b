"""Who asks, and the keys that others ask with."""

from collections.abc import Iterator, Sequence

from darkroom_client import pages
from darkroom_client.credits import Moment, written
from darkroom_client.models import ApiKey, Me, NewApiKey
from darkroom_client.transport import Transport, segment


class Myself:
    """``darkroom.me``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self) -> Me:
        """Return whom the key stands for, in which organization, and what it may do."""
        return Me.from_json(self._transport.send("GET", "/v1/me").body)


class ApiKeys:
    """``darkroom.api_keys``: for keys with the scope `manage`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("read", "write", "spend"),
        workflows: Sequence[str] | None = None,
        livemode: bool = True,
        expires_at: Moment | None = None,
        idempotency_key: str | None = None,
    ) -> NewApiKey:
        """Make a key; keep its ``secret``, it is not shown again.

        Args:
            name: what it is for.
            scopes: what it may do: `read write spend manage`, and never more than the member it stands for.
            workflows: which jobs it may ask for; all unless given.
            livemode: a test key otherwise, which holds no credits.
            expires_at: until when it is good; for good unless given.
            idempotency_key: give one of your own to get the same key again after a crash of yours.
        """
        body = {
            "name": name,
            "scopes": list(scopes),
            "workflows": None if workflows is None else list(workflows),
            "livemode": livemode,
            "expires_at": written(expires_at),
        }
        answer = self._transport.send("POST", "/v1/api-keys", body=body, idempotency_key=idempotency_key)
        return NewApiKey.from_json(answer.body)

    def list(self, *, prefix: str | None = None, page_size: int = 50) -> Iterator[ApiKey]:
        """Yield the keys without their secrets, the newest first, or the one that begins with ``prefix``."""
        return pages.each(self._transport, "/v1/api-keys", model=ApiKey, page_size=page_size, query={"prefix": prefix})

    def rotate(
        self, key_id: str, *, overlap_seconds: int | None = None, idempotency_key: str | None = None
    ) -> NewApiKey:
        """Make a key in place of another, which goes on for a while (a day unless given) beside it."""
        body = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
        path = f"/v1/api-keys/{segment(key_id)}/rotate"
        return NewApiKey.from_json(self._transport.send("POST", path, body=body, idempotency_key=idempotency_key).body)

    def revoke(self, key_id: str) -> None:
        """Revoke a key; it is refused everywhere within 5 seconds. Doing so again changes nothing."""
        self._transport.send("DELETE", f"/v1/api-keys/{segment(key_id)}")
