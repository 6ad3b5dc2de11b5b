"""Mechanism and contracts that all six services stand on; no business rule, and no service, is known here."""
