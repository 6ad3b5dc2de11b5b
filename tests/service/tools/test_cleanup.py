"""Cleaning the store up: orphans of more than a day go, everything else stays."""

import os

import pytest

from tools.__main__ import main


@pytest.fixture(autouse=True)
def owners(databases):
    """Have the databases whose rows name objects."""
    return [databases[service] for service in ("catalog", "generation")]


@pytest.fixture
def orphan(system, tmp_path):
    """Put an object into the store that no row names, this many hours old."""

    def make(name, *, hours=25):
        key = f"images/org_first/img_lost/{name}.jpg"
        system.store.put(key=key, chunks=b"lost", content_type="image/jpeg")
        file = tmp_path / "objects" / key
        os.utime(file, (file.stat().st_mtime - hours * 3600,) * 2)
        return key

    return make


def stored(system):
    return set(system.store.keys())


def test_an_orphan_of_more_than_a_day_is_deleted_and_nothing_else(system, orphan, capsys):
    system.job()
    system.asset()
    kept = stored(system)
    young = orphan("young", hours=23)
    old = orphan("old", hours=25)

    status = main(["cleanup"])

    assert status == 0
    assert stored(system) == {*kept, young}
    assert old in capsys.readouterr().out


def test_a_dry_run_lists_and_deletes_nothing(system, orphan, capsys):
    old = orphan("old")

    main(["cleanup", "--dry-run"])

    report = capsys.readouterr().out
    assert old in report
    assert "1 of 1 objects (4 bytes) would be deleted" in report
    assert old in stored(system)


def test_an_image_its_owner_put_aside_keeps_its_objects(system):
    system.job(age="2 days")
    system.change("generation", "UPDATE images SET deleted_at = now()")
    kept = stored(system)

    main(["cleanup", "--force"])

    assert stored(system) == kept


def test_the_thumbnail_of_a_products_picture_is_kept_and_one_that_nobody_took_up_goes(system, tmp_path):
    system.shown(system.asset())
    kept = stored(system)
    system.store.put(key="assets/org_first/ast_lost.thumb.jpg", chunks=b"small", content_type="image/jpeg")
    for each in (tmp_path / "objects").rglob("*.jpg"):
        os.utime(each, (each.stat().st_mtime - 25 * 3600,) * 2)

    main(["cleanup"])

    assert stored(system) == kept


def test_a_store_that_seems_to_be_another_systems_is_not_emptied(system, orphan, capsys):
    for number in range(21):
        orphan(str(number))

    status = main(["cleanup"])

    assert status == 1
    assert len(stored(system)) == 21
    assert "the same system" in capsys.readouterr().err


def test_it_is_emptied_all_the_same_when_the_operator_insists(system, orphan):
    for number in range(21):
        orphan(str(number))

    main(["cleanup", "--force"])

    assert stored(system) == set()
