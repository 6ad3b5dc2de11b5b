"""The catalog as a nameko service: wiring only."""

from typing import Any

from services.catalog import handlers, product_handlers, product_queries, purging, queries
from services.catalog.assets import Expected, Upload
from services.catalog.products import Picture, new_product
from shared.database import Batch
from shared.events import GenerationCompleted
from shared.host import DatabaseProvider, StoreProvider, every
from shared.messaging import subscribe
from shared.rpc import rpc
from shared.rpc_batches import answers_to


class Catalog:
    """Keeps what organizations upload, and their products: make, look up, resolve for a job, change, delete."""

    name = "catalog"
    db = DatabaseProvider()
    store = StoreProvider()

    @rpc
    def announce_asset(self, **asset: Any) -> bool:
        """Record an upload whose bytes are about to be stored."""
        return handlers.announce_asset(self.db, Upload(**asset))

    @rpc
    def register_asset(self, **asset: Any) -> dict[str, Any]:
        """Record an upload whose bytes are stored."""
        return handlers.register_asset(self.db, Upload(**asset))

    @rpc
    def expect_upload(self, **coming: Any) -> dict[str, Any]:
        """Record what a client is going to send to the store itself."""
        return handlers.expect_upload(self.db, Expected(**coming))

    @rpc
    def expected_upload(self, *, org_id: str, livemode: bool, upload_id: str) -> dict[str, Any]:
        """Return one upload whose bytes go to the store directly."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.expected_upload(session, org_id=org_id, livemode=livemode, upload_id=upload_id)

    @rpc
    def resolve(self, *, org_id: str, livemode: bool, **ids: list[str]) -> dict[str, Any]:
        """Return the snapshots a job carries, by id: of ``asset_ids``, ``product_ids`` and ``revision_ids``."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.resolve(session, org_id=org_id, livemode=livemode, **ids)

    @rpc
    def resolve_many(self, *, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the snapshots for many jobs, of any organizations."""
        return answers_to(
            calls,
            read=lambda call: queries.Wanted(**call.arguments),
            run=lambda several: handlers.resolve_many(self.db, several),
        )

    @rpc
    def asset(self, *, org_id: str, livemode: bool, asset_id: str) -> dict[str, Any]:
        """Return one asset."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.asset(session, org_id=org_id, livemode=livemode, asset_id=asset_id)

    @rpc
    def deletion(self, *, org_id: str, livemode: bool, asset_id: str) -> dict[str, Any]:
        """Return what a receipt tells of a deleted asset."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.deletion(session, org_id=org_id, livemode=livemode, asset_id=asset_id)

    @rpc
    def delete_asset(self, *, org_id: str, livemode: bool, asset_id: str) -> dict[str, Any]:
        """Delete an asset and its bytes."""
        return handlers.delete_asset(self.db, self.store, org_id=org_id, livemode=livemode, asset_id=asset_id)

    @rpc
    def create_product(self, **product: Any) -> dict[str, Any]:
        """Make a product."""
        return product_handlers.create_product(self.db, new_product(**product))

    @rpc
    def put_product(self, **product: Any) -> dict[str, Any]:
        """Make the product of a SKU, or make it what is said of it."""
        return product_handlers.put_product(self.db, new_product(**product))

    @rpc
    def change_product(self, **change: Any) -> dict[str, Any]:
        """Change what is said of a product."""
        return product_handlers.change_product(self.db, **change)

    @rpc
    def delete_product(self, **deletion: Any) -> None:
        """Take a product out of sight."""
        product_handlers.delete_product(self.db, **deletion)

    @rpc
    def product(self, *, org_id: str, livemode: bool, product_id: str) -> dict[str, Any]:
        """Return one product."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return product_queries.product(session, org_id=org_id, livemode=livemode, product_id=product_id)

    @rpc
    def products(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        """Return a page of products."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return product_queries.products(session, org_id=org_id, livemode=livemode, **page)

    @rpc
    def product_count(self, *, org_id: str, livemode: bool) -> int:
        """Return how many products there are."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return product_queries.product_count(session, org_id=org_id, livemode=livemode)

    @rpc
    def add_view(self, *, picture: dict[str, Any], **view: Any) -> dict[str, Any]:
        """Make an upload a revision of a product's view."""
        return product_handlers.add_view(self.db, picture=Picture(**picture), **view)

    @rpc
    def views(self, *, org_id: str, livemode: bool, **page: Any) -> dict[str, Any]:
        """Return a page of the revisions of a product's views."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return product_queries.views(session, org_id=org_id, livemode=livemode, **page)

    @subscribe(GenerationCompleted)
    def on_generation_completed(self, events: Batch[GenerationCompleted]) -> None:
        """Take up views that were made anew."""
        product_handlers.add_generated_views(self.db, events)

    @every(seconds=15)
    def remove_due_assets(self) -> None:
        """Delete what is past its retention, and what a crash left half deleted."""
        handlers.remove_due(self.db, self.store)

    @every(seconds=60)
    def collect_expected_uploads(self) -> None:
        """Delete what was sent to the store and never completed."""
        handlers.collect_expected(self.db, self.store)

    @every(seconds=60)
    def drop_leftovers(self) -> None:
        """Remove what writers that died have left in the store."""
        self.store.drop_leftovers()

    @every(seconds=60)
    def purge_deleted_products(self) -> None:
        """Forget products whose retention after their deletion is over."""
        purging.purge_deleted(self.db)
