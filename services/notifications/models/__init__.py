"""The tables of notifications: the logs of events, whom they are told to, and how far that has come."""

from services.notifications.models.headshots import HeadshotDay, HeadshotDayDue, HeadshotFact
from services.notifications.models.log import EventSequence, RecordedEvent
from services.notifications.models.operators import Incident, Tip
from services.notifications.models.people import Mail, Message, Organization, Person, Preference
from services.notifications.models.table import Model
from services.notifications.models.webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint

__all__ = [
    "EventSequence",
    "HeadshotDay",
    "HeadshotDayDue",
    "HeadshotFact",
    "Incident",
    "Mail",
    "Message",
    "Model",
    "Organization",
    "Person",
    "Preference",
    "RecordedEvent",
    "Tip",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
]
