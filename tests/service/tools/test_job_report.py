"""Looking at one job through all services."""

import json

from shared.ids import new_id
from tools.__main__ import main


def test_a_job_is_shown_with_its_money_and_its_images(system, capsys):
    job = system.job()

    status = main(["jobs", "show", job.job_id])

    report = capsys.readouterr().out
    assert status == 0
    for heading in ("job (1)", "generations (1)", "operations (1)", "images (1)", "lines (1)"):
        assert heading in report
    assert "captured_amount=10" in report


def test_a_job_can_be_read_by_a_program(system, capsys):
    job = system.job(status="failed", generation="failed")

    main(["jobs", "show", job.job_id, "--json"])

    report = json.loads(capsys.readouterr().out)
    assert report["job"][0]["status"] == "failed"
    assert report["lines"][0]["status"] == "refunded"
    assert sum(entry["amount"] for entry in report["entries"]) == 0


def test_a_job_nobody_knows_is_said_to_be_unknown(databases, capsys):
    unknown = new_id("job")
    assert databases["credits"]
    assert databases["generation"]

    status = main(["jobs", "show", unknown])

    assert status == 1
    assert unknown in capsys.readouterr().err
