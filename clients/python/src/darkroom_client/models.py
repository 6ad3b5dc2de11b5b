"""What the API answers with, as plain frozen values; fields this version does not know are kept in ``extra``."""

import functools
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from darkroom_client.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing only from Python 3.11 on

M = TypeVar("M", bound="Model")
_FRACTION = re.compile(r"\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Model:
    """An object of the API."""

    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, body: Any) -> "Self":
        """Read the object out of an answer's JSON.

        Raises:
            UnexpectedAnswer: a promised field is missing, or is of another kind.
        """
        if not isinstance(body, Mapping):
            raise UnexpectedAnswer(f"expected a {cls.__name__}, not {type(body).__name__}", code="unexpected_answer")
        model: Any = cls  # mypy takes a class of frozen values for unhashable
        kinds = _kinds(model)
        try:
            known = {name: _value(kinds[name], body[name]) for name in kinds if name in body}
        except (ValueError, TypeError, AttributeError) as error:
            raise UnexpectedAnswer(f"{cls.__name__} is misshapen: {error}", code="unexpected_answer") from error
        missing = _required(model) - known.keys()
        if missing:
            raise UnexpectedAnswer(f"{cls.__name__} lacks {', '.join(sorted(missing))}", code="unexpected_answer")
        return cls(**known, extra={name: value for name, value in body.items() if name not in kinds})


@functools.cache
def _kinds(model: type[Model]) -> dict[str, Any]:
    return {name: kind for name, kind in get_type_hints(model).items() if name != "extra"}


@functools.cache
def _required(model: type[Model]) -> set[str]:
    return {each.name for each in fields(model) if each.default is MISSING and each.default_factory is MISSING}


def _value(kind: Any, value: Any) -> Any:
    """Return ``value``, as it came in JSON, as the kind a field is declared to be."""
    origin, inner = get_origin(kind), get_args(kind)
    if value is None:
        read = value
    elif origin in {Union, types.UnionType}:
        read = _value(next(each for each in inner if each is not types.NoneType), value)
    elif origin is list:
        read = [_value(inner[0], each) for each in value]
    elif origin is dict:
        read = {name: _value(inner[1], each) for name, each in value.items()}
    elif isinstance(kind, type) and issubclass(kind, Model):
        read = kind.from_json(value)
    else:
        read = _SCALARS[kind](value) if kind in _SCALARS else value
    return read


def _moment(text: str) -> datetime:
    """Return a time of RFC 3339; Python 3.10 reads neither ``Z`` nor fractions of other than 3 or 6 digits."""
    text = _FRACTION.sub(lambda found: f".{found[1][:6]:0<6}", text)
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


_SCALARS: dict[Any, Any] = {datetime: _moment, date: date.fromisoformat}


@dataclass(frozen=True, kw_only=True)
class Consent(Model):
    """That a face is kept: when that was agreed to, and by whom; ``given_by`` is None for a key without a person."""

    given_at: datetime
    given_by: str | None


@dataclass(frozen=True, kw_only=True)
class Upload(Model):
    """A photo of yours, stored upright and without metadata; ``delete_after`` is when it goes by itself."""

    id: str
    purpose: str
    content_type: str
    bytes: int
    width: int
    height: int
    sha256: str
    created_at: datetime
    delete_after: datetime | None
    warnings: list[dict[str, Any]]
    livemode: bool = True
    consent: Consent | None = None


@dataclass(frozen=True, kw_only=True)
class DeletionReceipt(Model):
    """That an upload's bytes are gone; ``receipt`` is all of it as a JWT (EdDSA), for others to check."""

    upload_id: str
    purpose: str
    sha256: str
    uploaded_at: datetime
    delete_after: datetime | None
    deleted_at: datetime
    reason: str
    consent: Consent | None
    livemode: bool
    receipt: str


@dataclass(frozen=True, kw_only=True)
class UploadLink(Model):
    """The request that sends a photo to the object store: a form of ``fields`` with POST, else with ``headers``."""

    upload_id: str
    method: str
    url: str = field(repr=False)
    expires_at: datetime
    headers: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Organization(Model):
    """Whom everything belongs to."""

    id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Defaults(Model):
    """What new sessions of somebody begin with."""

    aspect_ratio: str
    variety_level: int


