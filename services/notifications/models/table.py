"""What the tables of notifications have in common."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

MOMENT: Final = sa.TIMESTAMP(timezone=True)
PENDING: Final = sa.text("status = 'pending'")


class Model(DeclarativeBase):
    """Holds the metadata of the tables of notifications."""
