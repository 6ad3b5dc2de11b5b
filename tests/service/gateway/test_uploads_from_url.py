"""Having a picture fetched: through the guard, through the same checks, once."""

import threading

import pytest

from services.gateway.turns import Turns
from shared.ids import is_id
from shared.outside import Outside
from shared.outside_names import NameUnknown
from shared.problems import Unavailable
from tests.fakes import FakeSite, an_answer
from tests.pictures import a_picture


@pytest.fixture
def site(gateway):
    with FakeSite().running() as site:
        gateway.outside = Outside(allowed=[site.place], resolve=no_names)
        yield site


def no_names(host, _seconds, **_):
    raise NameUnknown(host)


@pytest.fixture
def headers(studio):
    return studio[1]


@pytest.fixture
def ask(client, headers, site):
    """Ask for the picture at a path of the site."""

    def ask(path="/room.jpg", *, key=None, **body):
        sent = {**headers, **({"Idempotency-Key": key} if key else {})}
        return client.post(
            "/v1/uploads/from-url", json={"url": f"http://{site.place}{path}", "purpose": "room", **body}, headers=sent
        )

    return ask


def test_the_picture_becomes_an_upload_like_any_other(ask, client, headers, site, studio, services, store):
    site.answers["/a/my%20room.jpg?size=l"] = an_answer(a_picture("PNG"), Content_Type="text/html")

    answer = ask("/a/my%20room.jpg?size=l", purpose="face", keep_original=True)

    asset = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/uploads/{asset['id']}"
    assert (asset["content_type"], asset["width"], asset["height"]) == ("image/png", 640, 480)
    [known] = services.catalog.asked("register_asset")
    assert known["key"] == f"assets/{studio[0]}/{asset['id']}.png"
    assert (known["purpose"], known["keep_original"], known["file_name"]) == ("face", True, "my room.jpg")
    assert store.measure(known["key"]).sha256 == known["sha256"]
    assert client.get(answer.headers["Location"], headers=headers).json == asset
    assert is_id(asset["id"], prefix="ast")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a00:1]/",
        "http://2130706433/",
        "http://localhost:5432/",
        "http://inside.test/",
        "file:///etc/passwd",
        "http://user:password@example.com/",
        "nonsense",
    ],
)
def test_an_address_that_is_not_public_is_refused(ask, services, url):
    answer = ask(url=url)

    assert (answer.status_code, answer.json["code"]) == (400, "url_refused")
    assert services.catalog.calls == []


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest/", "//127.0.0.1/", "ftp://127.0.0.1/"])
def test_a_redirect_to_such_an_address_is_refused(ask, site, services, location):
    site.answers["/room.jpg"] = an_answer(status="302 Found", Location=location)

    answer = ask()

    assert (answer.status_code, answer.json["code"]) == (400, "url_refused")
    assert services.catalog.calls == []


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (an_answer(b"gone", status="404 Not Found"), 422, "url_unreachable"),
        (an_answer(b""), 422, "url_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nonly this", 422, "url_unreachable"),
        (an_answer(b"x", Content_Length=str((10 << 20) + 1)), 422, "limit_exceeded"),
        (an_answer(b"<html></html>", Content_Type="image/jpeg"), 400, "unsupported_image_type"),
        (an_answer(a_picture()[:1000]), 400, "image_corrupt"),
    ],
)
def test_what_is_there_has_to_be_a_picture(ask, site, services, store, raw, status, code):
    site.answers["/room.jpg"] = raw

    answer = ask()

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert services.catalog.calls == []
    assert list(store.keys()) == []


def test_no_word_of_what_was_there_is_answered(ask, site):
    site.answers["/room.jpg"] = an_answer(
        b"the secret of the house", status="500 Internal Server Error", X_Secret="inside"
    )

    answer = ask()

    assert "secret" not in answer.text.lower()
    assert site.place not in answer.text


