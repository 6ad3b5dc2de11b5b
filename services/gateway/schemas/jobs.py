"""Jobs: asking for one, its state, its generations."""

from collections.abc import Sequence
from typing import Any, Final

from marshmallow import fields, validate

from services.gateway import workflows
from services.gateway.schemas.credits import BalanceSchema
from services.gateway.schemas.images import ImageSchema
from services.gateway.schemas.pages import PageQuery, page_of
from shared.http import Schema
from shared.http_fields import Flag, id_of
from shared.ids import SUFFIX_PATTERN

DEADLINE_SECONDS = (60, 86_400)
JOB_ENDS = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled", "expired", "rejected"})
JOB_STATUSES = ("awaiting_credit", "queued", "running", "paused", "cancelling", *sorted(JOB_ENDS))
GENERATION_STATUSES = ("queued", "running", "storing", "succeeded", "failed")
ON_INSUFFICIENT = ("reject", "partial", "pause")
_WARNINGS = (
    "What is not as it was asked for, each `{code, detail}`: `generations_wait` and `generations_not_begun` could not "
    "be paid for, and `fallback` counts the results that another AI service made than was asked first."
)
_WAITING_REASON = (
    "What its next operation waits for: `holding_credits`, `free_worker`, `behind_others` of your own,"
    " `organization_limit`, `provider_limit`, `rate_limit`, `same_analysis` (another operation of yours is finding out"
    " the same) or `circuit_open` (the AI service does not work just now); or why credits did not hold the rest"
    " (`insufficient_credits`, `quota_exceeded`, …)."
)
_CHARGED = "What was charged when it ended. What support gives back later is not taken off: the receipt tells that."


class StatusFilter(fields.String):
    """A status that is looked for, also by what it was called before."""

    WORDS: Final = {
        "pending": "queued",
        "processing": "running",
        "generating": "running",
        "completed": "succeeded",
        "error": "failed",
    }

    def __init__(self, statuses: Sequence[str]) -> None:
        called = ", ".join(f"`{word}` for `{status}`" for word, status in self.WORDS.items())
        described = {"description": f"Or what it was called before: {called}."}
        super().__init__(load_default=None, validate=validate.OneOf(statuses), metadata=described)

    def _deserialize(self, value: Any, *context: Any, **more: Any) -> str:
        word = str(super()._deserialize(value, *context, **more))
        return self.WORDS.get(word, word)


class FailureSchema(Schema):
    """Why a generation failed; its credits are back."""

    reason = fields.String(required=True)
    message = fields.String(required=True, allow_none=True)
    retryable = fields.Boolean(required=True)


class GenerationSchema(Schema):
    """One billable result of a job."""

    id = fields.String(required=True)
    number = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(GENERATION_STATUSES))
    failure = fields.Nested(FailureSchema, required=True, allow_none=True)
    product_id = fields.String(allow_none=True)
    style = fields.String(allow_none=True)
    room_type = fields.String(allow_none=True)
    view_type = fields.String(allow_none=True)
    seed = fields.Integer(allow_none=True)
    result = fields.Dict(allow_none=True)
    images = fields.List(fields.Nested(ImageSchema), required=True)
    charged = fields.Integer(required=True, metadata={"description": _CHARGED})
    entries_url = fields.String()


class CountsSchema(Schema):
    """How many generations are where."""

    total = fields.Integer(required=True)
    queued = fields.Integer(required=True)
    running = fields.Integer(required=True)
    succeeded = fields.Integer(required=True)
    failed = fields.Integer(required=True)


class CacheSchema(Schema):
    """How many of a job's operations ask for what may be known already, and how many of them were answered that way."""

    operations = fields.Integer(required=True)
    hits = fields.Integer(required=True, metadata={"description": "What took no call of an AI service costs nothing."})
    fresh = fields.Boolean(required=True, metadata={"description": "Nothing known was to be taken."})


