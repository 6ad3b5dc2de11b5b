"""Every event of the system, one typed frozen struct each: THE contract between services and with subscribers.

On the wire an event is a CloudEvents 1.0 JSON object (https://github.com/cloudevents/spec); the struct's fields are
its ``data``. Fields are only ever added, with a default; a breaking change is a new type with the suffix V2.
Fields marked `Internal` never reach an organization's log, SSE or webhooks. ``livemode`` is False for what a test key
has asked for.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_type_hints

import msgspec

from shared.ids import new_id
from shared.times import rfc3339

INTERNAL = "internal"
Internal = msgspec.Meta(extra={INTERNAL: True})


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event came from and what caused it. ``sequence`` orders the events of one source."""

    id: str
    time: str
    source: str = ""
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    sequence: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all events. ``meta`` is the envelope; it is no part of ``data`` and is filled in by the outbox."""

    SOURCE: ClassVar[str] = ""
    SUBJECT: ClassVar[str] = ""
    PUBLIC: ClassVar[bool] = True

    meta: Meta | None = None


class MalformedEvent(Exception):
    """The bytes are no CloudEvent, or their data does not fit the type; the message says where."""


class UnknownEventType(MalformedEvent):
    """A well-formed event of a type this code does not know."""


class _Envelope(msgspec.Struct):
    id: str
    source: str
    type: str
    time: str
    data: msgspec.Raw
    specversion: str
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None
    sequence: str | None = None


E = TypeVar("E", bound=Event)
types: dict[str, type[Event]] = {}
_envelopes = msgspec.json.Decoder(_Envelope)
_decoders: dict[str, msgspec.json.Decoder[Any]] = {}


def event(source: str, *, subject: str, public: bool = True) -> Callable[[type[E]], type[E]]:
    """Register an event type published by service ``source``; ``subject`` names the field that is its main id."""

    def register(cls: type[E]) -> type[E]:
        cls.SOURCE, cls.SUBJECT, cls.PUBLIC = source, subject, public
        types[cls.__name__] = cls
        _decoders[cls.__name__] = msgspec.json.Decoder(cls)
        return cls

    return register


def caused_by(cause: Event) -> Meta:
    """Return the meta of an event that ``cause`` brought about: same correlation, ``cause`` as its causation."""
    if cause.meta is None:
        return Meta(id=new_id("evt"), time=_now())
    return Meta(
        id=new_id("evt"),
        time=_now(),
        correlation_id=cause.meta.correlation_id,
        causation_id=cause.meta.id,
        traceparent=cause.meta.traceparent,
    )


def correlated(correlation_id: str | None, *, causation_id: str | None = None) -> Meta:
    """Return the meta of an event in the story ``correlation_id`` names."""
    return Meta(id=new_id("evt"), time=_now(), correlation_id=correlation_id, causation_id=causation_id)


def data_of(item: Event) -> dict[str, Any]:
    """Return the event's ``data`` as plain values."""
    return {name: getattr(item, name) for name in item.__struct_fields__ if name != "meta"}


@cache
def public_fields(cls: type[Event]) -> tuple[str, ...]:
    """Return the names of an event type's public fields, in order."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        name
        for name in cls.__struct_fields__
        if name != "meta" and not any(mark is Internal for mark in get_args(hints[name])[1:])
    )


@cache
def defaults(name: str) -> Mapping[str, Any]:
    """Return the fields of a type that have a value of their own, such as all that were added to it later."""
    fields = msgspec.structs.fields(types[name])
    known = {field.name: field.default for field in fields if field.default is not msgspec.NODEFAULT}
    return MappingProxyType({field: value for field, value in known.items() if field in public_fields(types[name])})


def logged() -> tuple[type[Event], ...]:
    """Return the types that an organization's log has: all public ones that are of one organization, by name."""
    return tuple(cls for _, cls in sorted(types.items()) if cls.PUBLIC and "org_id" in cls.__struct_fields__)


def encode(item: Event) -> bytes:
    """Return the structured-mode CloudEvent, without ``sequence``: the relay adds that one.

    Args:
        item: an event; one without ``meta`` gets a fresh id and no correlation.
    """
    return msgspec.json.encode({**_envelope(item), "data": data_of(item)})


def public(item: Event) -> dict[str, Any]:
    """Return the CloudEvent of an event as its organization may see it, as plain JSON values."""
    data = {name: getattr(item, name) for name in public_fields(type(item))}
    sequence = {"sequence": item.meta.sequence} if item.meta and item.meta.sequence else {}
    shown: dict[str, Any] = msgspec.to_builtins({**_envelope(item), **sequence, "data": data})
    return shown


