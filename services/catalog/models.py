"""The catalog's own tables: what was uploaded, where its bytes lie, and how far its deletion has come."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.catalog.assets import PURPOSES

_MOMENT = sa.TIMESTAMP(timezone=True)


class Model(DeclarativeBase):
    """Holds the metadata of the catalog's tables."""


class Asset(Model):
    """One uploaded image: present while ``deletion_reason`` is empty, without bytes once ``deleted_at`` is set.

    Between the two its deletion is owed. Whoever claimed it is at it until ``claimed_until``; after that
    moment anyone may take over.
    """

    __tablename__ = "assets"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    org_id: Mapped[str] = mapped_column(sa.Text)
    user_id: Mapped[str | None] = mapped_column(sa.Text)
    livemode: Mapped[bool]
    purpose: Mapped[str] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
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

    __table_args__ = (
        sa.UniqueConstraint("key", name="assets_key"),
        sa.CheckConstraint(f"purpose IN {PURPOSES}", name="assets_purpose"),
        sa.CheckConstraint("bytes > 0 AND width > 0 AND height > 0", name="assets_size"),
        sa.CheckConstraint("deletion_reason IN ('requested', 'retention')", name="assets_deletion_reason"),
        sa.CheckConstraint("deleted_at IS NULL OR deletion_reason IS NOT NULL", name="assets_deleted_for_a_reason"),
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
        sa.Index(
            "expected_uploads_outstanding",
            "org_id",
            "livemode",
            "expires_at",
            postgresql_where=sa.text("asset_id IS NULL"),
        ),
    )
