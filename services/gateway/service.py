"""The gateway as a nameko service: wiring only."""

from services.gateway import (
    attempts,
    callbacks,
    idempotency,
    identity_provider,
    password_resets,
    sessions,
    watching,
    workflows,
)
from services.gateway.authentication import KnownKeys
from services.gateway.failed_sign_ups import FailedSignUps
from services.gateway.routes.accounts import AccountRoutes
from services.gateway.routes.admin import AdminRoutes
from services.gateway.routes.admin_credits import AdminCreditRoutes
from services.gateway.routes.admin_engine import AdminEngineRoutes
from services.gateway.routes.admin_keys import AdminKeyRoutes
from services.gateway.routes.analytics import AnalyticsRoutes
from services.gateway.routes.api_keys import ApiKeyRoutes
from services.gateway.routes.credits import CreditRoutes
from services.gateway.routes.events import EventRoutes
from services.gateway.routes.flags import FlagRoutes
from services.gateway.routes.headshots import HeadshotRoutes
from services.gateway.routes.health import HealthRoutes, documents_of
from services.gateway.routes.images import ImageRoutes
from services.gateway.routes.invitations import InvitationRoutes
from services.gateway.routes.job_control import JobControlRoutes
from services.gateway.routes.jobs import JobRoutes
from services.gateway.routes.me import MeRoutes
from services.gateway.routes.members import MemberRoutes
from services.gateway.routes.notifications import NotificationRoutes
from services.gateway.routes.products import ProductRoutes
from services.gateway.routes.quotes import QuoteRoutes
from services.gateway.routes.staging_sessions import StagingSessionRoutes
from services.gateway.routes.stagings import StagingRoutes
from services.gateway.routes.styles import StyleRoutes
from services.gateway.routes.tech_packs import TechPackRoutes
from services.gateway.routes.uploads import UploadRoutes
from services.gateway.routes.webhooks import WebhookRoutes
from services.gateway.routes.webhooks_in import WebhookInRoutes
from services.gateway.routes.workflows import WorkflowRoutes
from services.gateway.streams import Streams
from services.gateway.turns import Turns, image_line
from services.gateway.watching import Watch
from shared import events
from shared.broadcast import Heard
from shared.host import Built, DatabaseProvider, HealthProvider, SettingsProvider, StoreProvider, every
from shared.outside import Outside
from shared.rpc import RpcClient
from shared.rpc_batches import Gathers


class Gateway(
    AccountRoutes,
    AdminCreditRoutes,
    AdminEngineRoutes,
    AdminKeyRoutes,
    AdminRoutes,
    AnalyticsRoutes,
    ApiKeyRoutes,
    CreditRoutes,
    EventRoutes,
    FlagRoutes,
    HeadshotRoutes,
    HealthRoutes,
    ImageRoutes,
    InvitationRoutes,
    JobControlRoutes,
    JobRoutes,
    MeRoutes,
    MemberRoutes,
    NotificationRoutes,
    ProductRoutes,
    QuoteRoutes,
    StagingRoutes,
    StagingSessionRoutes,
    StyleRoutes,
    TechPackRoutes,
    UploadRoutes,
    WebhookInRoutes,
    WebhookRoutes,
    WorkflowRoutes,
):
    """AI image products over HTTP: send a picture, ask for a job, follow it, fetch its images.

    Credits are held when a job is accepted, charged for what succeeds and given back for what does not.
    """

    name = "gateway"
    webhooks = events.logged()
    db = DatabaseProvider()
    settings = SettingsProvider()
    store = StoreProvider()
    health = HealthProvider()
    known_keys = KnownKeys()
    outside = Built(lambda settings: Outside(allowed=settings.outside_allowed))
    identity_provider = Built(identity_provider.of)
    vendors = Built(callbacks.vendors_of)
    turns = Built(lambda _: Turns())
    streams = Heard(
        events.EventRecorded,
        lambda settings: Streams(
            per_organization=settings.streams_per_organization,
            per_principal=settings.streams_per_principal,
            in_all=settings.streams,
        ),
    )
    watch = Built(lambda _: Watch())
    failed_sign_ups = Built(lambda _: FailedSignUps())
    documents = Built(lambda _: documents_of(Gateway))  # before the first request: nobody else would have a turn
    image_line = Built(lambda _: image_line())
    credits = RpcClient("credits")
    catalog = RpcClient("catalog", gathers={"resolve": Gathers(twin="resolve_many", size=workflows.named_in_all)})
    # How large a job is follows from its pictures; the largest have hundreds.
    generation = RpcClient(
        "generation", gathers={"submit": Gathers(twin="submit_many", size=lambda asked: len(asked["assets"]))}
    )

    notifications = RpcClient("notifications")

    @every(seconds=watching.EVERY_SECONDS)
    def end_streams_without_credential(self) -> None:
        self.watch.look(self.db, self.streams, self.identity_provider)

    @every(seconds=10)
    def report_failed_sign_ups(self) -> None:
        self.failed_sign_ups.report(self.notifications)

    @every(seconds=600)
    def prune_idempotency_keys(self) -> None:
        idempotency.prune(self.db)

    @every(seconds=600)
    def prune_webhook_receipts(self) -> None:
        callbacks.prune(self.db)

    @every(seconds=600)
    def prune_identity(self) -> None:
        sessions.prune(self.db)
        password_resets.prune(self.db)
        attempts.prune(self.db)