def _envelope(item: Event) -> dict[str, Any]:
    meta = item.meta or correlated(None)
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": meta.id,
        "source": f"/darkroom/{item.SOURCE}",
        "type": type(item).__name__,
        "subject": getattr(item, item.SUBJECT),
        "time": meta.time,
        "datacontenttype": "application/json",
        "dataschema": f"/docs/events/{type(item).__name__}.json",
    }
    optional = {
        "orgid": getattr(item, "org_id", None),
        "correlationid": meta.correlation_id,
        "causationid": meta.causation_id,
        "traceparent": meta.traceparent,
    }
    return envelope | {name: value for name, value in optional.items() if value is not None}


def decode(body: bytes) -> Event:
    """Read a CloudEvent; unknown fields are ignored.

    Raises:
        UnknownEventType: its type is not one of ours.
        MalformedEvent: anything else is wrong with it.
    """
    try:
        envelope = _envelopes.decode(body)
        decoder = _decoders.get(envelope.type)
        if decoder is None:
            raise UnknownEventType(f"no event type is called {envelope.type!r}")
        item: Event = decoder.decode(envelope.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEvent(str(error)) from error
    return with_meta(
        item,
        Meta(
            id=envelope.id,
            time=envelope.time,
            source=envelope.source,
            correlation_id=envelope.correlationid,
            causation_id=envelope.causationid,
            traceparent=envelope.traceparent,
            sequence=envelope.sequence,
        ),
    )


def with_meta(item: E, meta: Meta) -> E:
    """Return ``item`` with another ``meta``."""
    return msgspec.structs.replace(item, meta=meta)


def schema_of(cls: type[Event]) -> Mapping[str, Any]:
    """Return the JSON Schema of a type's ``data``."""
    schema = msgspec.json.schema(cls)
    definitions = schema["$defs"]
    body = definitions.pop(cls.__name__)
    body["properties"].pop("meta")
    definitions.pop("Meta", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **body, "$defs": definitions}


def _now() -> str:
    return rfc3339(datetime.now(UTC), precision="microseconds")


# --- values inside events ---------------------------------------------------------------------------------------


class HeldLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a reservation; its id is the id of the generation it pays for."""

    line_id: str
    sku: str
    unit: str
    amount: int


class MadeImage(msgspec.Struct, frozen=True, kw_only=True):
    """A stored image a generation made; sizes in bytes and pixels."""

    image_id: str
    sha256: str
    bytes: int
    width: int
    height: int


class RenewedView(msgspec.Struct, frozen=True, kw_only=True):
    """Which view of the event's product an image is a new revision of, and where the image's bytes lie.

    ``asked_at`` is when the generation was asked for: of two revisions the one that was asked for later is current.
    """

    view_type: str
    image_id: str
    key: str
    thumbnail_key: str
    content_type: str
    asked_at: str


class SettledLine(msgspec.Struct, frozen=True, kw_only=True):
    """How one line of a finished job ended: ``outcome`` is ``captured`` or ``refunded``."""

    line_id: str
    outcome: str
    amount: int
    reason: str | None = None


# --- gateway ----------------------------------------------------------------------------------------------------


@event("gateway", subject="org_id")
class OrganizationCreated(Event, frozen=True, kw_only=True):
    """An organization exists, with its first owner."""

    org_id: str
    name: str
    owner_id: str
    plan: str


@event("gateway", subject="user_id")
class MemberInvited(Event, frozen=True, kw_only=True):
    """Somebody was invited. Whoever sends the mail makes the link's token of ``invitation_id`` and ``expires_at``."""

    org_id: str
    user_id: str
    invitation_id: str
    role: str
    invited_by: str
    inviter_name: str
    organization_name: str
    expires_at: str
    email: Annotated[str, Internal]
    inviter: Annotated[str, Internal] = ""  # what the one who is invited reads: an address, where there is no name


@event("gateway", subject="user_id")
class MemberJoined(Event, frozen=True, kw_only=True):
    """Somebody who was invited signed up."""

    org_id: str
    user_id: str
    role: str
    name: str
    joined_at: str
    email: Annotated[str, Internal]


@event("gateway", subject="user_id")
class MemberChanged(Event, frozen=True, kw_only=True):
    """A member has another role."""

    org_id: str
    user_id: str
    role: str
    previous_role: str
    changed_by: str


@event("gateway", subject="user_id")
class MemberRemoved(Event, frozen=True, kw_only=True):
    """Somebody is no member any more; sessions and keys of theirs have ended."""

    org_id: str
    user_id: str
    role: str
    removed_by: str


@event("gateway", subject="user_id", public=False)
class PasswordResetRequested(Event, frozen=True, kw_only=True):
    """A member forgot the password.

    There is no token in it: notifications, which sends the mail, makes the link's of ``reset_id`` and ``expires_at``.
    """

    org_id: str
    user_id: str
    reset_id: str
    expires_at: str
    email: Annotated[str, Internal]


@event("gateway", subject="operation_id", public=False)
class ProviderCallbackReceived(Event, frozen=True, kw_only=True):
    """A provider's webhook came with a good signature: a hint to ask it for an operation, nothing more.

    ``work_id`` is what the provider calls it, where it says so: by it an operation is found whose answer was lost.
    """

    provider: str
    operation_id: str
    delivery_id: str
    work_id: str | None = None


# --- credits ----------------------------------------------------------------------------------------------------


@event("gateway", subject="behaviour_id")
class BehaviourTracked(Event, frozen=True, kw_only=True):
    """Somebody did something with headshots, as a client has told or the gateway has seen; ``behaviour_id`` is of that.

    ``name`` is ``style_selected``, ``headshot_downloaded``, ``user_shared`` or ``history_viewed``.
    """

    behaviour_id: str
    org_id: str
    user_id: str | None
    name: str
    headshot_id: str | None = None
    style: str | None = None
    livemode: bool = True


@event("credits", subject="reservation_id")
class CreditReserved(Event, frozen=True, kw_only=True):
    """Credits are held for these lines of a job; ``available`` and ``version`` are the wallet's after it."""

    reservation_id: str
    job_id: str
    org_id: str
    amount: int
    unit: str
    lines: list[HeldLine]
    available: int
    version: int


@event("credits", subject="line_id")
class CreditCaptured(Event, frozen=True, kw_only=True):
    """Held credits of one line are spent for good."""

    reservation_id: str
    job_id: str
    org_id: str
    line_id: str
    amount: int
    unit: str


@event("credits", subject="line_id")
class RefundIssued(Event, frozen=True, kw_only=True):
    """Credits of one line are back in the wallet.

    ``reason`` is of the failure taxonomy; with ``after_capture`` they had been spent, and an administrator gave them
    back for that reason.
    """

    reservation_id: str
    job_id: str
    org_id: str
    line_id: str
    amount: int
    unit: str
    reason: str
    available: int
    version: int
    after_capture: bool = False


@event("credits", subject="org_id")
class CreditsGranted(Event, frozen=True, kw_only=True):
    """Credits were added to a wallet; they can be spent until ``expires_at``, or for good."""

    grant_id: str
    org_id: str
    amount: int
    unit: str
    kind: str
    available: int
    version: int
    expires_at: str | None = None


@event("credits", subject="grant_id")
class CreditsExpired(Event, frozen=True, kw_only=True):
    """What was left of a grant has expired and is out of the wallet."""

    grant_id: str
    org_id: str
    amount: int
    unit: str
    kind: str
    available: int
    version: int


@event("credits", subject="org_id")
class CreditsAdjusted(Event, frozen=True, kw_only=True):
    """An administrator corrected a wallet by ``amount``, which is negative where credits were taken back."""

    adjustment_id: str
    org_id: str
    amount: int
    unit: str
    reason: str
    available: int
    version: int


@event("credits", subject="org_id")
class PlanChanged(Event, frozen=True, kw_only=True):
    """An organization has another plan; ``monthly_generations`` is its new allowance, None without limit."""

    org_id: str
    plan: str
    previous_plan: str
    monthly_generations: int | None
    changed_by: str


@event("credits", subject="org_id")
class QuotaThresholdReached(Event, frozen=True, kw_only=True):
    """So many percent (80 or 100) of this month's plan generations are used or held; told once a month each."""

    org_id: str
    percent: int
    used: int
    limit: int
    period_start: str
    resets_at: str


@event("credits", subject="job_id", public=False)
class ReservationOverdue(Event, frozen=True, kw_only=True):
    """A line is open longer than its job may take; asks generation how the job ended."""

    reservation_id: str
    job_id: str
    org_id: str
    line_ids: list[str]


@event("credits", subject="night", public=False)
class LedgerInvariantViolated(Event, frozen=True, kw_only=True):
    """The audit of a ``night`` (a date) found so many violations, first one of ``invariant``."""

    night: str
    violations: int
    invariant: str


# --- generation -------------------------------------------------------------------------------------------------


@event("generation", subject="job_id")
class JobAccepted(Event, frozen=True, kw_only=True):
    """A job was taken in; its credits are not held yet."""

    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    generations: int
    deadline_at: str
    livemode: bool = True
    session_id: str | None = None


@event("generation", subject="generation_id")
class GenerationStarted(Event, frozen=True, kw_only=True):
    """The first operation of a generation is on its way to a provider."""

    job_id: str
    generation_id: str
    org_id: str
    workflow: str
    livemode: bool = True
    user_id: str | None = None
    style: str | None = None
    session_id: str | None = None


@event("generation", subject="generation_id")
class GenerationCompleted(Event, frozen=True, kw_only=True):
    """A generation's result is stored; ``amount`` of its line is to be captured.

    ``renewed_view`` is set where the result is a view of ``product_id`` made anew, after the revision ``revision_id``:
    the catalog takes it up, and tells everybody by ProductViewAdded.
    ``fallback_from`` names the provider that was asked first, where another stood in for it, for all or a part of it.
    """

    job_id: str
    generation_id: str
    line_id: str | None
    amount: int
    org_id: str
    user_id: str | None
    workflow: str
    images: list[MadeImage]
    provider: str
    model: str
    duration_ms: int
    provider_cost_microusd: Annotated[int, Internal]
    session_id: str | None = None
    product_id: str | None = None
    revision_id: str | None = None
    style: str | None = None
    room_type: str | None = None
    livemode: bool = True
    fallback_from: str | None = None
    renewed_view: Annotated[RenewedView | None, Internal] = None


@event("generation", subject="generation_id")
class GenerationFailed(Event, frozen=True, kw_only=True):
    """A generation ended without a result; its line is to be given back."""

    job_id: str
    generation_id: str
    line_id: str | None
    org_id: str
    user_id: str | None
    workflow: str
    reason: str
    message: str
    retryable: bool
    session_id: str | None = None
    product_id: str | None = None
    revision_id: str | None = None
    style: str | None = None
    room_type: str | None = None
    provider_cost_microusd: Annotated[int, Internal] = 0
    livemode: bool = True


@event("generation", subject="job_id")
class JobPaused(Event, frozen=True, kw_only=True):
    """A job waits, with ``waiting`` generations that were not begun; ``reason`` says what for. Its deadline stands."""

    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    reason: str
    waiting: int
    session_id: str | None = None
    livemode: bool = True


@event("generation", subject="job_id")
class JobResumed(Event, frozen=True, kw_only=True):
    """A paused job goes on."""

    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    deadline_at: str
    session_id: str | None = None
    livemode: bool = True


@event("generation", subject="session_id")
class StagingSessionChanged(Event, frozen=True, kw_only=True):
    """A staging session has changed, and is so now. ``empty_rooms`` and ``variants`` count what succeeded.

    ``change`` is ``created``, ``changed`` (name, style, room), ``job_accepted``, ``job_ended``, ``selected``,
    ``locked`` or ``deleted``; ``image_id`` is the empty room that is selected.
    """

    session_id: str
    org_id: str
    user_id: str | None
    session_name: str | None
    change: str
    status: str
    room_state: str
    empty_rooms: int
    variants: int
    image_id: str | None
    version: int
    created_at: str
    livemode: bool = True


@event("generation", subject="image_id")
class ImageFavorited(Event, frozen=True, kw_only=True):
    """Somebody has marked an image as a favorite, or (``favorite`` is False) taken the mark off it."""

    image_id: str
    generation_id: str
    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    style: str | None
    favorite: bool
    livemode: bool = True


@event("generation", subject="image_id")
class ImageDeleted(Event, frozen=True, kw_only=True):
    """Somebody has deleted an image for good: its bytes go now."""

    image_id: str
    generation_id: str
    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    style: str | None
    livemode: bool = True


@event("generation", subject="job_id")
class JobFinished(Event, frozen=True, kw_only=True):
    """A job reached its end; ``lines`` says of each line how it ended.

    Of what ``succeeded``, so many ``fallbacks`` were made by another provider than was asked first. ``retry_of`` is the
    job of which it made failed generations again.
    """

    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    status: str
    succeeded: int
    failed: int
    lines: list[SettledLine]
    session_id: str | None = None
    session_name: str | None = None
    livemode: bool = True
    fallbacks: int = 0
    retry_of: str | None = None


@event("generation", subject="job_id")
class JobStalled(Event, frozen=True, kw_only=True):
    """Nothing of an open job has moved since ``since``; it goes on being waited for until its deadline."""

    job_id: str
    org_id: str
    user_id: str | None
    workflow: str
    since: str
    deadline_at: str
    session_id: str | None = None
    livemode: bool = True


@event("generation", subject="provider", public=False)
class ProviderCircuitOpened(Event, frozen=True, kw_only=True):
    """A provider's model failed ``failures`` times in a row, last with ``code``: its operations wait from now on."""

    provider: str
    model: str
    failures: int
    code: str
    opened_at: str
    probe_at: str


@event("generation", subject="provider", public=False)
class ProviderCircuitClosed(Event, frozen=True, kw_only=True):
    """A provider's model works again, after its circuit was open since ``opened_at``."""

    provider: str
    model: str
    opened_at: str
    closed_at: str


@event("generation", subject="model", public=False)
class ModelSunsetApproaching(Event, frozen=True, kw_only=True):
    """The vendor will end a model we use on the day ``sunset``, within 30 days; ``replacement`` is what it advises."""

    provider: str
    model: str
    sunset: str
    replacement: str | None


# --- catalog ----------------------------------------------------------------------------------------------------


@event("catalog", subject="asset_id")
class AssetUploaded(Event, frozen=True, kw_only=True):
    """An input image is stored."""

    asset_id: str
    org_id: str
    user_id: str | None
    purpose: str
    content_type: str
    bytes: int
    sha256: str
    livemode: bool = True


@event("catalog", subject="asset_id")
class SourceDeleted(Event, frozen=True, kw_only=True):
    """An input image's bytes are gone; ``reason`` is ``requested`` or ``retention``."""

    asset_id: str
    org_id: str
    reason: str
    sha256: str
    livemode: bool = True


@event("catalog", subject="product_id")
class ProductChanged(Event, frozen=True, kw_only=True):
    """A product was made or changed, which ``change`` tells apart: ``created`` or ``updated``; how it is now."""

    product_id: str
    org_id: str
    user_id: str | None
    change: str
    name: str
    sku: str | None
    category: str | None
    room_types: list[str]
    version: int
    livemode: bool = True


@event("catalog", subject="product_id")
class ProductDeleted(Event, frozen=True, kw_only=True):
    """A product is gone; images that were made of it stay."""

    product_id: str
    org_id: str
    user_id: str | None
    sku: str | None
    livemode: bool = True


@event("catalog", subject="revision_id")
class ProductViewAdded(Event, frozen=True, kw_only=True):
    """A product has a new revision of a view; ``is_current`` says whether it is the one that is shown.

    Its picture is an upload (``asset_id``), or the image of a generation, made after the revision ``parent_id``.
    """

    revision_id: str
    product_id: str
    org_id: str
    user_id: str | None
    view_type: str
    version: int
    is_current: bool
    asset_id: str | None
    image_id: str | None
    generation_id: str | None
    parent_id: str | None
    sha256: str
    bytes: int
    width: int
    height: int
    livemode: bool = True


# --- notifications ----------------------------------------------------------------------------------------------


@event("notifications", subject="org_id", public=False)
class EventRecorded(Event, frozen=True, kw_only=True):
    """An organization's log has one more event, ``orgsequence`` in it: for gateways, which pass it on to who listens.

    ``event`` is the CloudEvent as its organization may see it; None where it is too large to be sent along, to be read
    from the log instead.
    """

    org_id: str
    orgsequence: int
    type: str
    event: dict[str, Any] | None
    job_id: str | None = None
    session_id: str | None = None


@event("notifications", subject="mail_id")
class EmailSent(Event, frozen=True, kw_only=True):
    """A mail was handed to the mail server; ``kind`` says what it told. Links for a new password are not told of."""

    mail_id: str
    org_id: str
    user_id: str | None
    kind: str


@event("notifications", subject="endpoint_id")
class WebhookEndpointDisabled(Event, frozen=True, kw_only=True):
    """An endpoint gets nothing any more: it answered 410 (``gone``), or only failed for too long (``failing``)."""

    endpoint_id: str
    org_id: str
    reason: str
    failing_since: str | None = None