@dataclass(frozen=True, kw_only=True)
class Me(Model):
    """Who asks: the member that a key or a session stands for. ``scopes`` are a key's; a person has none."""

    id: str
    email: str | None
    name: str | None
    role: str
    status: str
    photo_upload_id: str | None
    created_at: datetime
    joined_at: datetime | None
    version: int
    organization: Organization
    credential: str
    scopes: list[str]
    livemode: bool
    defaults: Defaults
    terms_accepted_at: datetime | None = None
    terms_version: str | None = None
    onboarding_step: str | None = None
    product_count: int | None = 0


@dataclass(frozen=True, kw_only=True)
class ApiKey(Model):
    """A key without its secret; ``prefix`` is how that begins. ``workflows`` is None where it may ask for all."""

    id: str
    name: str
    prefix: str
    user_id: str
    livemode: bool
    scopes: list[str]
    workflows: list[str] | None
    status: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    rotated_from: str | None


@dataclass(frozen=True, kw_only=True)
class NewApiKey(ApiKey):
    """A key that was just made; ``secret`` is shown this once."""

    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Revision(Model):
    """A picture of a product from one side; of each view's revisions one ``is_current``.

    It is an upload (``upload_id``), or the image of a generation, made after the revision ``parent_id``.
    """

    id: str
    product_id: str
    view_type: str
    version: int
    is_current: bool
    source: str
    upload_id: str | None
    image_id: str | None
    generation_id: str | None
    parent_id: str | None
    url: str = field(repr=False)
    thumbnail_url: str = field(repr=False)
    content_type: str
    bytes: int
    width: int
    height: int
    sha256: str
    created_at: datetime
    livemode: bool


@dataclass(frozen=True, kw_only=True)
class Product(Model):
    """Something you sell; ``views`` are its current revisions, the front first."""

    id: str
    name: str
    sku: str | None
    category: str | None
    room_types: list[str]
    description: str | None
    metadata: dict[str, Any]
    thumbnail_url: str | None = field(repr=False)
    views: list[Revision]
    version: int
    created_at: datetime
    updated_at: datetime
    livemode: bool


@dataclass(frozen=True, kw_only=True)
class Provenance(Model):
    """Who made an image, and how."""

    provider: str | None = None
    model: str | None = None
    prompt_version: str | None = None
    digital_source_type: str | None = None
    livemode: bool = True


@dataclass(frozen=True, kw_only=True)
class Image(Model):
    """A result; ``url`` needs no key, and is good for an hour."""

    id: str
    url: str
    thumbnail_url: str | None
    width: int
    height: int
    bytes: int
    sha256: str
    content_type: str
    job_id: str
    generation_id: str
    created_at: datetime
    seed: int | None = None
    style: str | None = None
    room_type: str | None = None
    product_id: str | None = None
    settings: dict[str, Any] | None = None
    pinned: bool = False
    favorite: bool = False
    parent_id: str | None = None
    livemode: bool = True
    provenance: Provenance | None = None


@dataclass(frozen=True, kw_only=True)
class Origin(Model):
    """An image or an upload that had part in an image; of an upload ``id`` and ``kind`` are known."""

    id: str
    kind: str
    made_of: list[str] = field(default_factory=list)
    workflow: str | None = None
    style: str | None = None
    room_type: str | None = None
    seed: int | None = None
    sha256: str | None = None
    job_id: str | None = None
    generation_id: str | None = None
    created_at: datetime | None = None
    deleted: bool = False
    provider: str | None = None
    model: str | None = None
    prompt_version: str | None = None
    digital_source_type: str | None = None
    livemode: bool = True


@dataclass(frozen=True, kw_only=True)
class Failure(Model):
    """Why a generation failed: ``reason`` for programs, ``message`` for people."""

    reason: str
    message: str | None
    retryable: bool


