"""Products and the revisions of their views, behind the tenant wall; thumbnails of the uploads that views show."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.migrations import part_modes, protect

revision = "0005"
down_revision = "0004"

_MOMENT = sa.TIMESTAMP(timezone=True)
_THERE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.add_column("assets", sa.Column("thumbnail_key", sa.Text))
    _create_products()
    _create_product_views()
    for table in ("products", "product_views"):
        protect(table)
        part_modes(table)


def _create_products() -> None:
    op.create_table(
        "products",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("sku", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("category", sa.Text),
        sa.Column("room_types", ARRAY(sa.Text), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("metadata", JSONB, nullable=False),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("deleted_at", _MOMENT),
        sa.CheckConstraint("version > 0", name="products_version"),
    )
    op.create_index("products_sku", "products", ["org_id", "livemode", "sku"], unique=True, postgresql_where=_THERE)
    op.create_index("products_org_id", "products", ["org_id", "livemode", "id"], postgresql_where=_THERE)
    op.create_index("products_category", "products", ["org_id", "livemode", "category", "id"], postgresql_where=_THERE)
    op.create_index(
        "products_deleted_at", "products", ["deleted_at"], postgresql_where=sa.text("deleted_at IS NOT NULL")
    )


def _create_product_views() -> None:
    op.create_table(
        "product_views",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("product_id", sa.Text, sa.ForeignKey("products.id"), nullable=False),
        sa.Column("view_type", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("is_current", sa.Boolean, nullable=False),
        sa.Column("asked_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("asset_id", sa.Text, sa.ForeignKey("assets.id")),
        sa.Column("image_id", sa.Text),
        sa.Column("generation_id", sa.Text),
        sa.Column("parent_id", sa.Text),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("thumbnail_key", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint(
            "view_type IN ('front', 'back', 'left', 'right', 'top', 'bottom', 'detail')", name="product_views_view_type"
        ),
        sa.CheckConstraint("(asset_id IS NULL) <> (image_id IS NULL)", name="product_views_source"),
        sa.CheckConstraint("(image_id IS NULL) = (generation_id IS NULL)", name="product_views_generation"),
        sa.UniqueConstraint("product_id", "view_type", "version", name="product_views_version"),
    )
    op.create_index(
        "product_views_current",
        "product_views",
        ["product_id", "view_type"],
        unique=True,
        postgresql_where=sa.text("is_current"),
    )
    op.create_index("product_views_generation_id", "product_views", ["generation_id"], unique=True)
    op.create_index("product_views_org_id", "product_views", ["org_id", "product_id", "id"])
    op.create_index("product_views_asset_id", "product_views", ["asset_id"])
