"""What credits counts, by the names of the contract. Decides nothing."""

from prometheus_client import Counter, Gauge

reserved = Counter("darkroom_credits_reserved", "Credits held for jobs")
captured = Counter("darkroom_credits_captured", "Held credits that were spent")
refunded = Counter("darkroom_credits_refunded", "Held credits that were given back", ["reason"])
late_settlements = Counter("darkroom_late_settlements", "Outcomes of lines that had ended differently before")
reservations_open = Gauge("darkroom_reservations_open", "Jobs with credits held")
invariant_violations = Gauge("darkroom_ledger_invariant_violations", "Violations the last audit found")
