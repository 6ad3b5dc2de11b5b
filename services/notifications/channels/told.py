"""What a channel is handed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy.orm import Session

from services.notifications.notices import Notice
from services.notifications.people import Recipient
from shared.database import Database


@dataclass(frozen=True, kw_only=True)
class Told:
    """A notice, one of those it is for, and what they want to be told, as `preferences.with_defaults` has it."""

    notice: Notice
    to: Recipient
    wanted: Mapping[str, Any]


# How notices are added to a channel, in the transaction that takes up what they tell, each thing once a person. It
# opens no connection: it writes rows, which a background step of the channel's takes from there. What it was handed
# before changes nothing, except that a notice which ``goes_on`` says by then what it says now.
Channel: TypeAlias = Callable[[Database, Session, Sequence[Told]], None]
