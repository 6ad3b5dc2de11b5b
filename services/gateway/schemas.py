"""What clients send and get, resource by resource; the OpenAPI document is made of these."""

from typing import Any

from marshmallow import fields, validate

from shared.http import Schema

PAGE = 50
LARGEST_PAGE = 200
DEADLINE_SECONDS = (60, 86_400)
JOB_ENDS = frozenset({"succeeded", "partially_succeeded", "failed", "cancelled", "expired", "rejected"})
JOB_STATUSES = ("awaiting_credit", "queued", "running", "paused", "cancelling", *sorted(JOB_ENDS))
GENERATION_STATUSES = ("queued", "running", "storing", "succeeded", "failed")
PURPOSES = ("room", "product", "inspiration", "face", "profile")
PLANS = ("free", "pro", "team")
_CURSOR = validate.Regexp(r"[A-Za-z0-9_]{1,80}\Z", error="take next_cursor of the page before as it is")


def page_of(item: type[Schema], name: str) -> type[Schema]:
    """Return the schema of a page of ``item``; ``name`` is what the document calls it."""
    members: dict[str, Any] = {
        "data": fields.List(fields.Nested(item), required=True),
        "has_more": fields.Boolean(required=True),
        "next_cursor": fields.String(required=True, allow_none=True),
    }
    return type(f"{name}Schema", (Schema,), {**members, "__doc__": f"A page of {name}."})


class PageQuery(Schema):
    """Which part of a list."""

    limit = fields.Integer(load_default=PAGE, validate=validate.Range(1, LARGEST_PAGE))
    after = fields.String(load_default=None, validate=_CURSOR)


class BalanceSchema(Schema):
    """A wallet after something happened to it; ``version`` grows with every change."""

    available = fields.Integer(required=True)
    held = fields.Integer(required=True)
    version = fields.Integer(required=True)


class ProvenanceSchema(Schema):
    """Where an image comes from."""

    provider = fields.String(allow_none=True)
    model = fields.String(allow_none=True)
    prompt_version = fields.String(allow_none=True)
    digital_source_type = fields.String(allow_none=True)


class ImageSchema(Schema):
    """A stored result. The addresses are good for an hour; ask again for fresh ones."""

    id = fields.String(required=True)
    url = fields.String(required=True)
    thumbnail_url = fields.String(required=True, allow_none=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    content_type = fields.String(required=True)
    seed = fields.Integer(allow_none=True)
    style = fields.String(allow_none=True)
    room_type = fields.String(allow_none=True)
    product_id = fields.String(allow_none=True)
    settings = fields.Dict(allow_none=True)
    pinned = fields.Boolean()
    favorite = fields.Boolean()
    parent_id = fields.String(allow_none=True)
    job_id = fields.String(required=True)
    generation_id = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    provenance = fields.Nested(ProvenanceSchema, allow_none=True)


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
    charged = fields.Integer(required=True)


class CountsSchema(Schema):
    """How many generations are where."""

    total = fields.Integer(required=True)
    queued = fields.Integer(required=True)
    running = fields.Integer(required=True)
    succeeded = fields.Integer(required=True)
    failed = fields.Integer(required=True)


class JobSchema(Schema):
    """One paid request. ``generations`` are the first 50; a 202 also has the ``balance`` after the hold."""

    id = fields.String(required=True)
    workflow = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(JOB_STATUSES))
    phase = fields.String(allow_none=True)
    progress = fields.Integer(required=True)
    counts = fields.Nested(CountsSchema, required=True)
    charged = fields.Integer(required=True)
    refunded = fields.Integer(required=True)
    reserved = fields.Integer(required=True)
    generations = fields.List(fields.Nested(GenerationSchema), required=True)
    created_at = fields.DateTime(required=True)
    finished_at = fields.DateTime(required=True, allow_none=True)
    deadline_at = fields.DateTime(required=True)
    session_id = fields.String(allow_none=True)
    retry_of = fields.String(allow_none=True)
    retry_count = fields.Integer()
    queue_position = fields.Integer(allow_none=True)
    eta_seconds = fields.Integer(allow_none=True)
    waiting_reason = fields.String(allow_none=True)
    stalled = fields.Boolean()
    livemode = fields.Boolean(required=True)
    warnings = fields.List(fields.Dict())
    balance = fields.Nested(BalanceSchema, allow_none=True)


class _Paid(Schema):
    """What every request that can hold credits may say beside its inputs."""

    on_insufficient = fields.String(
        load_default="reject",
        validate=validate.OneOf(["reject"]),
        metadata={"description": "What to do when the balance is short: `reject` answers 402 and holds nothing."},
    )
    deadline_seconds = fields.Integer(
        load_default=None,
        strict=True,
        validate=validate.Range(*DEADLINE_SECONDS),
        metadata={"description": "Give up, and give the credits back, when it has not ended by then."},
    )


class JobRequest(_Paid):
    """A job of any workflow; what ``inputs`` holds depends on it, see `GET /v1/workflows`."""

    workflow = fields.String(required=True, validate=validate.Length(1, 100))
    inputs = fields.Dict(keys=fields.String(), required=True)


class StagingRequest(_Paid):
    """The short form of a job of the workflow `staging`: a room on a photo, furnished."""

    upload_id = fields.String(required=True)
    style = fields.String(required=True, validate=validate.Length(1, 100))
    room_type = fields.String(required=True, validate=validate.Length(1, 100))
    variants = fields.Integer(load_default=2, strict=True, validate=validate.Range(1, 8))


