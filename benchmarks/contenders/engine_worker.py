"""Ours: a worker's scheduler as production runs it, green, with a slow provider; gathered, or each write alone."""

# ruff: noqa: E402  the patch must come before anything that imports sockets, threads or psycopg2
import eventlet

eventlet.monkey_patch()

import os
import sys
import threading
from pathlib import Path
from typing import Any

from eventlet.hubs import trampoline

from benchmarks.child import Conversation
from benchmarks.contenders import one_by_one
from benchmarks.contenders.slow_provider import SlowProvider
from services.generation.engine import Engine
from services.generation.scheduler import Scheduler
from shared import logs, off_hub, runner
from shared.database import Database
from shared.gathering import Gathering
from shared.images import inspect
from shared.storage import open_store


def scheduler_of(orders: dict[str, Any], provider: SlowProvider) -> Scheduler:
    """Return the scheduler of a worker process with the pool of connections it has in production."""
    return Scheduler(
        Database(orders["database_url"], application="benchmark worker", pool_size=20),
        open_store(orders["storage_url"]),
        Engine(providers={provider.name: provider}, routes={}),
        worker=orders["worker"],
        slots=orders["slots"],
        per_organization=orders["per_organization"],
    )


def main() -> None:
    """Warm up, work from `go` on, and leave when told."""
    talk = Conversation()
    orders = talk.orders()
    if orders["way"] == "alone":
        Gathering.__call__ = one_by_one._alone  # type: ignore[method-assign]  # noqa: SLF001  as its module says
    logs.configure(process="benchmark", level="INFO")
    runner.raise_file_limit()
    picture = Path(orders["picture"]).read_bytes()
    provider = SlowProvider(seconds=orders["seconds"], concurrency=orders["limit"], picture=picture)
    scheduler = scheduler_of(orders, provider)
    for _ in range(off_hub.WORKERS):
        off_hub.off_hub(inspect, picture)
    stopping = threading.Event()
    talk.say("ready")
    trampoline(sys.stdin.fileno(), read=True)
    talk.wait()
    profile = os.environ.get("PROFILE")
    working = threading.Thread(target=scheduler.run, args=(stopping.is_set,))
    if profile:
        import signal, collections
        leaf, incl = collections.Counter(), collections.Counter()
        def sample(_n, f):
            seen=set(); first=True; stack=[]
            while f is not None:
                name=f"{f.f_code.co_filename.split('site-packages/')[-1].split('e5-speed/')[-1]}:{f.f_code.co_name}"
                if first: leaf[name+":"+str(f.f_lineno)]+=1; first=False
                if name not in seen: incl[name]+=1; seen.add(name)
                f=f.f_back
        signal.signal(signal.SIGPROF, sample); signal.setitimer(signal.ITIMER_PROF, .001, .001)
    working.start()
    trampoline(sys.stdin.fileno(), read=True)
    stopping.set()
    working.join()
    if profile:
        signal.setitimer(signal.ITIMER_PROF, 0)
        total=sum(leaf.values())
        with open(f"{profile}.{orders['worker']}","w") as f:
            f.write(f"total {total}\n\nINCL\n"+"\n".join(f"{n*100/total:.1f} {k}" for k,n in incl.most_common(110))+"\n\nLEAF\n"+"\n".join(f"{n*100/total:.1f} {k}" for k,n in leaf.most_common(50)))
    provider.write_spans(Path(orders["spans"]))
    talk.say("done")
    os._exit(0)


if __name__ == "__main__":
    main()
