"""What the gateway counts beside what all services do, by the names of the contract. Decides nothing."""

from prometheus_client import Gauge

from shared.metrics import counter

sse_clients = Gauge("darkroom_sse_clients", "Streams of events that are open in this process")
sse_ended = counter("darkroom_sse_ended", "Streams of events that we ended", ["reason"])
