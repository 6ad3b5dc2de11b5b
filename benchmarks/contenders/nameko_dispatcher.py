"""nameko's own way to publish: its dispatcher, one event after another, each confirmed before the next.

The stand-alone dispatcher without eventlet is taken because it is nameko's fastest; in a service it is slower.
"""

import json

from nameko.standalone.events import event_dispatcher

from benchmarks import samples
from benchmarks.child import Conversation


def main() -> None:
    """Dispatch as many events as ordered, as fast as it goes."""
    talk = Conversation()
    orders = talk.orders()
    dispatch = event_dispatcher({"AMQP_URI": orders["amqp_url"]})
    payloads = [json.loads(body) for body in samples.bodies(orders["run"], count=orders["count"])]
    talk.say("ready")
    talk.wait()
    for payload in payloads:
        dispatch("nameko", "CreditCaptured", payload)
    talk.say("done")
    talk.wait()


if __name__ == "__main__":
    main()
