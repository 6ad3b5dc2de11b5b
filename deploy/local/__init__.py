"""The embedded stack: PostgreSQL, RabbitMQ and all Darkroom processes on one machine, below one folder.

Knows how to start, watch and stop programs; knows nothing of what the services do.
"""
