"""Every Prometheus metric all services have, by the names of the contract; a service adds its own beside its code."""

from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

http_requests = Counter("darkroom_http_requests", "HTTP requests answered", ["route", "method", "status"])
http_request_seconds = Histogram("darkroom_http_request_seconds", "Time to answer", ["route"], buckets=_SECONDS)
events_published = Counter("darkroom_events_published", "Events the broker confirmed", ["type"])
events_unrouted = Counter("darkroom_events_unrouted", "Events no queue is bound for", ["type"])
events_handled = Counter("darkroom_events_handled", "Events handled", ["type", "outcome"])
event_handler_seconds = Histogram("darkroom_event_handler_seconds", "Time of one batch", ["type"], buckets=_SECONDS)
event_lag_seconds = Histogram("darkroom_event_lag_seconds", "From occurrence to handling", ["type"], buckets=_SECONDS)
outbox_pending = Gauge("darkroom_outbox_pending", "Events committed and not yet confirmed by the broker")
dead_letters = Counter("darkroom_dead_letters", "Messages set aside for an operator", ["reason"])
rpc_seconds = Histogram(
    "darkroom_rpc_seconds", "Time of a call to another service", ["method", "outcome"], buckets=_SECONDS
)
db_pool_in_use = Gauge("darkroom_db_pool_in_use", "Database connections in use")


def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
    """Return a service's own counter."""
    return Counter(name, text, labels)


def histogram(name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
    """Return a service's own histogram of seconds, in the buckets all of them share."""
    return Histogram(name, text, labels, buckets=_SECONDS)
