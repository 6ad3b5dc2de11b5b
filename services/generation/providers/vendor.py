"""What the adapters of outside vendors have in common: account, wire, models and their prices."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar

import structlog

from services.generation import model_registry
from services.generation.failures import reason
from services.generation.operations import Lost, MadeImage, Refused, Running
from services.generation.pricing import Price, Unpriceable, Usage
from services.generation.providers import Request
from services.generation.providers.accounts import Account
from services.generation.providers.framing import framed
from services.generation.providers.results import content_type_of
from services.generation.providers.wire import AnswerLost, NotSent, Reply, Wire
from shared.images import thumbnail
from shared.off_hub import WorkFailed, off_hub
from shared.problems import Problem

log = structlog.get_logger(__name__)
T = TypeVar("T")

# Polls and cancels are quick, and need connections while all that is billed has one.
SPARE_CONNECTIONS: Final = 16
QUICK_SECONDS: Final = 20.0
# Written into JSON, more would hold up everything else in the process; no model looks at more pixels.
SOURCE_BYTES_MAX: Final = 4_000_000
SOURCE_SIDE_MAX: Final = 2048
_OUR_PAUSE_SECONDS: Final = 5.0


def today() -> date:
    """Return the day by which models and prices are valid."""
    return datetime.now(UTC).date()


class Vendor:
    """The part of an adapter that is the same for all; ``headers`` carry the key."""

    requests_per_minute: int | None

    def __init__(self, account: Account, *, headers: Mapping[str, str] | None = None) -> None:
        self.name = account.name
        self.concurrency = account.concurrency
        self.requests_per_minute = account.requests_per_minute
        self.time_limit_seconds = account.time_limit_seconds
        self._account = account
        self._wire = Wire(connections=account.concurrency + SPARE_CONNECTIONS, headers=headers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._account.base_url})"

    @property
    def operations(self) -> frozenset[str]:
        """What it has a model for today."""
        day = today()
        return frozenset(
            operation
            for operation in model_registry.operations_of(self.name)
            if any(model.is_valid(day) for model in model_registry.models_of(self.name, operation))
        )

    def model_for(self, operation: str) -> str:
        """Return the id of the registry's first valid model; raises LookupError where there is none."""
        return model_registry.model_for(self.name, operation, on=today()).id

    def expected_cost_microusd(self, operation: str, parameters: Mapping[str, Any]) -> int:
        """Return the registry's price; raises LookupError where there is none."""
        day = today()
        return model_registry.model_for(self.name, operation, on=day).price(day).expected(parameters)

    def _ready(
        self, request: Request, *, side: int | None = None, aspect_ratio: str | None = None
    ) -> Request | Refused:
        """Return the request as it may be sent: with a price, and with pictures a request can carry.

        Those over 4 MB, or their share of it where there are several, are scaled down to 2048 pixels, and all to
        ``side`` where the model takes no larger ones. With an ``aspect_ratio`` they are cut to it.
        """
        try:
            model = model_registry.find(self.name, request.model)
            model.price(today()).expected(request.parameters)
        except LookupError as error:
            return Refused(code="unpriceable", detail=str(error))
        try:
            most = SOURCE_BYTES_MAX // max(1, len(request.sources))
            carried = [_carried(source, most=most, side=side, aspect_ratio=aspect_ratio) for source in request.sources]
            return replace(request, sources=carried)
        except WorkFailed as problem:
            # Too much at once, and it is we who cannot: nothing that counts against the vendor.
            return Refused(code="capacity", detail=problem.detail, retry_after_seconds=_OUR_PAUSE_SECONDS)
        except Problem as problem:
            return Refused(code="invalid_input", detail=problem.detail)

    def _cost(self, model_id: str, usage: Usage, parameters: Mapping[str, Any]) -> int:
        """Return what a call cost; where the vendor did not tell what it took, what such a call mostly costs."""
        price = self._price(model_id)
        try:
            return price.of(usage)
        except Unpriceable as error:
            log.warning("provider_cost_estimated", provider=self.name, model=model_id, reason=str(error))
            return price.expected(parameters)

    def _billed_as(self, said: str, *, asked: str) -> str:
        """Return the name by which an answer is priced: of the model asked for, if it is that one's."""
        return asked if model_registry.is_same(self.name, asked=asked, said=said) else said

    def _costed(self, outcome: T, model_id: str, parameters: Mapping[str, Any] | None = None) -> T | Refused:
        """Return the outcome; one that is billed although nothing came of it, with what such work mostly costs."""
        if not isinstance(outcome, Refused) or not outcome.ran or reason(outcome.code).billed != "each":
            return outcome
        return replace(outcome, cost_microusd=self._price(model_id).expected(parameters or {}))

    def _price(self, model_id: str) -> Price:
        """Return a model's price; that of the vendor's dearest where it answers by a name that nobody knows."""
        day = today()
        try:
            return model_registry.find(self.name, model_id).price(day)
        except LookupError:
            log.warning("provider_model_unknown", provider=self.name, model=model_id)
            return max(model_registry.prices_of(self.name, on=day), key=lambda price: price.expected({}))

    def _asked(self, send: Callable[[], Reply]) -> Reply | Refused | Lost:
        """Return the answer to a request, or what it means that there is none."""
        try:
            return send()
        except NotSent as failure:
            return Refused(code="connect_failed", detail=str(failure))
        except AnswerLost as failure:
            return Lost(detail=str(failure))

    def _understood(self, read: Callable[[], T]) -> T | Lost:
        """Return what ``read`` makes of an answer; one of another shape than was promised leaves open what was done."""
        try:
            return read()
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            log.exception("provider_answer_not_understood", provider=self.name)
            return Lost(detail=f"the answer has an unknown shape: {type(error).__name__}")

    def _marked(self, request: Request) -> dict[str, str]:
        """Return the header by which vendors' support, and our tests, know the operation."""
        return {"X-Client-Request-Id": request.operation_id}

    def _callback(self, request: Request) -> str | None:
        """Return the address for webhooks, where the vendor takes it: HTTPS only, but for a server of our own."""
        url = request.callback_url
        ours = self._account.base_url.startswith("http://")
        return url if url and (ours or url.startswith("https://")) else None


def collected(made: Sequence[MadeImage | Refused | Running]) -> tuple[MadeImage, ...] | Refused | Running:
    """Return all images, or why one of them is not there: for good before for now."""
    for kind in (Refused, Running):
        for each in made:
            if isinstance(each, kind):
                return each
    return tuple(each for each in made if isinstance(each, MadeImage))


def data_url(source: bytes) -> str:
    """Return a picture as a ``data:`` address."""
    return f"data:{content_type_of(source)};base64,{base64.b64encode(source).decode()}"


def _carried(source: bytes, *, most: int, side: int | None, aspect_ratio: str | None) -> bytes:
    if aspect_ratio:
        return off_hub(framed, source, aspect_ratio=aspect_ratio, side=side or SOURCE_SIDE_MAX)
    if side is None and len(source) <= most:
        return source
    return off_hub(thumbnail, source, side=side or SOURCE_SIDE_MAX)
