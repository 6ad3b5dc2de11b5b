"""How much of what people ask notifications for there may be: the gateway refuses it early, the service for certain."""

from typing import Final

DESCRIPTION_MAX: Final = 200
"""Characters of what an endpoint is described by."""

OVERLAP_SECONDS: Final = 86_400
OVERLAP_MAX_SECONDS: Final = 7 * 86_400
"""How long an endpoint's old secret goes on beside the new one."""

DELIVERY_STATUSES: Final = ("pending", "delivered", "failed", "cancelled")

TIP_SUBJECT_MAX: Final = 200
TIP_TEXT_MAX: Final = 2_000
"""Characters of a tip's subject, and of each of its paragraphs."""

TIP_PARAGRAPHS_MAX: Final = 20
