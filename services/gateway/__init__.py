"""The gateway: identity, the HTTP contract, idempotency; it decides nothing about jobs, credits or images."""
