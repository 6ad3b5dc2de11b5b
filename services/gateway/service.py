"""The gateway as a nameko service: wiring only."""

from services.gateway import idempotency
from services.gateway.authentication import KnownKeys
from services.gateway.routes.admin import AdminRoutes
from services.gateway.routes.admin_credits import AdminCreditRoutes
from services.gateway.routes.credits import CreditRoutes
from services.gateway.routes.flags import FlagRoutes
from services.gateway.routes.health import HealthRoutes
from services.gateway.routes.images import ImageRoutes
from services.gateway.routes.jobs import JobRoutes
from services.gateway.routes.quotes import QuoteRoutes
from services.gateway.routes.stagings import StagingRoutes
from services.gateway.routes.uploads import UploadRoutes
from services.gateway.routes.workflows import WorkflowRoutes
from shared.host import DatabaseProvider, HealthProvider, SettingsProvider, StoreProvider, every
from shared.rpc import RpcClient


class Gateway(
    AdminCreditRoutes,
    AdminRoutes,
    CreditRoutes,
    FlagRoutes,
    HealthRoutes,
    ImageRoutes,
    JobRoutes,
    QuoteRoutes,
    StagingRoutes,
    UploadRoutes,
    WorkflowRoutes,
):
    """AI image products over HTTP: send a picture, ask for a job, follow it, fetch its images.

    Credits are held when a job is accepted, charged for what succeeds and given back for what does not.
    """

    name = "gateway"
    db = DatabaseProvider()
    settings = SettingsProvider()
    store = StoreProvider()
    health = HealthProvider()
    known_keys = KnownKeys()
    credits = RpcClient("credits")
    catalog = RpcClient("catalog")
    generation = RpcClient("generation")

    @every(seconds=600)
    def prune_idempotency_keys(self) -> None:
        idempotency.prune(self.db)
