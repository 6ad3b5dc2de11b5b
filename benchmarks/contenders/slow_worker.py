"""What the workers of the engine's benchmark have in common: orders, warm-up, and what they were at when."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventlet.hubs import trampoline

from benchmarks.child import Conversation
from benchmarks.contenders.slow_provider import SlowProvider
from shared import images, logs, off_hub, runner
from shared.ids import new_id
from shared.storage import NewObject, ObjectStore, open_store

Work = Callable[[Callable[[], bool]], None]


def run(
    make: Callable[[dict[str, Any], Any, ObjectStore], Work], *, provider_class: type[SlowProvider] = SlowProvider
) -> None:
    """Warm up, work from `go` on until told to stop, write down what the provider was at, and leave."""
    talk = Conversation()
    orders = talk.orders()
    logs.configure(process="benchmark", level="INFO")
    runner.raise_file_limit()
    picture = Path(orders["picture"]).read_bytes()
    provider = provider_class(seconds=orders["seconds"], concurrency=orders["limit"], picture=picture)
    store = open_store(orders["storage_url"])
    work = make(orders, provider, store)
    stopping = threading.Event()
    store.put_together([NewObject(key=f"images/warm-up/{new_id('img')}.jpg", data=picture, content_type="image/jpeg")])
    eyes = [threading.Thread(target=off_hub.off_hub, args=(images.inspect, picture)) for _ in range(off_hub.WORKERS)]
    for each in eyes:
        each.start()
    for each in eyes:
        each.join()
    runner.collect_rarely()
    talk.say("ready")
    _heard(talk)
    working = threading.Thread(target=work, args=(stopping.is_set,))
    working.start()
    _heard(talk)
    stopping.set()
    working.join()
    provider.write_spans(Path(orders["spans"]))
    talk.say("done")
    os._exit(0)


def _heard(talk: Conversation) -> None:
    trampoline(sys.stdin.fileno(), read=True)
    talk.wait()
