"""Headshots: their history, originals that are gone, images that are deleted for good."""

import sqlalchemy as sa
from alembic import op

from shared.migrations import part_modes, protect

revision = "0013"
down_revision = "0012"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)
_OF_ORGANIZATION = ["org_id", "livemode", "id"]


def upgrade() -> None:
    op.add_column("jobs", sa.Column("sources_until", TIME))
    deleted_sources()
    generations()
    images()


def deleted_sources() -> None:
    op.create_table(
        "deleted_sources",
        sa.Column("asset_id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("deleted_at", TIME, nullable=False),
    )
    protect("deleted_sources")
    part_modes("deleted_sources")


def generations() -> None:
    op.add_column("generations", sa.Column("deleted_at", TIME))
    op.create_index(
        "generations_headshots",
        "generations",
        _OF_ORGANIZATION,
        postgresql_where=sa.text("sku = 'headshot.image'"),
    )


def images() -> None:
    op.add_column("images", sa.Column("purge_after", TIME))
    op.add_column("images", sa.Column("purged_at", TIME))
    op.create_check_constraint("images_purged_when_deleted", "images", "purged_at IS NULL OR deleted_at IS NOT NULL")
    op.create_index(
        "images_to_purge",
        "images",
        ["purge_after"],
        postgresql_where=sa.text("purge_after IS NOT NULL AND purged_at IS NULL"),
    )
    op.create_index(
        "images_favorite",
        "images",
        _OF_ORGANIZATION,
        postgresql_where=sa.text("favorite AND deleted_at IS NULL"),
    )
    op.create_index("images_of_job", "images", ["job_id", "id"])