class JobAtWorkSchema(Schema):
    """One paid request, without what it makes."""

    id = fields.String(required=True)
    workflow = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(JOB_STATUSES))
    phase = fields.String(allow_none=True)
    progress = fields.Integer(required=True)
    counts = fields.Nested(CountsSchema, required=True)
    charged = fields.Integer(required=True, metadata={"description": _CHARGED})
    refunded = fields.Integer(required=True)
    reserved = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    finished_at = fields.DateTime(required=True, allow_none=True)
    deadline_at = fields.DateTime(required=True)
    session_id = fields.String(allow_none=True)
    retry_of = fields.String(allow_none=True)
    retry_count = fields.Integer()
    queue_position = fields.Integer(allow_none=True)
    eta_seconds = fields.Integer(allow_none=True)
    waiting_reason = fields.String(allow_none=True, metadata={"description": _WAITING_REASON})
    stalled = fields.Boolean()
    livemode = fields.Boolean(required=True, metadata={"description": "False for a test key's: it costs nothing."})
    cache = fields.Nested(
        CacheSchema, allow_none=True, metadata={"description": "Null where nothing of it can be known: of images."}
    )
    warnings = fields.List(fields.Dict(), metadata={"description": _WARNINGS})


class JobSchema(JobAtWorkSchema):
    """One paid request.

    ``generations`` are the first 50, in a list of jobs the first 8 of each; `GET /v1/jobs/{id}/generations` has all.
    A 202 also has the ``balance`` after the hold.
    """

    generations = fields.List(fields.Nested(GenerationSchema), required=True)
    balance = fields.Nested(BalanceSchema, allow_none=True)


class PaidRequest(Schema):
    """What every request that can hold credits may say beside its inputs."""

    quote_id = fields.String(
        load_default=None,
        validate=id_of("quo", "a quote"),
        metadata={"description": "Charge at most what this quote says; it is good for one job with the same inputs."},
    )
    on_insufficient = fields.String(
        load_default="reject",
        validate=validate.OneOf(ON_INSUFFICIENT),
        metadata={
            "description": "What to do when balance or allowance are short: `reject` answers 402 and holds nothing; "
            "`partial` does as many generations as can be paid; `pause` does those, and the rest once they can be."
        },
    )
    fresh = Flag(
        load_default=False,
        metadata={"description": "Have analyses made anew, where they are known already too; what is known is free."},
    )
    dry_run = Flag(
        load_default=False,
        metadata={"description": "Answer 200 with what it would cost, or the refusal, and hold nothing."},
    )
    deadline_seconds = fields.Integer(
        load_default=None,
        strict=True,
        validate=validate.Range(*DEADLINE_SECONDS),
        metadata={"description": "Give up, and give the credits back, when it has not ended by then."},
    )


class JobRequest(PaidRequest):
    """A job of any workflow; what ``inputs`` holds depends on it, see `GET /v1/workflows`."""

    workflow = fields.String(required=True, validate=validate.Length(1, 100))
    inputs = fields.Dict(keys=fields.String(), required=True)

    @staticmethod
    def described() -> dict[str, Any]:
        """Return what the document says beside the fields: what each workflow takes."""
        return workflows.described()


class RetryRequest(PaidRequest):
    """Which failures of a job to make again, and what to change; nothing said: all of them, as they were."""

    generation_ids = fields.List(
        fields.String(validate=id_of("gen", "a generation")),
        load_default=None,
        validate=validate.Length(1, 2000),
        metadata={"description": "Failed generations of this job; all of them where it is not given."},
    )
    settings = fields.Dict(
        keys=fields.String(),
        load_default=None,
        metadata={
            "description": "Inputs to change, by name, for instance `style`. None that names an upload, or decides "
            "how many generations there are.",
            "examples": [{"style": "scandinavian"}],
        },
    )
    on_insufficient = fields.String(
        load_default=None,
        validate=validate.OneOf(ON_INSUFFICIENT),
        metadata={"description": "As for a new job; as the ended job had it where it is not given."},
    )


class StagingRequest(PaidRequest):
    """The short form of a job of the workflow `staging`: a room on a photo, furnished."""

    upload_id = fields.String(required=True, metadata={"pattern": f"^ast_{SUFFIX_PATTERN}$"})
    style = fields.String(required=True, validate=validate.Length(1, 100))
    room_type = fields.String(required=True, validate=validate.Length(1, 100))
    variants = fields.Integer(load_default=2, strict=True, validate=validate.Range(1, 8))


class JobsQuery(PageQuery):
    """Which jobs."""

    workflow = fields.String(load_default=None, validate=validate.Length(1, 100))
    status = StatusFilter(JOB_STATUSES)


class GenerationsQuery(PageQuery):
    """Which generations of a job."""

    status = StatusFilter(GENERATION_STATUSES)


JobsSchema = page_of(JobSchema, "Jobs")
GenerationsSchema = page_of(GenerationSchema, "Generations")
