"""The gateway is killed while events flow: every client comes back by itself, has all, and nothing twice."""

import contextlib
import time

from benchmarks import children, followers, stacks
from benchmarks.stream_place import Place, followers_of
from benchmarks.stream_rounds import audited

BACK_SECONDS = 60.0


def survives(place: Place, *, clients: int, per_second: int, seconds: int) -> None:
    """Kill the gateway with so many clients, a third into ``seconds`` of events.

    Raises:
        AuditFailed: somebody is not back in time, or has not everything once.
    """
    count = per_second * seconds
    org_ids = [org_id for org_id, _ in place.accounts]
    orders = {"run": "killed", "count": count, "per_second": per_second, "org_ids": org_ids}
    with contextlib.ExitStack() as stack:
        following = followers_of(place, place.accounts, clients)
        crowd = stack.enter_context(followers.crowd(place.port, following))
        writer = stack.enter_context(
            children.running(
                "benchmarks.contenders.idle_writer",
                log_folder=place.started.log_folder,
                **place.started.addresses(),
                **orders,
            )
        )
        writer.tell("go")
        begun = time.monotonic()
        crowd.listen(lambda: time.monotonic() - begun > seconds / 3, seconds=60, what="a third of the time")
        before = sum(client.refused for client in following)
        gateway = place.running["gateway"].processes["gateway"]
        gateway.kill()
        gateway.wait()
        killed = time.monotonic()
        restarted = stacks.running(
            "stream again",
            {"gateway": place.programs["gateway"]},
            port=place.port,
            log_folder=place.started.log_folder,
        )
        place.running["gateway"] = stack.enter_context(restarted)
        ready = time.monotonic()
        back = [0.0]

        def all_are_back() -> bool:
            if not back[0]:
                if all(client.reconnects and client.has_begun() for client in following):
                    back[0] = time.monotonic()
                return False
            return min(client.read() for client in following) >= count // len(org_ids)

        crowd.listen(all_are_back, seconds=BACK_SECONDS, what="every client to have everything after the gateway died")
        audited(place, crowd, [0] * clients, run="killed", count=count, org_ids=org_ids)
        writer.expect("done", seconds=30)
        refused = sum(client.refused for client in following) - before
        print(
            f"\n   gateway killed with {clients} streams open: ready after {ready - killed:.1f} s, all clients back"
            f" {back[0] - ready:.1f} s later; {refused} tries answered 503 on the way; nothing missed,"
            " nothing twice   audit ok"
        )
        place.running["gateway"].fail_if_gone()