class JobsQuery(PageQuery):
    """Which jobs."""

    workflow = fields.String(load_default=None, validate=validate.Length(1, 100))
    status = fields.String(load_default=None, validate=validate.OneOf(JOB_STATUSES))


class GenerationsQuery(PageQuery):
    """Which generations of a job."""

    status = fields.String(load_default=None, validate=validate.OneOf(GENERATION_STATUSES))


class ImagesQuery(PageQuery):
    """Which images."""

    job_id = fields.String(load_default=None, validate=_CURSOR)


class WarningSchema(Schema):
    """Something worth knowing that is no error."""

    code = fields.String(required=True)
    detail = fields.String(required=True)


class UploadQuery(Schema):
    """What the upload is for, which decides how long it is kept."""

    purpose = fields.String(load_default="room", validate=validate.OneOf(PURPOSES))
    keep_original = fields.Boolean(
        load_default=False,
        metadata={"description": "Keep a `face` beyond its 30 minutes, until you delete it."},
    )


class UploadSchema(Schema):
    """A stored input image."""

    id = fields.String(required=True)
    purpose = fields.String(required=True, validate=validate.OneOf(PURPOSES))
    content_type = fields.String(required=True)
    bytes = fields.Integer(required=True)
    width = fields.Integer(required=True)
    height = fields.Integer(required=True)
    sha256 = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    delete_after = fields.DateTime(required=True, allow_none=True)
    warnings = fields.List(fields.Nested(WarningSchema), required=True)


class QuotaSchema(Schema):
    """The plan's monthly allowance; a limit of null is none."""

    limit = fields.Integer(required=True, allow_none=True)
    used = fields.Integer(required=True)
    resets_at = fields.DateTime(required=True, allow_none=True)


class CreditsSchema(BalanceSchema):
    """The organization's wallet and plan."""

    plan = fields.String(required=True)
    quota = fields.Nested(QuotaSchema, required=True)


class EntriesQuery(PageQuery):
    """Which entries of the history."""

    product = fields.String(load_default=None, validate=validate.Length(1, 100))
    job = fields.String(load_default=None, validate=_CURSOR)


class EntrySchema(Schema):
    """One movement: ``amount`` changes what is available, ``held`` what is held."""

    id = fields.String(required=True)
    kind = fields.String(required=True)
    unit = fields.String(required=True)
    amount = fields.Integer(required=True)
    held = fields.Integer(required=True)
    available_before = fields.Integer(required=True, allow_none=True)
    available_after = fields.Integer(required=True, allow_none=True)
    version = fields.Integer(required=True, allow_none=True)
    job_id = fields.String(allow_none=True)
    generation_id = fields.String(allow_none=True)
    grant_id = fields.String(allow_none=True)
    sku = fields.String(allow_none=True)
    product = fields.String(allow_none=True)
    reason = fields.String(allow_none=True)
    actor = fields.String(allow_none=True)
    created_at = fields.DateTime(required=True)


class PriceSchema(Schema):
    """What one unit of work costs."""

    sku = fields.String(required=True)
    unit = fields.String(required=True)
    amount = fields.Integer(required=True)
    product = fields.String(required=True)


class PricingSchema(Schema):
    """The price book."""

    data = fields.List(fields.Nested(PriceSchema), required=True)


class WorkflowSchema(Schema):
    """A product line: ``inputs`` is the JSON schema of what a job of it takes, ``choices`` what may be chosen."""

    name = fields.String(required=True)
    title = fields.String(required=True)
    inputs = fields.Dict(required=True)
    example = fields.Dict(required=True)
    choices = fields.Dict()


class WorkflowsSchema(Schema):
    """Every product line."""

    data = fields.List(fields.Nested(WorkflowSchema), required=True)


class OrganizationRequest(Schema):
    """A new organization. ``credits`` are granted to it at once."""

    name = fields.String(required=True, validate=validate.Length(1, 200))
    owner_email = fields.Email(load_default=None, validate=validate.Length(max=254))
    amount = fields.Integer(data_key="credits", load_default=0, strict=True, validate=validate.Range(0, 1_000_000_000))
    plan = fields.String(load_default="pro", validate=validate.OneOf(PLANS))


class OrganizationSchema(Schema):
    """A new organization, ready to use. ``api_key`` is its owner's and is shown this once."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    owner_id = fields.String(required=True)
    owner_email = fields.String(required=True, allow_none=True)
    plan = fields.String(required=True)
    api_key = fields.String(required=True)
    balance = fields.Nested(BalanceSchema, required=True)


class ViolationSchema(Schema):
    """One thing in the ledger that does not add up."""

    invariant = fields.String(required=True)
    subject = fields.Raw(required=True)
    expected = fields.Raw(required=True, allow_none=True)
    found = fields.Raw(required=True, allow_none=True)


class InvariantsSchema(Schema):
    """The result of recomputing the whole ledger."""

    checked_at = fields.DateTime(required=True)
    accounts = fields.Integer(required=True)
    entries = fields.Integer(required=True)
    violations = fields.List(fields.Nested(ViolationSchema), required=True)


class HealthSchema(Schema):
    """Whether the process works; ``waiting_for`` names the checks that fail."""

    status = fields.String(required=True)
    waiting_for = fields.List(fields.String(), required=True)


JobsSchema = page_of(JobSchema, "Jobs")
GenerationsSchema = page_of(GenerationSchema, "Generations")
ImagesSchema = page_of(ImageSchema, "Images")
EntriesSchema = page_of(EntrySchema, "Entries")
