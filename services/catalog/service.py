"""The catalog as a nameko service: wiring only."""

from typing import Any

from services.catalog import handlers, queries
from services.catalog.assets import Expected, Upload
from shared.host import DatabaseProvider, StoreProvider, every
from shared.rpc import rpc
from shared.rpc_batches import answers_to


class Catalog:
    """Keeps what organizations upload: register, look up, resolve for a job, delete."""

    name = "catalog"
    db = DatabaseProvider()
    store = StoreProvider()

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
    def resolve(self, *, org_id: str, livemode: bool, asset_ids: list[str]) -> dict[str, Any]:
        """Return the snapshots a job carries, by asset id."""
        with self.db.transaction(org_id=org_id, livemode=livemode) as session:
            return queries.resolve(session, org_id=org_id, livemode=livemode, asset_ids=asset_ids)

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
    def delete_asset(self, *, org_id: str, livemode: bool, asset_id: str) -> dict[str, Any]:
        """Delete an asset and its bytes."""
        return handlers.delete_asset(self.db, self.store, org_id=org_id, livemode=livemode, asset_id=asset_id)

    @every(seconds=15)
    def remove_due_assets(self) -> None:
        """Delete what is past its retention, and what a crash left half deleted."""
        handlers.remove_due(self.db, self.store)

    @every(seconds=60)
    def collect_expected_uploads(self) -> None:
        """Delete what was sent to the store and never completed."""
        handlers.collect_expected(self.db, self.store)
