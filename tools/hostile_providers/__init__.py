"""A server that speaks the wire protocols of the AI vendors we use, and misbehaves by script. It counts what it bills.

Real HTTP, for the tests and by hand (`make up PROVIDERS=hostile`). It must know nothing of our adapters.
"""
