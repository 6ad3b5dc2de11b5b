"""docs/adding-a-workflow.md is followed word for word: its example is put into a copy of the project, and sold."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.steps import finished, get, post, settled
from tests.faults.client import Client, credentials, new_organization
from tests.faults.stack import CHECKOUT, Stack, running_stack
from tests.polling import until

pytestmark = pytest.mark.stack

PAGE = CHECKOUT / "docs" / "adding-a-workflow.md"
CODE = ("bin", "clients", "deploy", "docs", "services", "shared", "tools", "pyproject.toml", "requirements.lock")


@pytest.fixture(scope="module")
def copy_with_the_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the project's code that has one file more."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in CODE:
        of = CHECKOUT / name
        if of.is_dir():
            shutil.copytree(of, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(of, copy / name)
    (path,) = re.findall(r"^`(services/generation/workflows/\w+\.py)`:$", PAGE.read_text(), re.MULTILINE)
    (module,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (copy / path).write_text(module)
    return copy


@pytest.fixture(scope="module")
def stack_of_the_copy(copy_with_the_example: Path) -> Iterator[Stack]:
    copy = Stack(copy_with_the_example / ".local", copy_with_the_example)
    written = copy.command("tools", "contracts")
    assert written.returncode == 0, written.stderr
    compared = copy.command("tools", "contracts", "--check")
    assert compared.returncode == 0, compared.stdout
    with running_stack(copy_with_the_example) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack_of_the_copy: Stack) -> Client:
    keys = credentials(stack_of_the_copy.home)
    return new_organization(keys["gateway_url"], keys["admin_key"], credits_granted=20)


@pytest.fixture(scope="module")
def price(stack_of_the_copy: Stack, client: Client) -> int:
    """Give the new SKU a price as the page says, and wait until it is in force."""
    (command,) = re.findall(r"`bin/darkroom (prices change [^`]+)`", PAGE.read_text())
    given = stack_of_the_copy.command("tools", *command.split())
    assert given.returncode == 0, given.stderr

    def in_force() -> Any:
        return next((one for one in get(client, "/v1/pricing")["data"] if one["sku"] == "listing.photo"), None)

    return int(until(in_force, seconds=40, what="the price")["amount"])


def test_it_is_offered_and_described_and_its_inputs_are_checked(client: Client) -> None:
    offered = {line["name"]: line for line in get(client, "/v1/workflows")["data"]}
    document = get(client, "/openapi.json")

    wrong = post(client, "/v1/jobs", {"workflow": "listing_photos", "inputs": {"upload_ids": []}})
    stranger = post(
        client, "/v1/jobs", {"workflow": "listing_photos", "inputs": {"upload_ids": ["ast_1"], "frame": "gold"}}
    )

    assert offered["listing_photos"]["title"] == "Photos for a listing"
    assert "listing_photos" in str(document["components"]["schemas"]["JobRequest"])
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/inputs/upload_ids")
    assert {error["pointer"] for error in stranger.json()["errors"]} == {"/inputs/frame", "/inputs/upload_ids"}


def test_it_is_sold_and_its_images_say_where_they_come_from(client: Client, price: int) -> None:
    uploads = [client.upload(number) for number in (1, 2)]
    order = {"workflow": "listing_photos", "inputs": {"upload_ids": uploads, "at_dusk": True}}

    quote = post(client, "/v1/quotes", order).json()
    job = finished(client, post(client, "/v1/jobs", {**order, "quote_id": quote["id"]}).json()["id"])
    settled(client)

    assert (job["status"], job["charged"], client.wallet()["available"]) == ("succeeded", 4 * price, 20 - 4 * price)
    images = client.images(job)
    assert len({client.pixels(image) for image in images}) == 4
    assert all(client.is_whole(image) for image in images)
    lines = [get(client, f"/v1/images/{image['id']}/provenance")["line"] for image in images]
    assert sorted(line[-1]["id"] for line in lines) == sorted(uploads * 2)
    assert {line[0]["prompt_version"] for line in lines} == {"listing-photos-1"}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:services|tests)/[\w/.]+\.py)`", PAGE.read_text()))))
def test_every_file_the_page_names_is_there(path: str) -> None:
    assert (CHECKOUT / path).is_file() or path.endswith("/listing_photos.py")