@dataclass(frozen=True, kw_only=True)
class Generation(Model):
    """One billable result of a job: `queued running storing`, then `succeeded` or `failed`."""

    id: str
    number: int
    status: str
    failure: Failure | None
    images: list[Image]
    charged: int
    product_id: str | None = None
    style: str | None = None
    room_type: str | None = None
    view_type: str | None = None
    seed: int | None = None
    result: dict[str, Any] | None = None
    entries_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Counts(Model):
    """How many generations of a job are where."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class Cache(Model):
    """Of how many ``operations`` of a job the answer might be known, and of how many it was: these are free.

    A ``fresh`` job took nothing that was known.
    """

    operations: int
    hits: int
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Balance(Model):
    """What can be spent, and what running jobs hold."""

    available: int
    held: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Job(Model):
    """One paid request. ``generations`` has the first 50, `jobs.generations` has all; ``progress`` is a percentage.

    ``status`` is one of `awaiting_credit queued running paused cancelling`, and in the end
    `succeeded partially_succeeded failed cancelled expired rejected`.
    """

    id: str
    workflow: str
    status: str
    progress: int
    counts: Counts
    charged: int
    refunded: int
    reserved: int
    generations: list[Generation]
    created_at: datetime
    finished_at: datetime | None
    deadline_at: datetime
    livemode: bool
    phase: str | None = None
    session_id: str | None = None
    retry_of: str | None = None
    retry_count: int = 0
    queue_position: int | None = None
    eta_seconds: int | None = None
    waiting_reason: str | None = None
    stalled: bool = False
    cache: Cache | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    balance: Balance | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.finished_at is not None

    @property
    def images(self) -> list[Image]:
        """The images of ``generations``."""
        return [image for generation in self.generations for image in generation.images]

    @property
    def failures(self) -> list[Failure]:
        """Why those of ``generations`` failed that did."""
        return [generation.failure for generation in self.generations if generation.failure]


@dataclass(frozen=True, kw_only=True)
class PricedLine(Model):
    """So many of one SKU; ``amount`` is ``count`` times ``unit_amount``."""

    sku: str
    unit: str
    count: int
    unit_amount: int
    amount: int
    price_version: int | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate(Model):
    """What a job would cost at this moment; ``shortfall`` says what is missing, where it is not enough."""

    workflow: str
    amount: int
    totals: dict[str, int]
    lines: list[PricedLine]
    images: int
    estimated_seconds: int
    balance: Balance | None
    shortfall: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Quote(Model):
    """A price that is kept until ``expires_at``, for one job of the same workflow and inputs."""

    id: str
    workflow: str
    amount: int
    totals: dict[str, int]
    lines: list[PricedLine]
    images: int
    estimated_seconds: int
    created_at: datetime
    expires_at: datetime
    livemode: bool = True


@dataclass(frozen=True, kw_only=True)
class ReceiptTotal(Model):
    """Where what was held went, in one unit; ``open`` is still held."""

    held: int
    charged: int
    refunded: int
    returned: int
    open: int


@dataclass(frozen=True, kw_only=True)
class ReceiptReason(Model):
    """How much was given back, or not asked for, and why."""

    reason: str
    unit: str
    amount: int
    lines: int


@dataclass(frozen=True, kw_only=True)
class ReceiptLine(ReceiptTotal):
    """One generation's part of a receipt."""

    generation_id: str
    sku: str
    unit: str
    price_version: int
    status: str
    reason: str | None
    return_reason: str | None
    held_at: datetime
    settled_at: datetime | None
    grants: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Receipt(Model):
    """What a job cost, line by line, with the prices it was held at; ``totals`` is by unit."""

    job_id: str
    reservation_id: str | None
    workflow: str | None
    quote_id: str | None
    priced_at: datetime | None
    held_at: datetime | None
    closed: bool
    totals: dict[str, ReceiptTotal]
    discounts: list[ReceiptReason]
    refunds: list[ReceiptReason]
    returns: list[ReceiptReason]
    lines: list[ReceiptLine]


