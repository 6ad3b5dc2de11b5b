"""The names of all that runs in the embedded stack."""

SERVICES = ("gateway", "credits", "generation", "catalog", "downloads", "notifications")
PROCESSES = ("gateway", "credits", "generation", "generation-worker", "catalog", "downloads", "notifications")
SERVERS = ("postgres", "epmd", "rabbitmq")
