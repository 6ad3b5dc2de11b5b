"""What notifications counts, by the names of the contract. Decides nothing."""

from prometheus_client import Gauge

from shared.metrics import counter, histogram

deliveries = counter("darkroom_deliveries", "Tries to deliver, by what became of them", ["channel", "outcome"])
delivery_seconds = histogram("darkroom_delivery_seconds", "Time until a receiver answered", ["channel"])
incidents = counter("darkroom_incidents", "Incidents that operators were told of", ["kind"])
deliveries_pending = Gauge("darkroom_deliveries_pending", "Deliveries that are due or will be", ["channel"])