@dataclass(frozen=True, kw_only=True)
class Quota(Model):
    """The plan's monthly allowance; ``limit`` is None where there is none."""

    limit: int | None
    used: int
    resets_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Wallet(Balance):
    """The organization's balance, plan, allowance and counters."""

    plan: str
    quota: Quota
    counters: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Entry(Model):
    """A line of the credit history: `hold capture refund return grant expiry adjustment allowance`."""

    id: str
    kind: str
    unit: str
    amount: int
    held: int
    available_before: int | None
    available_after: int | None
    version: int | None
    created_at: datetime
    job_id: str | None = None
    generation_id: str | None = None
    session_id: str | None = None
    grant_id: str | None = None
    sku: str | None = None
    product: str | None = None
    reason: str | None = None
    actor: str | None = None
    cause: str | None = None


@dataclass(frozen=True, kw_only=True)
class UsageTotals(Model):
    """What was made and what it cost."""

    generations: int
    failed: int
    credits: int
    plan_generations: int


@dataclass(frozen=True, kw_only=True)
class UsageDay(UsageTotals):
    """One workflow on one day (UTC)."""

    day: date
    workflow: str


@dataclass(frozen=True, kw_only=True)
class Usage(Model):
    """Usage by day and workflow."""

    data: list[UsageDay]
    totals: UsageTotals


@dataclass(frozen=True, kw_only=True)
class Plan(Model):
    """A plan one can be on; ``monthly_generations`` is None where they are unlimited."""

    name: str
    monthly_generations: int | None
    price_usd_cents: int


@dataclass(frozen=True, kw_only=True)
class Price(Model):
    """What one of a SKU costs, from when until when."""

    sku: str
    unit: str
    amount: int
    product: str
    price_version: int
    valid_from: datetime
    valid_to: datetime | None


@dataclass(frozen=True, kw_only=True)
class Pricing(Model):
    """The price book: what is in force (``data``) and what is to come."""

    data: list[Price]
    upcoming: list[Price]


@dataclass(frozen=True, kw_only=True)
class Workflow(Model):
    """A kind of job: the JSON Schema of its inputs, an example, and the choices there are."""

    name: str
    title: str
    inputs: dict[str, Any]
    example: dict[str, Any]
    choices: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NextAction(Model):
    """What may be done next in a staging session; ``free`` where a paid step costs nothing this time."""

    action: str
    method: str
    path: str
    body: dict[str, Any]
    free: bool


@dataclass(frozen=True, kw_only=True)
class SessionCounts(Model):
    """How many there are that succeeded."""

    empty_rooms: int
    stagings: int


@dataclass(frozen=True, kw_only=True)
class EmptyRoom(Model):
    """An attempt at the empty room of a session; what fails does not count, so that its number comes again."""

    id: str
    job_id: str
    status: str
    failure: Failure | None
    images: list[Image]
    charged: int
    retry_number: int
    seed: int | None = None
    entries_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class StagedVariant(Model):
    """A staged variant of a session; ``number`` counts those that succeeded, from 1, and is None of others."""

    id: str
    job_id: str
    status: str
    failure: Failure | None
    images: list[Image]
    charged: int
    number: int | None
    style: str | None = None
    room_type: str | None = None
    seed: int | None = None
    entries_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class StagingSession(Model):
    """A room on its way from a photo to staged variants: `draft generating selecting locked staging completed`."""

    id: str
    name: str | None
    status: str
    room_state: str
    upload_id: str
    original_url: str
    original: "Original"
    style: str | None
    room_type: str | None
    selected_image_id: str | None
    locked_at: datetime | None
    next_retry_number: int
    free_retries_left: int
    counts: SessionCounts
    empty_rooms: list[EmptyRoom]
    stagings: list[StagedVariant]
    next_actions: list[NextAction]
    user_id: str | None
    livemode: bool
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def allowed(self) -> "list[str]":
        """The names of the actions that are allowed next."""
        return [each.action for each in self.next_actions]

    @property
    def images(self) -> "list[Image]":
        """All images of the session: its empty rooms, then its staged variants."""
        made = [attempt.images for attempt in self.empty_rooms] + [variant.images for variant in self.stagings]
        return [image for images in made for image in images]


