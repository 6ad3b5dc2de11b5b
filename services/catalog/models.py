"""The catalog's own tables: uploads, where they lie and how far their deletion has come; products and their views."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.catalog.assets import PURPOSES
from services.catalog.products import VIEW_TYPES

_MOMENT = sa.TIMESTAMP(timezone=True)
_THERE = sa.text("deleted_at IS NULL")


class Model(DeclarativeBase):
    """Holds the metadata of the catalog's tables."""


class Asset(Model):
    """One uploaded image: present while ``deletion_reason`` is empty, without bytes once ``deleted_at`` is set.

    Between the two its deletion is owed. Whoever claimed it is at it until ``claimed_until``; after that
    moment anyone may take over. One that is ``announced`` only is owed from the beginning, so that no crash leaves its
    bytes behind, unless it arrives before that moment. ``thumbnail_key`` is set once a view of a product shows the
    picture, and goes with it.
    """

    __tablename__ = "assets"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str | None] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    purpose: Mapped[str] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
    thumbnail_key: Mapped[str | None] = mapped_column(sa.Text)
    sha256: Mapped[str] = mapped_column(sa.Text)
    crc32: Mapped[int] = mapped_column(sa.BigInteger)
    content_type: Mapped[str] = mapped_column(sa.Text)
    bytes: Mapped[int] = mapped_column(sa.BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    file_name: Mapped[str | None] = mapped_column(sa.Text)
    keep_original: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    delete_after: Mapped[datetime | None] = mapped_column(_MOMENT)
    deletion_reason: Mapped[str | None] = mapped_column(sa.Text)
    claimed_until: Mapped[datetime | None] = mapped_column(_MOMENT)
    deleted_at: Mapped[datetime | None] = mapped_column(_MOMENT)
    announced: Mapped[bool] = mapped_column(server_default=sa.false())

    __table_args__ = (
        sa.UniqueConstraint("key", name="assets_key"),
        sa.CheckConstraint(f"purpose IN {PURPOSES}", name="assets_purpose"),
        sa.CheckConstraint("bytes > 0 AND width > 0 AND height > 0", name="assets_size"),
        sa.CheckConstraint("deletion_reason IN ('requested', 'retention')", name="assets_deletion_reason"),
        sa.CheckConstraint("deleted_at IS NULL OR deletion_reason IS NOT NULL", name="assets_deleted_for_a_reason"),
        sa.CheckConstraint(
            "NOT announced OR (deletion_reason IS NOT NULL AND deleted_at IS NULL)", name="assets_announced"
        ),
        sa.Index("assets_org_id", "org_id", "id"),
        sa.Index(
            "assets_delete_after",
            "delete_after",
            postgresql_where=sa.text("deletion_reason IS NULL AND delete_after IS NOT NULL"),
        ),
        sa.Index(
            "assets_deletion_owed",
            "claimed_until",
            postgresql_where=sa.text("deletion_reason IS NOT NULL AND deleted_at IS NULL"),
        ),
        sa.Index("assets_sha256", "org_id", "sha256", postgresql_where=sa.text("deletion_reason IS NULL")),
    )


class ExpectedUpload(Model):
    """A picture whose bytes its owner sends to the store without us in between; ``key`` is where they arrive.

    ``asset_id`` is what became of it. From ``collect_after`` on, whatever lies under the key is nobody's.
    """

    __tablename__ = "expected_uploads"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str | None] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    purpose: Mapped[str] = mapped_column(sa.Text)
    keep_original: Mapped[bool]
    key: Mapped[str] = mapped_column(sa.Text)
    content_type: Mapped[str] = mapped_column(sa.Text)
    bytes: Mapped[int] = mapped_column(sa.BigInteger)
    sha256: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    expires_at: Mapped[datetime] = mapped_column(_MOMENT)
    collect_after: Mapped[datetime] = mapped_column(_MOMENT)
    asset_id: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (
        sa.CheckConstraint(f"purpose IN {PURPOSES}", name="expected_uploads_purpose"),
        sa.CheckConstraint("bytes > 0", name="expected_uploads_size"),
        sa.Index("expected_uploads_collect_after", "collect_after"),
        sa.Index("expected_uploads_asset_id", "asset_id", postgresql_where=sa.text("asset_id IS NOT NULL")),
        sa.Index(
            "expected_uploads_outstanding",
            "org_id",
            "livemode",
            "expires_at",
            postgresql_where=sa.text("asset_id IS NULL"),
        ),
    )


class Product(Model):
    """Something an organization sells; there for its people while ``deleted_at`` is empty, and for nobody after it.

    ``version`` rises with every change of its own fields; its views have versions of their own.
    """

    __tablename__ = "products"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str | None] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    sku: Mapped[str | None] = mapped_column(sa.Text)
    name: Mapped[str] = mapped_column(sa.Text)
    category: Mapped[str | None] = mapped_column(sa.Text)
    room_types: Mapped[list[str]] = mapped_column(ARRAY(sa.Text))
    description: Mapped[str | None] = mapped_column(sa.Text)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    updated_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    deleted_at: Mapped[datetime | None] = mapped_column(_MOMENT)

    __table_args__ = (
        sa.CheckConstraint("version > 0", name="products_version"),
        sa.Index("products_sku", "org_id", "livemode", "sku", unique=True, postgresql_where=_THERE),
        sa.Index("products_org_id", "org_id", "livemode", "id", postgresql_where=_THERE),
        sa.Index("products_category", "org_id", "livemode", "category", "id", postgresql_where=_THERE),
        sa.Index("products_deleted_at", "deleted_at", postgresql_where=sa.text("deleted_at IS NOT NULL")),
    )


class ProductView(Model):
    """One revision of a product seen from one side, its picture uploaded or generated; it never changes.

    Of the revisions of a view the current one is that which was asked for last, in whatever order they arrived.
    ``key`` and what follows it is copied of the asset, or of the image, which are the owners of the bytes.
    """

    __tablename__ = "product_views"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str | None] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    product_id: Mapped[str] = mapped_column(sa.Text, sa.ForeignKey("products.id"))
    view_type: Mapped[str] = mapped_column(sa.Text)
    version: Mapped[int]
    is_current: Mapped[bool]
    asked_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())
    asset_id: Mapped[str | None] = mapped_column(sa.Text, sa.ForeignKey("assets.id"))
    image_id: Mapped[str | None] = mapped_column(sa.Text)
    generation_id: Mapped[str | None] = mapped_column(sa.Text)
    parent_id: Mapped[str | None] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
    thumbnail_key: Mapped[str] = mapped_column(sa.Text)
    content_type: Mapped[str] = mapped_column(sa.Text)
    sha256: Mapped[str] = mapped_column(sa.Text)
    bytes: Mapped[int] = mapped_column(sa.BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(_MOMENT, server_default=sa.func.now())

    __table_args__ = (
        sa.CheckConstraint(f"view_type IN {VIEW_TYPES}", name="product_views_view_type"),
        sa.CheckConstraint("(asset_id IS NULL) <> (image_id IS NULL)", name="product_views_source"),
        sa.CheckConstraint("(image_id IS NULL) = (generation_id IS NULL)", name="product_views_generation"),
        sa.UniqueConstraint("product_id", "view_type", "version", name="product_views_version"),
        sa.Index(
            "product_views_current",
            "product_id",
            "view_type",
            unique=True,
            postgresql_where=sa.text("is_current"),
        ),
        sa.Index("product_views_generation_id", "generation_id", unique=True),
        sa.Index("product_views_org_id", "org_id", "product_id", "id"),
        sa.Index("product_views_asset_id", "asset_id"),
    )
