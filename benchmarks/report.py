"""Rounds in turn, ratios, the table and the raw CSV: what every benchmark does alike with its contenders."""

import csv
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.children import Running

ROUNDS = 5
RESULTS = Path(__file__).resolve().parent / "results"


class Stopwatch:
    """Time of the measured stretch of a round, and the processor time used in it by contender and generator."""

    seconds = 0.0
    contender_cpu_seconds = 0.0
    generator_cpu_seconds = 0.0
    machine_cpu_percent = 0.0

    def start(self, child: Running) -> None:
        """Begin to measure."""
        self._child = child
        psutil.cpu_percent()
        self._contender, self._generator = child.cpu_seconds(), time.process_time()
        self._began = time.monotonic()

    def stop(self) -> None:
        """End the measured stretch."""
        self.seconds = time.monotonic() - self._began
        self.contender_cpu_seconds = self._child.cpu_seconds() - self._contender
        self.generator_cpu_seconds = time.process_time() - self._generator
        self.machine_cpu_percent = psutil.cpu_percent()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the work. ``run`` gets the round's name, does a round, audits it, and returns its stopwatch."""

    name: str
    events: int
    run: Callable[[str], Stopwatch]


@dataclass(frozen=True, kw_only=True)
class Target:
    """How many times as fast as ``than`` the first contender must be."""

    than: str
    at_least: float


@dataclass(frozen=True, kw_only=True)
class Round:
    """One measured round, a row of the CSV; round 0 is the warm-up."""

    round: int
    contender: str
    events: int
    seconds: float
    events_per_second: float
    contender_cpu_seconds: float
    generator_cpu_seconds: float
    machine_cpu_percent: float
    load_average: float = field(default_factory=lambda: os.getloadavg()[0])


def run_in_turn(contenders: Sequence[Contender], *, rounds: int) -> list[Round]:
    """Run A-B-C-A-B-C, a warm-up round first; tell each result on screen as it comes."""
    done = []
    for number in range(rounds + 1):
        for contender in contenders:
            watch = contender.run(f"r{number}")
            made = Round(
                round=number,
                contender=contender.name,
                events=contender.events,
                seconds=watch.seconds,
                events_per_second=contender.events / watch.seconds,
                contender_cpu_seconds=watch.contender_cpu_seconds,
                generator_cpu_seconds=watch.generator_cpu_seconds,
                machine_cpu_percent=watch.machine_cpu_percent,
            )
            done.append(made)
            title = f"round {number}/{rounds}" if number else "warm-up  "
            print(
                f"   {title}  {made.contender:<24} {made.events:>6,} events {made.seconds:7.2f} s"
                f" {made.events_per_second:>9,.0f}/s   audit ok",
                flush=True,
            )
    return done


def judge(rounds: Sequence[Round], targets: Sequence[Target]) -> bool:
    """Print the table: rates for orientation, then the ratios with their targets; tell whether all were met."""
    measured = [made for made in rounds if made.round]
    rates = {name: _rates(measured, name) for name in dict.fromkeys(made.contender for made in measured)}
    ours = next(iter(rates))
    print(f"\n   {'contender':<42} {'median':>9} {'min':>9} {'max':>9}   CPU us/event")
    for name, values in rates.items():
        print(
            f"   {name:<42} {statistics.median(values):>7,.0f}/s {min(values):>7,.0f}/s {max(values):>7,.0f}/s"
            f"   {_cpu_microseconds(measured, name):.0f}"
        )
    generator = sum(made.generator_cpu_seconds for made in measured) / sum(made.seconds for made in measured)
    print(f"   the load generator used {generator:.1%} of one core while the contenders ran")
    print(f"\n   {'ratio, round by round':<42} {'median':>9} {'min':>9} {'max':>9}   target")
    met = [
        verdict(
            f"{ours} : {target.than}",
            [mine / theirs for mine, theirs in zip(rates[ours], rates[target.than], strict=True)],
            target=target.at_least,
        )
        for target in targets
    ]
    return all(met)


def verdict(title: str, ratios: Sequence[float], *, target: float) -> bool:
    """Print a line of the ratio table; tell whether its median reaches the target."""
    median = statistics.median(ratios)
    passed = median >= target
    print(
        f"   {title:<42} {median:>9.2f} {min(ratios):>9.2f} {max(ratios):>9.2f}"
        f"   >= {target:g}   {'PASS' if passed else 'MISS'}"
    )
    return passed


def write_csv(name: str, rounds: Sequence[Round]) -> None:
    """Write every round, the warm-up too, to ``benchmarks/results/``."""
    write_rows(name, [asdict(made) for made in rounds])


def write_rows(name: str, rows: Sequence[dict[str, object]]) -> None:
    """Write rows to ``benchmarks/results/<name>-<time>.csv`` and say so."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"   raw figures: {path.relative_to(RESULTS.parent.parent)}")


def _rates(rounds: Sequence[Round], name: str) -> list[float]:
    return [made.events_per_second for made in rounds if made.contender == name]


def _cpu_microseconds(rounds: Sequence[Round], name: str) -> float:
    return statistics.median(
        made.contender_cpu_seconds / made.events * 1e6 for made in rounds if made.contender == name
    )