@dataclass(frozen=True, kw_only=True)
class Style(Model):
    """A saved style; its ``id`` can be given wherever a style is asked for."""

    id: str
    name: str
    base: str
    words: str
    colours: list[str]
    livemode: bool
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Attempt(Model):
    """One sending of an operation to an AI provider; ``reason`` says why it failed, if it did.

    ``status`` is `sent`, `submitted` (at work there), `unknown` (the answer was lost), and in the end `succeeded`,
    `failed` or `late`.
    """

    operation_id: str
    generation_id: str
    operation: str
    attempt: int
    status: str
    phase: str | None
    queue_position: int | None
    provider: str
    model_requested: str
    model_used: str | None
    seed: int
    reason: str | None
    sent_at: datetime
    ended_at: datetime | None
    duration_ms: int | None


@dataclass(frozen=True, kw_only=True)
class TimelineStep(Model):
    """One thing that happened to a job; ``detail`` is the provider's name, or why something failed."""

    at: datetime
    what: str
    generation_id: str | None
    detail: str | None


@dataclass(frozen=True, kw_only=True)
class ModelHealth(Model):
    """How an AI model does: `ok`, `paused` for a while, or `down`; ``p50_seconds`` is by operation."""

    status: str
    state: str
    failures_in_a_row: int
    last_failure: str | None
    last_failure_at: datetime | None
    open_since: datetime | None
    paused_until: datetime | None
    p50_seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class AiModel(Model):
    """A model of an AI provider; its vendor ends it at ``sunset``, and names the ``replacement``."""

    provider: str
    id: str
    aliases: list[str]
    operations: list[str]
    in_use_for: list[str]
    available: bool
    valid_from: date
    sunset: date | None
    replacement: str | None
    health: ModelHealth


@dataclass(frozen=True, kw_only=True)
class LoggedEvent(Model):
    """Something that happened; ``event`` is the CloudEvent with its ``data``, ``id`` the place to go on after."""

    id: str
    type: str
    time: datetime
    event: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """What the event tells."""
        data: dict[str, Any] = self.event["data"]
        return data


@dataclass(frozen=True, kw_only=True)
class Activity(Model):
    """Something that happened, in a sentence."""

    id: str
    time: datetime
    type: str
    text: str
    count: int
    actor_id: str | None
    job_id: str | None
    session_id: str | None


@dataclass(frozen=True, kw_only=True)
class Endpoint(Model):
    """Where events are sent to; ``types`` of None are all. ``old_secret_until`` ends the secret before."""

    id: str
    url: str
    types: list[str] | None
    description: str | None
    ordered: bool
    status: str
    disabled_reason: str | None
    failing_since: datetime | None
    old_secret_until: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class NewEndpoint(Endpoint):
    """An endpoint with its secret, which is shown this once."""

    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DeliveryAttempt(Model):
    """One try to deliver: the status that was answered, or the error in its place."""

    number: int
    url: str
    ended_at: datetime
    duration_ms: int
    status: int | None
    error: str | None
    response: str | None


@dataclass(frozen=True, kw_only=True)
class Delivery(Model):
    """One event on its way to an endpoint: `pending`, then `delivered`, `failed` or `cancelled`."""

    id: str
    event_id: str
    event: str | None
    type: str
    cause: str
    status: str
    failure: str | None
    attempt: int
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    attempts: list[DeliveryAttempt]


@dataclass(frozen=True, kw_only=True)
class Original(Model):
    """What became of a photo; what is made of it, and comparisons, need it ``available``."""

    upload_id: str
    available: bool
    delete_after: datetime | None
    deleted_at: datetime | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class HeadshotMetadata(Model):
    """What a headshot took: credits, milliseconds, and how often it was sent to an AI service."""

    cost: int | None
    processing_time_ms: int | None
    provider: str | None
    model: str | None
    prompt_version: str | None
    quality: str
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Headshot(Model):
    """One headshot; its id is its generation's."""

    id: str
    job_id: str
    user_id: str | None
    status: str
    progress: int
    style: str
    aspect_ratio: str
    quality: str
    favorite: bool
    failure: Failure | None
    images: list[Image]
    original: Original
    metadata: HeadshotMetadata
    retry_of: str | None
    retry_count: int
    charged: int
    created_at: datetime
    finished_at: datetime | None
    livemode: bool


