"""The client: one object with the resources of the API on it."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from darkroom_client.credits import Credits
from darkroom_client.events import Events
from darkroom_client.headshots import Headshots
from darkroom_client.images import Images
from darkroom_client.jobs import Jobs, Models, Quotes, Stagings, Workflows
from darkroom_client.people import ApiKeys, Myself
from darkroom_client.products import Products
from darkroom_client.staging import StagingSessions, Styles
from darkroom_client.tech_packs import TechPacks
from darkroom_client.transport import Transport
from darkroom_client.uploads import Uploads
from darkroom_client.webhooks import WebhookEndpoints

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing only from Python 3.11 on


class Darkroom:
    """A client of one organization. Threads may share it; close it, or use it in ``with``, when you are done.

    Args:
        api_key: ``sk_live_…`` or ``sk_test_…``; it is sent to ``base_url`` only, and never logged.
        base_url: the gateway's address.
        timeout_seconds: how long one try may be silent.
        retry_seconds: how long to go on trying where that may help; 0 sends everything once.

    Raises:
        ValueError: key or address cannot be one.
    """

    def __init__(
        self, api_key: str, *, base_url: str, timeout_seconds: float = 30.0, retry_seconds: float = 60.0
    ) -> None:
        self._transport = Transport(
            api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds, retry_seconds=retry_seconds
        )
        self.uploads = Uploads(self._transport)
        self.quotes = Quotes(self._transport)
        self.jobs = Jobs(self._transport)
        self.stagings = Stagings(self._transport)
        self.staging_sessions = StagingSessions(self._transport)
        self.styles = Styles(self._transport)
        self.headshots = Headshots(self._transport)
        self.images = Images(self._transport)
        self.products = Products(self._transport)
        self.tech_packs = TechPacks(self._transport)
        self.credits = Credits(self._transport)
        self.workflows = Workflows(self._transport)
        self.models = Models(self._transport)
        self.me = Myself(self._transport)
        self.api_keys = ApiKeys(self._transport)
        self.events = Events(self._transport)
        self.webhook_endpoints = WebhookEndpoints(self._transport)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Call a route that has no method here, with the same retries and errors; return the answer's JSON."""
        return self._transport.send(method, path, query=query, body=body, idempotency_key=idempotency_key).body

    @property
    def base_url(self) -> str:
        """The gateway's address."""
        return self._transport.base_url

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._transport.close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Darkroom(base_url={self.base_url!r})"
