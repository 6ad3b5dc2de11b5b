"""Ours: the relay of a service that does nothing else, as `DatabaseProvider` runs it in every process."""

from benchmarks.hosting import Host
from shared.host import DatabaseProvider


class Credits:
    """A service with an outbox."""

    name = "credits"
    db = DatabaseProvider()


if __name__ == "__main__":
    host = Host(Credits)
    host.start()
    host.wait_until_ready()
    host.talk.say("ready")
    host.serve_until_told()