def test_the_same_request_again_gets_the_same_answer_and_fetches_nothing(ask, site, services):
    site.answers["/room.jpg"] = an_answer(a_picture())
    first = ask(key="k1")

    again = ask(key="k1")

    assert (again.status_code, again.json) == (201, first.json)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(site.asked) == 1
    assert len(services.assets) == 1


def test_the_same_key_for_another_address_is_refused(ask, site):
    site.answers["/room.jpg"] = an_answer(a_picture())
    ask(key="k1")

    answer = ask("/other.jpg", key="k1")

    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")


def test_a_try_that_failed_behind_the_store_is_completed_by_the_next(ask, site, services):
    site.answers["/room.jpg"] = an_answer(a_picture())
    services.catalog.down = True
    failed = ask(key="k1")
    services.catalog.down = False

    answer = ask(key="k1")

    assert (failed.status_code, answer.status_code) == (503, 201)
    first, second = services.catalog.asked("register_asset")
    assert first["asset_id"] == second["asset_id"] == answer.json["id"]


def test_an_address_that_gives_another_picture_each_time_does_not_change_what_is_known(ask, site, services):
    pictures = iter([a_picture(colour="red"), a_picture(colour="blue")])
    site.answers["/room.jpg"] = lambda: iter([an_answer(next(pictures))])
    register = services.catalog.methods["register_asset"]

    def lose_the_answer(**asset):
        register(**asset)
        raise Unavailable("The catalog did not answer in time.")

    services.catalog.methods["register_asset"] = lose_the_answer
    failed = ask(key="k1")

    answer = ask(key="k1")

    [known] = services.assets.values()
    assert (failed.status_code, answer.status_code) == (503, 201)
    assert (answer.json["id"], answer.json["sha256"]) == (known["id"], known["sha256"])
    assert len(site.asked) == 1


def test_another_picture_where_an_earlier_try_stored_one_is_a_conflict(ask, site, services):
    pictures = iter([a_picture(colour="red"), a_picture(colour="blue")])
    site.answers["/room.jpg"] = lambda: iter([an_answer(next(pictures))])
    services.catalog.down = True
    ask(key="k1")
    services.catalog.down = False

    answer = ask(key="k1")

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert "new Idempotency-Key" in answer.json["detail"]


def test_a_picture_that_was_known_before_leaves_no_second_copy(ask, site, services, store):
    site.answers["/room.jpg"] = an_answer(a_picture())
    first = ask().json
    services.catalog.methods["register_asset"] = lambda **_: services.assets[first["id"]]

    again = ask()

    assert (again.status_code, again.json["id"]) == (201, first["id"])
    assert again.headers["Location"] == f"/v1/uploads/{first['id']}"
    assert list(store.keys()) == [services.assets[first["id"]]["key"]]


def test_few_are_fetched_at_once_and_the_next_is_told_to_come_again(ask, gateway, site):
    gateway.turns = Turns(in_all=1)
    begun, go_on = threading.Event(), threading.Event()

    def slowly():
        begun.set()
        go_on.wait(5)
        yield an_answer(a_picture())

    site.answers["/slow.jpg"] = slowly
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(ask("/slow.jpg")))
    waiting.start()
    begun.wait(5)

    refused = ask()
    go_on.set()
    waiting.join()

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert answers[0].status_code == 201


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": None}, "/url"),
        ({"url": ""}, "/url"),
        ({"url": "http://x.test/" + "a" * 2048}, "/url"),
        ({"url": ["http://x.test/"]}, "/url"),
        ({"purpose": "fun"}, "/purpose"),
        ({"keep_original": "perhaps"}, "/keep_original"),
        ({"more": 1}, "/more"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_where_it_does_not(ask, body, pointer):
    answer = ask(**body)

    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("value", ["on", "true", 1])
def test_whether_to_keep_the_original_is_true_or_false_and_nothing_that_reads_like_it(ask, value):
    answer = ask(keep_original=value)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/keep_original")
