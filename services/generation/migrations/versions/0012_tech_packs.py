"""Technical packs: analyses of views with the history of their edits, and the parts that jobs have made."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.migrations import part_modes, protect

revision = "0012"
down_revision = "0011"

TEXT = sa.Text
TIME = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    analyses()
    edits()
    parts()
    op.create_index(
        "generations_of_product",
        "generations",
        ["product_id", "job_id"],
        postgresql_where=sa.text("product_id IS NOT NULL"),
    )


def analyses() -> None:
    op.create_table(
        "tech_pack_analyses",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("product_id", TEXT, nullable=False),
        sa.Column("view_type", TEXT, nullable=False),
        sa.Column("found", JSONB, nullable=False),
        sa.Column("analysis", JSONB, nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.Column("generation_id", TEXT, sa.ForeignKey("generations.id"), nullable=False),
        sa.Column("provenance", JSONB, nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
        sa.Column("updated_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name="tech_pack_analyses_confidence"),
    )
    op.create_index("tech_pack_analyses_of_product", "tech_pack_analyses", ["product_id"])
    protect("tech_pack_analyses")
    part_modes("tech_pack_analyses")


def edits() -> None:
    op.create_table(
        "tech_pack_edits",
        sa.Column("generation_id", TEXT, sa.ForeignKey("generations.id"), primary_key=True),
        sa.Column("analysis_id", TEXT, sa.ForeignKey("tech_pack_analyses.id"), nullable=False),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("user_id", TEXT),
        sa.Column("field_path", TEXT, nullable=False),
        sa.Column("prompt", TEXT, nullable=False),
        sa.Column("before", JSONB, nullable=False),
        sa.Column("after", JSONB, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.UniqueConstraint("analysis_id", "version", name="tech_pack_edits_version"),
    )
    protect("tech_pack_edits")
    part_modes("tech_pack_edits")


def parts() -> None:
    op.create_table(
        "tech_pack_parts",
        sa.Column("generation_id", TEXT, sa.ForeignKey("generations.id"), primary_key=True),
        sa.Column("place", TEXT, primary_key=True),
        sa.Column("org_id", TEXT, nullable=False),
        sa.Column("livemode", sa.Boolean, nullable=False),
        sa.Column("product_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("set_id", TEXT, sa.ForeignKey("generations.id"), nullable=False),
        sa.Column("set_asked_at", TIME, nullable=False),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("image_id", TEXT, sa.ForeignKey("images.id"), unique=True),
        sa.Column("revision_id", TEXT),
        sa.Column("key", TEXT),
        sa.Column("sha256", TEXT),
        sa.Column("data", JSONB, nullable=False),
        sa.CheckConstraint("kind IN ('category','close_up','sketch')", name="tech_pack_parts_kind"),
        sa.CheckConstraint("(kind = 'category') = (image_id IS NULL)", name="tech_pack_parts_pictured"),
    )
    op.create_index("tech_pack_parts_of_product", "tech_pack_parts", ["product_id", "kind"])
    protect("tech_pack_parts")
    part_modes("tech_pack_parts")
