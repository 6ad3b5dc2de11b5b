"""Whose turn it is: round the organizations by weight, by lane and age within each, and never more than is allowed."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from benchmarks.claiming import fill
from services.generation import claims, shares
from services.generation.claims import Claimed
from services.generation.engine import Engine
from services.generation.jobs import STANDARD
from services.generation.models import Operation
from services.generation.shares import Given
from shared.database import SYSTEM_ROLE, Database
from shared.ids import new_id
from shared.problems import BadRequest
from tests.service.generation.steps import claim, submitted


def queued(db: Database, engine: Engine, *, count: int, org_id: str | None = None) -> str:
    """Queue ``count`` interactive operations of one organization, in jobs of eight at most; return its id."""
    org_id = org_id or new_id("org")
    while count:
        some = min(8, count)
        submitted(db, engine, variants=some, org_id=org_id)
        count -= some
    return org_id


def end(db: Database, *org_ids: str) -> None:
    """Let everything end that the organizations have at work."""
    with db.transaction() as session:
        session.execute(
            sa.update(Operation)
            .where(Operation.org_id.in_(org_ids), Operation.status == "running")
            .values(status="succeeded", lease_until=None)
        )


def given_share(db: Database, org_id: str, **share: int) -> None:
    with db.transaction() as session:
        shares.give(session, org_id=org_id, share=Given(**share))


def in_lane(db: Database, org_id: str, lane: int, *, waited_seconds: float) -> None:
    with db.transaction() as session:
        session.execute(
            sa.text(
                "UPDATE operations SET lane = :lane, due_at = clock_timestamp() - make_interval(secs => :waited)"
                " WHERE org_id = :org_id AND status = 'queued'"
            ),
            {"lane": lane, "waited": waited_seconds, "org_id": org_id},
        )


def at_once(db: Database, count: int, claiming: Callable[[], list[Claimed]] | None = None) -> list[Claimed]:
    """Let ``count`` workers claim at the same time, again and again until each finds nothing more."""
    taken: list[list[Claimed]] = [[] for _ in range(count)]

    def work(mine: list[Claimed]) -> None:
        while found := claiming() if claiming else claim(db):
            mine.extend(found)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [item for mine in taken for item in mine]


def test_a_provider_keeps_one_place_in_fifty_for_who_has_nothing_at_work(
    generation_db: Database, engine: Engine
) -> None:
    first = queued(generation_db, engine, count=110)

    taken = claim(generation_db, free=200, limit=100, per_organization=200)
    second, third = (queued(generation_db, engine, count=3) for _ in range(2))
    newcomers = claim(generation_db, free=200, limit=100, per_organization=200)
    full = claim(generation_db, free=200, limit=100, per_organization=200)

    assert Counter(item.org_id for item in taken) == {first: 98}
    assert Counter(item.org_id for item in newcomers) == {second: 1, third: 1}
    assert full == []


def test_two_operations_of_one_organization_start_beside_two_thousand_of_another(
    generation_db: Database, engine: Engine
) -> None:
    with contextlib.closing(generation_db.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {SYSTEM_ROLE}")
        fill(connection, organizations=1, each=2000)
        connection.commit()
    assert len(claim(generation_db, free=8, limit=8)) == 8
    small = queued(generation_db, engine, count=2)
    with generation_db.transaction() as session:
        session.execute(sa.text("UPDATE operations SET model_requested = 'model-0' WHERE provider = 'local'"))

    nothing_is_free = claim(generation_db, free=4, limit=8)
    end(generation_db, "org_1")
    started = claim(generation_db, free=4, limit=8)

    assert nothing_is_free == []
    assert Counter(item.org_id for item in started) == {small: 2, "org_1": 2}


def test_turns_go_round_even_where_others_have_waited_longer(generation_db: Database, engine: Engine) -> None:
    old = [queued(generation_db, engine, count=6) for _ in range(4)]
    newest = queued(generation_db, engine, count=1)

    served = []
    for _ in range(5):
        (item,) = claim(generation_db, free=1)
        served.append(item.org_id)
        end(generation_db, item.org_id)

    assert Counter(served) == {**dict.fromkeys(old, 1), newest: 1}


def test_every_organization_has_its_turn_though_a_claim_looks_at_few(
    generation_db: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "WINDOW", 2)
    monkeypatch.setattr(claims, "LEAST_OF_A_LINE", 2)
    organizations = [queued(generation_db, engine, count=3) for _ in range(7)]

    served = []
    for _ in range(7):
        (item,) = claim(generation_db, free=1)
        served.append(item.org_id)
        end(generation_db, item.org_id)

    assert sorted(served) == sorted(organizations)


def test_organizations_that_are_full_do_not_hide_the_others(
    generation_db: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "WINDOW", 2)
    monkeypatch.setattr(claims, "LEAST_OF_A_LINE", 2)
    for _ in range(4):
        queued(generation_db, engine, count=2)
    for _ in range(8):
        claim(generation_db, free=1, per_organization=1)
    last = queued(generation_db, engine, count=1, org_id="org_zzz")

    found = [item.org_id for _ in range(6) for item in claim(generation_db, free=1, per_organization=1)]

    assert found == [last]


def test_an_organization_of_weight_three_has_three_turns_to_the_others_one(
    generation_db: Database, engine: Engine
) -> None:
    heavy, light = queued(generation_db, engine, count=16), queued(generation_db, engine, count=16)
    given_share(generation_db, heavy, weight=3)

    assert Counter(item.org_id for item in claim(generation_db, free=8)) == {heavy: 6, light: 2}


def test_an_organizations_own_limit_stands_for_the_usual_one(generation_db: Database, engine: Engine) -> None:
    org_id = queued(generation_db, engine, count=8)
    given_share(generation_db, org_id, operations_at_work=2)

    assert len(claim(generation_db, per_organization=5)) == 2


def test_a_share_stands_in_place_of_the_one_before(generation_db: Database, engine: Engine) -> None:
    org_id = queued(generation_db, engine, count=8)
    given_share(generation_db, org_id, operations_at_work=2, weight=5)
    given_share(generation_db, org_id, weight=2)

    assert len(claim(generation_db, per_organization=5)) == 5


@pytest.mark.parametrize(
    "share", [{"weight": 0}, {"weight": 1001}, {"operations_at_work": -1}, {"open_generations": -1}]
)
def test_a_share_has_its_bounds(generation_db: Database, share: dict[str, int]) -> None:
    with pytest.raises(BadRequest):
        given_share(generation_db, "org_1", **share)


def test_interactive_work_goes_before_standard_work(generation_db: Database, engine: Engine) -> None:
    org_id = queued(generation_db, engine, count=4)
    in_lane(generation_db, org_id, STANDARD, waited_seconds=30)
    queued(generation_db, engine, count=2, org_id=org_id)

    assert [item.lane for item in claim(generation_db, free=2)] == [0, 0]


def test_standard_work_that_has_waited_long_goes_before_interactive_work(
    generation_db: Database, engine: Engine
) -> None:
    org_id = queued(generation_db, engine, count=4)
    in_lane(generation_db, org_id, STANDARD, waited_seconds=61)
    queued(generation_db, engine, count=2, org_id=org_id)

    (first,) = claim(generation_db, free=1)

    assert first.lane == STANDARD


def test_a_large_old_backlog_leaves_three_of_four_places_to_interactive_work(
    generation_db: Database, engine: Engine
) -> None:
    org_id = queued(generation_db, engine, count=40)
    in_lane(generation_db, org_id, STANDARD, waited_seconds=600)
    queued(generation_db, engine, count=16, org_id=org_id)

    lanes = Counter(item.lane for _ in range(8) for item in claim(generation_db, free=1))

    assert lanes == {0: 6, STANDARD: 2}


def test_old_standard_work_of_others_takes_turns_with_interactive_work(generation_db: Database, engine: Engine) -> None:
    for _ in range(3):
        in_lane(generation_db, queued(generation_db, engine, count=4), STANDARD, waited_seconds=600)
    newest = queued(generation_db, engine, count=1)

    served = []
    for _ in range(4):
        (item,) = claim(generation_db, free=1)
        served.append(item.org_id)
        end(generation_db, item.org_id)

    assert newest in served
    assert max(Counter(served).values()) == 1


def test_interactive_work_goes_before_young_standard_work_of_others(generation_db: Database, engine: Engine) -> None:
    for _ in range(3):
        in_lane(generation_db, queued(generation_db, engine, count=4), STANDARD, waited_seconds=30)
    newest = queued(generation_db, engine, count=1)

    assert [item.org_id for item in claim(generation_db, free=1)] == [newest]


def test_many_claimers_at_once_never_pass_the_limits(generation_db: Database, engine: Engine) -> None:
    for _ in range(6):
        queued(generation_db, engine, count=8)

    taken = at_once(generation_db, 6, lambda: claim(generation_db, limit=21, per_organization=4))

    assert len({item.id for item in taken}) == len(taken) == 21
    assert max(Counter(item.org_id for item in taken).values()) <= 4


def test_many_claimers_at_once_take_every_operation_once(generation_db: Database, engine: Engine) -> None:
    for _ in range(5):
        queued(generation_db, engine, count=8)

    taken = at_once(generation_db, 5, lambda: claim(generation_db, limit=1000, free=3))

    assert len({item.id for item in taken}) == len(taken) == 40
