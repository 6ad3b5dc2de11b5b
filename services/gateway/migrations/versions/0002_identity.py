"""People: what a member is and has agreed to, invitations, sessions, password resets; more about keys; named admins."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from shared.database import SYSTEM_ROLE
from shared.migrations import protect

revision = "0002"
down_revision = "0001"

_MOMENT = sa.TIMESTAMP(timezone=True)


def upgrade() -> None:
    _extend_members()
    _extend_api_keys()
    _create_invitations()
    _create_sessions()
    _create_password_resets()
    _create_admin_keys()
    _create_attempts()
    protect("invitations", writes=("INSERT", "UPDATE"))
    protect("auth_sessions")
    protect("password_resets")
    # Administrators and whoever is not known yet have no organization: a tenant's transaction has no business here.
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON admin_keys TO {SYSTEM_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON auth_attempts TO {SYSTEM_ROLE}")


def _extend_members() -> None:
    for column in (
        sa.Column("name", sa.Text),
        sa.Column("status", sa.Text, server_default="active", nullable=False),
        sa.Column("password_hash", sa.Text),
        sa.Column("terms_accepted_at", _MOMENT),
        sa.Column("terms_version", sa.Text),
        sa.Column("joined_at", _MOMENT),
        sa.Column("removed_at", _MOMENT),
        sa.Column("defaults", JSONB, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("photo_asset_id", sa.Text),
        sa.Column("version", sa.Integer, server_default=sa.text("1"), nullable=False),
    ):
        op.add_column("members", column)
    op.execute("ALTER TABLE members NO FORCE ROW LEVEL SECURITY")
    # Whoever is known by address has had no way to sign up yet.
    op.execute("UPDATE members SET email = lower(email), status = 'invited' WHERE email IS NOT NULL")
    op.execute("ALTER TABLE members FORCE ROW LEVEL SECURITY")
    op.create_check_constraint("members_status", "members", "status IN ('invited', 'active', 'removed')")
    op.create_check_constraint("members_email", "members", "email = lower(email)")
    op.create_index(
        "members_email_of_organization",
        "members",
        ["org_id", "email"],
        unique=True,
        postgresql_where=sa.text("status <> 'removed'"),
    )
    # A person belongs to one organization; this index alone says so.
    op.create_index(
        "members_one_organization",
        "members",
        ["email"],
        unique=True,
        postgresql_where=sa.text("status = 'active'"),
    )


def _extend_api_keys() -> None:
    everything = sa.text("'{read,write,spend,manage}'")
    op.add_column("api_keys", sa.Column("scopes", sa.ARRAY(sa.Text), server_default=everything, nullable=False))
    op.add_column("api_keys", sa.Column("workflows", sa.ARRAY(sa.Text)))
    op.add_column("api_keys", sa.Column("daily_cap", sa.Integer))
    op.add_column("api_keys", sa.Column("rotated_from", sa.Text))
    op.add_column("api_keys", sa.Column("last_used_at", _MOMENT))


def _create_invitations() -> None:
    op.create_table(
        "invitations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("invited_by", sa.Text, nullable=False),
        sa.Column("inviter_name", sa.Text, nullable=False),
        _created_at(),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("accepted_at", _MOMENT),
        sa.Column("revoked_at", _MOMENT),
        sa.Column("request_sha256", sa.Text),
        _of_member("invitations_member"),
    )
    op.create_index("invitations_org_id", "invitations", ["org_id", "id"])
    op.create_index("invitations_user_id", "invitations", ["org_id", "user_id"])


def _create_sessions() -> None:
    op.create_table(
        "auth_sessions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("token_sha256", sa.Text, nullable=False),
        sa.Column("user_agent", sa.Text),
        sa.Column("address", sa.Text),
        _created_at(),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("last_seen_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("revoked_at", _MOMENT),
        sa.UniqueConstraint("token_sha256", name="auth_sessions_token_sha256"),
        _of_member("auth_sessions_member"),
    )
    op.create_index("auth_sessions_user_id", "auth_sessions", ["org_id", "user_id", "id"])
    op.create_index("auth_sessions_expires_at", "auth_sessions", ["expires_at"])


def _create_password_resets() -> None:
    op.create_table(
        "password_resets",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("org_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        _created_at(),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("used_at", _MOMENT),
        _of_member("password_resets_member"),
    )
    op.create_index("password_resets_user_id", "password_resets", ["org_id", "user_id"])
    op.create_index("password_resets_expires_at", "password_resets", ["expires_at"])


def _create_admin_keys() -> None:
    op.create_table(
        "admin_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("secret_sha256", sa.Text, nullable=False),
        _created_at(),
        sa.Column("last_used_at", _MOMENT),
        sa.Column("revoked_at", _MOMENT),
        sa.UniqueConstraint("secret_sha256", name="admin_keys_secret_sha256"),
    )
    op.create_index(
        "admin_keys_name", "admin_keys", ["name"], unique=True, postgresql_where=sa.text("revoked_at IS NULL")
    )


def _create_attempts() -> None:
    op.create_table(
        "auth_attempts",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("ends_at", _MOMENT, nullable=False),
    )
    op.create_index("auth_attempts_ends_at", "auth_attempts", ["ends_at"])


def _of_member(name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["org_id", "user_id"], ["members.org_id", "members.id"], name=name)


def _created_at() -> sa.Column[object]:
    return sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False)
