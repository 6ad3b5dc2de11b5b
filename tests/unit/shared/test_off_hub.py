"""Work in worker processes: it may fail, hang or die there, and nothing of that reaches the service."""

import io
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import psutil
import pytest
from PIL import Image

from shared import image_worker
from shared.images import CorruptImage, ImageInfo, ImageTooLarge, inspect, normalise, thumbnail
from shared.off_hub import Pool, WorkFailed


def a_png(side: int) -> bytes:
    output = io.BytesIO()
    Image.effect_noise((side, side), 90).save(output, "PNG", compress_level=1)
    return output.getvalue()


SMALL = a_png(64)
SLOW = a_png(5000)  # some three seconds to encode again


@pytest.fixture
def make_pool() -> Iterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def make(**options: float) -> Pool:
        pools.append(Pool(**options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def workers() -> Callable[[], list[psutil.Process]]:
    """Give the worker processes that the test itself started."""
    before = {child.pid for child in psutil.Process().children()}

    def started() -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process().children()
            if child.pid not in before and "shared.image_worker" in child.cmdline()
        ]

    return started


def eventually(condition: Callable[[], bool], *, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def in_background(work: Callable[[], object]) -> "queue.Queue[object]":
    """Run ``work`` in a thread; its result or error arrives in the queue."""
    arrived: queue.Queue[object] = queue.Queue()

    def run() -> None:
        try:
            arrived.put(work())
        except Exception as error:  # noqa: BLE001  the test looks at whatever came
            arrived.put(error)

    threading.Thread(target=run, daemon=True).start()
    return arrived


def test_work_comes_back_typed(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool()

    found = pool.run(inspect, SMALL)
    clean = pool.run(normalise, SMALL)

    assert found == ImageInfo(content_type="image/png", format="png", width=64, height=64)
    assert clean.content_type == "image/png"
    assert isinstance(pool.run(thumbnail, SMALL, side=32), bytes)


def test_a_refusal_arrives_as_what_it_is(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool()

    with pytest.raises(CorruptImage):
        pool.run(inspect, SMALL[:50])
    with pytest.raises(ImageTooLarge) as refusal:
        pool.run(inspect, SMALL, max_pixels=100)

    assert refusal.value.extra == {"limit": 100, "excess": 3996}


def test_one_worker_serves_many_requests(
    make_pool: Callable[..., Pool], workers: Callable[[], list[psutil.Process]]
) -> None:
    pool = make_pool(size=2)

    for _ in range(10):
        pool.run(inspect, SMALL)

    assert len(workers()) == 1


def test_no_more_work_at_once_than_workers_and_the_rest_waits(
    make_pool: Callable[..., Pool], workers: Callable[[], list[psutil.Process]]
) -> None:
    pool = make_pool(size=2)

    arrivals = [in_background(lambda: pool.run(inspect, SLOW)) for _ in range(4)]

    assert all(isinstance(arrived.get(timeout=30), ImageInfo) for arrived in arrivals)
    assert len(workers()) == 2


def test_who_waits_too_long_for_a_worker_is_told_to_come_back(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(size=1, wait_seconds=0.05)
    arrived = in_background(lambda: pool.run(normalise, SLOW))
    assert eventually(lambda: pool.free == 0)

    with pytest.raises(WorkFailed, match="Too many images") as refusal:
        pool.run(inspect, SMALL)

    assert (refusal.value.status, refusal.value.retryable) == (503, True)
    assert not isinstance(arrived.get(timeout=30), Exception)


def test_work_that_takes_too_long_is_ended_and_the_next_is_served(
    make_pool: Callable[..., Pool], workers: Callable[[], list[psutil.Process]]
) -> None:
    pool = make_pool(size=1, work_seconds=1)

    with pytest.raises(WorkFailed, match="too long"):
        pool.run(normalise, SLOW)

    assert workers() == []
    assert pool.run(inspect, SMALL).width == 64


def test_work_that_takes_too_much_processor_time_is_ended_however_busy_the_machine_is(
    make_pool: Callable[..., Pool],
) -> None:
    pool = make_pool(size=1, cpu_seconds=1)

    with pytest.raises(WorkFailed, match="too long"):
        pool.run(normalise, SLOW)

    assert all(pool.run(inspect, SMALL).width == 64 for _ in range(3))


def test_work_that_takes_too_much_memory_fails_alone(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(size=1, memory_bytes=300 << 20)
    wide = io.BytesIO()
    Image.new("RGB", (7000, 7000)).save(wide, "PNG", compress_level=1)

    with pytest.raises(WorkFailed):
        pool.run(normalise, wide.getvalue())

    assert pool.run(inspect, SMALL).width == 64


@pytest.mark.parametrize("state", ["at work", "idle"])
def test_a_worker_that_is_killed_is_replaced(
    make_pool: Callable[..., Pool], workers: Callable[[], list[psutil.Process]], state: str
) -> None:
    pool = make_pool(size=1)
    pool.run(inspect, SMALL)
    (victim,) = workers()

    if state == "at work":
        arrived = in_background(lambda: pool.run(normalise, SLOW))
        assert eventually(lambda: pool.free == 0)
        os.kill(victim.pid, signal.SIGKILL)
        assert isinstance(arrived.get(timeout=10), WorkFailed)
    else:
        os.kill(victim.pid, signal.SIGKILL)
        assert eventually(lambda: victim.status() == psutil.STATUS_ZOMBIE)

    assert pool.run(inspect, SMALL).width == 64
    assert [worker.pid for worker in workers()] != [victim.pid]


def test_a_worker_outlives_a_signal_to_the_group_since_a_draining_service_needs_it(
    make_pool: Callable[..., Pool], workers: Callable[[], list[psutil.Process]]
) -> None:
    pool = make_pool(size=1)
    pool.run(inspect, SMALL)
    (worker,) = workers()

    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)

    assert pool.run(inspect, SMALL).width == 64
    assert workers() == [worker]


def test_closing_ends_the_workers_and_the_pool_still_serves(
    make_pool: Callable[..., Pool], workers: Callable[[], list[psutil.Process]]
) -> None:
    pool = make_pool(size=2)
    pool.run(inspect, SMALL)

    pool.close()

    assert workers() == []
    assert pool.run(inspect, SMALL).width == 64


def test_a_worker_sees_no_secret_and_can_write_no_file(
    make_pool: Callable[..., Pool],
    workers: Callable[[], list[psutil.Process]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIGNING_SECRET", "s" * 32)
    make_pool(size=1).run(inspect, SMALL)

    (worker,) = workers()

    assert not {name for name in worker.environ() if "SECRET" in name or "URL" in name or "KEY" in name}
    if hasattr(worker, "rlimit"):
        assert worker.rlimit(resource.RLIMIT_FSIZE) == (0, 0)
        assert worker.rlimit(resource.RLIMIT_AS) == (2 << 30, 2 << 30)


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "shared.images:BytesIO",
        "shared.images:_upright",
        "shared.images:no_such_function",
        "shared:images",
        "shared.images.Image:open",
        "tests.fakes:FakeS3",
        "shared.images:inspect.__globals__",
        "../shared.images:inspect",
        "",
    ],
)
def test_a_worker_calls_nothing_but_our_own_public_functions(name: str) -> None:
    kind, payload = msgspec.msgpack.decode(image_worker.answer(msgspec.msgpack.encode([name, [], {}])))

    assert kind != "result"
    assert "not a public function" in payload or payload == "ModuleNotFoundError"


PROGRAM = """
{first_lines}
import io, os, sys, time, warnings
from PIL import Image
from shared.images import CorruptImage, inspect, normalise, off_hub
noise = io.BytesIO()
Image.effect_noise((1800, 1800), 90).save(noise, "PNG", compress_level=1)
"""
GREEN = "import eventlet; eventlet.monkey_patch()"


def run_program(body: str, *, green: bool) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(first_lines=GREEN if green else "") + body
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-W", "error::ResourceWarning", "-c", program],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("threads", ["green", "plain"])
def test_it_works_with_and_without_green_threads_and_leaves_quietly(threads: str) -> None:
    ended = run_program(
        """
clean = off_hub(normalise, noise.getvalue())
assert off_hub(inspect, clean.bytes).width == 1800
try:
    off_hub(inspect, clean.bytes[:1000])
except CorruptImage:
    print("done")
""",
        green=threads == "green",
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_the_hub_keeps_turning_while_a_worker_works() -> None:
    ended = run_program(
        """
beats = []
def beat():
    while True:
        beats.append(time.monotonic())
        time.sleep(0.005)
off_hub(inspect, noise.getvalue())
eventlet.spawn(beat)
started = time.monotonic()
off_hub(normalise, noise.getvalue())
took = time.monotonic() - started
print(max(after - before for before, after in zip(beats, beats[1:])) / took)
""",
        green=True,
    )

    assert ended.stderr == ""
    assert float(ended.stdout) < 0.3


def test_a_caller_that_is_cancelled_takes_the_worker_with_it_and_the_pool_lives_on() -> None:
    ended = run_program(
        """
off_hub(inspect, noise.getvalue())
for _ in range(4):
    try:
        with eventlet.Timeout(0.05):
            off_hub(normalise, noise.getvalue())
    except eventlet.Timeout:
        pass
    else:
        raise SystemExit("it was not cancelled")
print(off_hub(inspect, noise.getvalue()).width)
""",
        green=True,
    )

    assert (ended.stdout, ended.stderr) == ("1800\n", "")


def test_workers_of_a_killed_service_end_by_themselves() -> None:
    program = (
        PROGRAM.format(first_lines=GREEN)
        + "off_hub(inspect, noise.getvalue()); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "up\n"
        orphans = psutil.Process(service.pid).children()

        service.kill()

        assert len(orphans) == 1
        assert eventually(lambda: not any(_alive(orphan) for orphan in orphans))


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
