"""Migrating through the command line."""

from pathlib import Path

import pytest

from tools.__main__ import main

CODE = Path(__file__).resolve().parents[3]
NEWEST = max(file.name[:4] for file in (CODE / "services/catalog/migrations/versions").glob("*.py"))


@pytest.fixture
def empty_catalog(postgres, monkeypatch):
    """A service database as `make up` makes it, before any migration, under the role of the catalog."""
    address = postgres.create_service_database("catalog_empty")
    monkeypatch.setenv("CATALOG_DATABASE_URL", address)
    yield
    postgres.drop_database("catalog_empty")


@pytest.mark.usefixtures("empty_catalog")
def test_an_empty_database_is_brought_to_the_newest_version_once(capsys):
    first = main(["migrate", "catalog"])
    again = main(["migrate", "catalog"])

    lines = capsys.readouterr().out.splitlines()
    assert (first, again) == (0, 0)
    assert lines[0] == f"catalog        at {NEWEST} (was empty)"
    assert lines[1] == f"catalog        at {NEWEST} (up to date)"


def test_a_database_that_does_not_answer_is_named_without_its_password(monkeypatch, capsys):
    monkeypatch.setenv("CATALOG_DATABASE_URL", "postgresql+psycopg2://catalog:geheim@127.0.0.1:1/catalog")

    status = main(["migrate", "catalog"])

    told = capsys.readouterr().err
    assert status == 1
    assert "the database of catalog at 127.0.0.1:1 does not answer" in told
    assert "geheim" not in told


def test_an_unknown_service_is_told_from_the_known(capsys):
    status = main(["migrate", "storage"])

    assert status == 1
    assert "no service is called storage; there are gateway, credits" in capsys.readouterr().err