@dataclass(frozen=True, kw_only=True)
class StyleCount(Model):
    """How many headshots of a style there are."""

    style: str
    generated: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class Mine(Model):
    """What the person who asks has asked for."""

    generated: int
    credits_spent: int


@dataclass(frozen=True, kw_only=True)
class Milestone(Model):
    """The last round number that was reached, and the next one."""

    reached: int | None
    next: int | None


@dataclass(frozen=True, kw_only=True)
class HeadshotStats(Model):
    """What an organization has made; ``text`` is for people."""

    generated: int
    failed: int
    open: int
    credits_spent: int
    favorites: int
    by_style: list[StyleCount]
    mine: Mine | None
    milestone: Milestone
    text: str


@dataclass(frozen=True, kw_only=True)
class Before(Model):
    """The upload an image was made of; its ``url`` is good for an hour."""

    upload_id: str
    url: str
    width: int
    height: int
    content_type: str
    consent: Consent | None


@dataclass(frozen=True, kw_only=True)
class Comparison(Model):
    """An image beside what it was made of."""

    before: Before
    after: Image


@dataclass(frozen=True, kw_only=True)
class DetectedCategory(Model):
    """What kind of thing a product is."""

    category: str
    subcategory: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class AnalysisProvenance(Model):
    """Who has found an analysis out."""

    provider: str
    model: str
    prompt_version: str


@dataclass(frozen=True, kw_only=True)
class BaseView(Model):
    """A current view of a product with its analysis, edits included; ``version`` is 0 before the first."""

    revision: Revision
    analysis: dict[str, Any] | None
    confidence: float | None
    version: int
    generation_id: str | None
    provenance: AnalysisProvenance | None


@dataclass(frozen=True, kw_only=True)
class CloseUp(Model):
    """A close-up of a detail, and what it shows; ``seen_from`` is the view of the photo it was made of."""

    order: int
    title: str
    view: str
    instruction: str
    reason: str
    seen_from: str
    analysis: dict[str, Any]
    confidence: float
    image: Image
    revision_id: str | None
    set_id: str


@dataclass(frozen=True, kw_only=True)
class Callout(Model):
    """A place worth pointing at: shares of the box around the product, from its upper left."""

    number: int
    label: str
    note: str
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Measurement(Model):
    """A length between two places; ``basis`` is `stated`, `measured`, `estimated` or `assumed`."""

    code: str
    name: str
    value: float
    unit: str
    basis: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, kw_only=True)
class Sketch(Model):
    """A line drawing; ``seen_from`` is the view of the photo it was made of."""

    view_type: str
    seen_from: str
    callouts: list[Callout]
    measurements: list[Measurement]
    confidence: float
    image: Image
    revision_id: str | None
    set_id: str


@dataclass(frozen=True, kw_only=True)
class FieldEdit(Model):
    """An edit of one field; the analysis became ``version`` by it."""

    view_type: str
    field_path: str
    prompt: str
    before: Any
    after: Any
    version: int
    generation_id: str
    user_id: str | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class PackJob(Model):
    """A job of a technical pack that has not ended."""

    job_id: str
    workflow: str
    status: str


@dataclass(frozen=True, kw_only=True)
class PackAction(Model):
    """What may be done next for a technical pack; None in ``body`` is what you have to choose."""

    action: str
    method: str
    path: str
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TechPack(Model):
    """A technical pack put together: `no_views not_analyzed analyzed complete`."""

    product_id: str
    status: str
    product: Product
    category: DetectedCategory | None
    base_views: list[BaseView]
    close_ups: list[CloseUp]
    sketches: list[Sketch]
    edits: list[FieldEdit]
    at_work: list[PackJob]
    charged: int
    next_actions: list[PackAction]

    @property
    def allowed(self) -> "list[str]":
        """The names of the actions that are allowed next."""
        return [each.action for each in self.next_actions]
