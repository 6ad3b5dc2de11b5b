"""Webhooks of AI providers: one file per vendor tells whether a delivery is its own."""
