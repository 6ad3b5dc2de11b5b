"""The channels through which people are told: a name, and how a notice is added there. One file, one entry each.

Whoever adds is handed what is told to whom with the preferences of each, and decides by these what is theirs.
"""

from collections.abc import Mapping
from typing import Final

from services.notifications.channels import email, inbox
from services.notifications.channels.told import Channel, Told

__all__ = ["CHANNELS", "Channel", "Told"]

CHANNELS: Final[Mapping[str, Channel]] = {"inbox": inbox.add, "email": email.add}
