"""Both object stores against the same cases, then what is particular to each."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from shared.storage import (
    PIECE_BYTES,
    NewObject,
    ObjectExists,
    ObjectMissing,
    ObjectStore,
    StorageUnavailable,
    StoredObject,
    TooLarge,
    UploadForm,
    checked_key,
    content_type_of,
    open_store,
)
from tests.fakes import FakeS3

KEY = "images/org_a/img_1/7.jpg"
BODY = bytes(range(256)) * 5000


@pytest.fixture
def fake_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeS3, ObjectStore]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    fake = FakeS3()
    with fake.running() as endpoint:
        yield fake, open_store(f"s3://bucket?endpoint={endpoint}&region=eu-west-1")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_store(f"file://{tmp_path}/objects")
    return request.getfixturevalue("fake_s3")[1]


def put(store: ObjectStore, key: str = KEY, body: bytes = BODY) -> StoredObject:
    return store.put(key=key, chunks=body, content_type="image/jpeg")


def two_together(store: ObjectStore, **limits: int) -> list[StoredObject]:
    objects = [
        NewObject(key=KEY, data=BODY, content_type="image/jpeg"),
        NewObject(key=KEY.replace(".jpg", ".thumb.jpg"), data=b"small", content_type="image/jpeg"),
    ]
    return store.put_together(objects, **limits)


def read(store: ObjectStore, key: str = KEY, **range_: int) -> bytes:
    return b"".join(store.open(key, **range_))


def test_an_object_comes_back_as_it_was_stored_and_measured(store: ObjectStore) -> None:
    stored = store.put(key=KEY, chunks=iter([BODY[:10], b"", BODY[10:]]), content_type="image/jpeg")

    assert read(store) == BODY
    assert (stored.key, stored.bytes, stored.content_type) == (KEY, len(BODY), "image/jpeg")
    assert stored.sha256 == hashlib.sha256(BODY).hexdigest()
    assert stored.crc32 == zlib.crc32(BODY)
    assert store.measure(KEY) == stored


def test_an_empty_object_can_be_stored(store: ObjectStore) -> None:
    stored = store.put(key=KEY, chunks=[], content_type="image/jpeg")

    assert (stored.bytes, stored.crc32, read(store)) == (0, 0, b"")


def test_a_second_put_of_the_same_bytes_gives_the_same_answer(store: ObjectStore) -> None:
    first = put(store)

    second = put(store)

    assert second == first


def test_a_second_put_of_other_bytes_is_refused_and_changes_nothing(store: ObjectStore) -> None:
    put(store)

    with pytest.raises(ObjectExists, match=KEY):
        put(store, body=b"other")

    assert read(store) == BODY


def test_of_many_writers_of_one_key_exactly_one_wins_and_the_object_is_whole(store: ObjectStore) -> None:
    bodies = [bytes([number]) * 3_000_000 for number in range(6)]
    won: list[bytes] = []

    def write(body: bytes) -> None:
        try:
            put(store, body=body)
        except ObjectExists:
            return
        won.append(body)

    writers = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert len(won) == 1
    assert read(store) == won[0]


def test_objects_that_belong_together_are_stored_and_measured_each(store: ObjectStore) -> None:
    whole, small = two_together(store)

    assert (read(store, whole.key), read(store, small.key)) == (BODY, b"small")
    assert [store.measure(each.key) for each in (whole, small)] == [whole, small]
    assert two_together(store) == [whole, small], "and once more gives the same answer"


def test_one_of_several_whose_key_is_taken_is_refused_and_what_is_there_stays(store: ObjectStore) -> None:
    put(store, KEY, b"other")

    with pytest.raises(ObjectExists, match=KEY):
        two_together(store)

    assert read(store) == b"other"


def test_several_of_which_one_is_too_large_are_refused(store: ObjectStore) -> None:
    with pytest.raises(TooLarge, match=KEY):
        two_together(store, max_bytes=len(BODY) - 1)

    assert store.stat(KEY) is None


def test_more_bytes_than_allowed_are_refused_and_nothing_is_kept(store: ObjectStore) -> None:
    with pytest.raises(TooLarge, match="1279999"):
        store.put(key=KEY, chunks=BODY, content_type="image/jpeg", max_bytes=len(BODY) - 1)

    assert list(store.keys()) == []
    assert store.stat(KEY) is None


def test_exactly_as_many_bytes_as_allowed_are_kept(store: ObjectStore) -> None:
    stored = store.put(key=KEY, chunks=BODY, content_type="image/jpeg", max_bytes=len(BODY))

    assert stored.bytes == len(BODY)


def test_a_source_that_breaks_off_leaves_nothing_and_its_own_error_comes_through(store: ObjectStore) -> None:
    def broken() -> Iterator[bytes]:
        yield BODY
        raise ConnectionResetError(errno.ECONNRESET, "the client hung up")

    with pytest.raises(ConnectionResetError):
        store.put(key=KEY, chunks=broken(), content_type="image/jpeg")

    assert list(store.keys()) == []


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 1), (5, 5), (7, 300_000), (len(BODY) - 1, None), (10, 10**9)]
)
def test_a_range_is_what_a_slice_is(store: ObjectStore, start: int, end: int | None) -> None:
    put(store)

    assert read(store, start=start, end=end) == BODY[start:end]


def test_a_range_behind_the_end_is_empty(store: ObjectStore) -> None:
    put(store)

    assert read(store, start=len(BODY)) == b""


@pytest.mark.parametrize(("start", "end"), [(-1, None), (5, 4)])
def test_a_range_that_runs_backwards_is_refused(store: ObjectStore, start: int, end: int | None) -> None:
    put(store)

    with pytest.raises(ValueError, match="is not a range"):
        store.open(KEY, start=start, end=end)


def test_pieces_are_small_enough_to_let_others_run(store: ObjectStore) -> None:
    put(store, body=bytes(PIECE_BYTES * 3))

    largest = max(len(piece) for piece in store.open(KEY))

    assert largest <= PIECE_BYTES


@pytest.mark.parametrize("end", [None, 0])
def test_a_missing_object_shows_on_opening(store: ObjectStore, end: int | None) -> None:
    with pytest.raises(ObjectMissing):
        store.open(KEY, end=end)


def test_a_missing_object_has_no_stat_and_no_measure(store: ObjectStore) -> None:
    assert store.stat(KEY) is None
    with pytest.raises(ObjectMissing):
        store.measure(KEY)


def test_stat_gives_size_and_type_and_time(store: ObjectStore) -> None:
    put(store)

    found = store.stat(KEY)

    assert found is not None
    assert (found.bytes, found.content_type) == (len(BODY), "image/jpeg")
    assert found.stored_at.tzinfo is not None


def test_deleting_twice_is_as_good_as_once(store: ObjectStore) -> None:
    put(store)

    store.delete(KEY)
    store.delete(KEY)

    assert store.stat(KEY) is None
    assert list(store.keys()) == []


def test_keys_are_listed_by_prefix_alone(store: ObjectStore) -> None:
    keys = {
        "images/org_a/img_1/7.jpg",
        "images/org_a/img_10/1.jpg",
        "images/org_b/img_1/7.jpg",
        "assets/org_a/ast_1.jpg",
    }
    for key in keys:
        put(store, key=key, body=b"x")

    assert set(store.keys()) == keys
    assert set(store.keys("images/org_a/")) == {"images/org_a/img_1/7.jpg", "images/org_a/img_10/1.jpg"}
    assert set(store.keys("images/org_a/img_1")) == {"images/org_a/img_1/7.jpg", "images/org_a/img_10/1.jpg"}
    assert set(store.keys("exports/org_a/")) == set()


@pytest.mark.parametrize(
    "key",
    [
        "images/org_a/../../etc/passwd.jpg",
        "../images/org_a/1.jpg",
        "images/../org_a/1.jpg",
        "images/.org_a/1.jpg",
        "/images/org_a/1.jpg",
        "images//org_a/1.jpg",
        "images/org_a/./1.jpg",
        "images/org_a/.incoming/1.jpg",
        "images\\org_a\\1.jpg",
        "images/org_a/1\x00.jpg",
        "images/org_a/1.jpg\n",
        "images/org_a/a b.jpg",
        "images/org_a/\u0661.jpg",
        "images/org_a",
        "secrets/org_a/1.jpg",
        "images/org_a/" + "1/" * 300 + "1.jpg",
        "",
    ],
)
def test_a_key_that_could_name_anything_else_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is not a storage key"):
        checked_key(key)


def test_no_method_takes_a_key_that_leaves_the_store(store: ObjectStore) -> None:
    key = "images/org_a/../../../escaped.jpg"

    for act in (
        lambda: store.put(key=key, chunks=b"x", content_type="image/jpeg"),
        lambda: store.open(key),
        lambda: store.stat(key),
        lambda: store.measure(key),
        lambda: store.delete(key),
    ):
        with pytest.raises(ValueError, match="is not a storage key"):
            act()


@pytest.mark.parametrize("prefix", ["../", "/etc", "images/../..", ".incoming"])
def test_a_prefix_no_key_can_have_is_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(ValueError, match="cannot begin a storage key"):
        list(store.keys(prefix))


def test_an_ending_that_belies_the_type_is_refused(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="image/jpeg, not image/png"):
        store.put(key=KEY, chunks=b"x", content_type="image/png")


@pytest.mark.parametrize("url", ["", "file://relative/path", "ftp://host/x", "s3://", "/plain/path"])
def test_an_address_of_no_known_kind_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(ValueError, match="file:///absolute/folder"):
        open_store(url)


# the folder


def test_a_partial_object_is_never_visible(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    seen: list[object] = []

    def watched() -> Iterator[bytes]:
        for _ in range(3):
            yield bytes(PIECE_BYTES)
            seen.append((store.stat(KEY), list(store.keys())))

    store.put(key=KEY, chunks=watched(), content_type="image/jpeg")

    assert seen == [(None, [])] * 3


def test_a_writer_killed_half_way_leaves_no_object_and_the_key_free(tmp_path: Path) -> None:
    script = f"""
import os
from shared.storage import open_store

def chunks():
    yield bytes(3_000_000)
    os._exit(9)

open_store("file://{tmp_path}").put(key="{KEY}", chunks=chunks(), content_type="image/jpeg")
"""

    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False, timeout=30)

    assert killed.returncode == 9
    store = open_store(f"file://{tmp_path}")
    assert list(store.keys()) == []
    assert put(store).bytes == len(BODY)


@pytest.mark.parametrize("again", [open_store, None])
def test_what_a_dead_writer_left_is_dropped_after_a_while_and_not_before(
    tmp_path: Path, again: Callable[[str], ObjectStore] | None
) -> None:
    store = open_store(f"file://{tmp_path}")
    old, young = tmp_path / ".incoming" / "old", tmp_path / ".incoming" / "young"
    for leftover, minutes in ((old, 21), (young, 19)):
        leftover.write_bytes(b"half an obj")
        os.utime(leftover, (time.time() - minutes * 60,) * 2)

    again(f"file://{tmp_path}") if again else store.drop_leftovers()

    assert not old.exists()
    assert young.exists()


def test_a_deleted_object_is_not_left_in_a_bucket_that_keeps_versions(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3
    fake.keeps_versions = True
    other = KEY.replace("7.jpg", "7.jpg.png")
    for key in (KEY, other):
        store.put(key=key, chunks=BODY, content_type=content_type_of(key))
    fake.hidden[other, "v1"] = b"of another key"

    for _ in range(2):
        store.delete(KEY)

    assert store.stat(KEY) is None
    assert fake.hidden == {(other, "v1"): b"of another key"}
    assert store.stat(other) is not None


def test_file_and_folders_are_on_disk_before_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    store = open_store(f"file://{tmp_path}")
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))

    put(store)

    parents = [tmp_path, tmp_path / "images", tmp_path / "images/org_a", tmp_path / "images/org_a/img_1"]
    inodes = [path.stat().st_ino for path in parents]
    assert synced == [(tmp_path / KEY).stat().st_ino, *inodes[:3], inodes[3]]


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageUnavailable, match="storage folder: Not a directory"):
        open_store(f"file://{tmp_path}/file/objects")


def test_a_full_disk_is_a_failure_of_the_store_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"file://{tmp_path}")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageUnavailable, match="No space left on device"):
        put(store)

    assert list(store.keys()) == []
    assert list((tmp_path / ".incoming").iterdir()) == []


def test_a_slow_disk_does_not_stop_the_other_green_threads(tmp_path: Path) -> None:
    # In a process of its own: whether green threads are in use is decided by its first line.
    script = f"""
import eventlet; eventlet.monkey_patch()
import os, time
from eventlet import patcher
from shared.storage import open_store

slow_sleep = patcher.original("time").sleep
os.fsync = lambda descriptor: slow_sleep(0.3)
store = open_store("file://{tmp_path}")
beats = []

def beat():
    while True:
        beats.append(time.monotonic())
        time.sleep(0.01)

beating = eventlet.spawn(beat)
store.put(key="{KEY}", chunks=b"x", content_type="image/jpeg")
assert max(b - a for a, b in zip(beats, beats[1:])) < 0.2, "the hub stood still"
assert len(beats) > 20
"""

    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=30)


def test_green_threads_have_their_objects_written_together_by_another_process_and_by_its_successor(
    tmp_path: Path,
) -> None:
    script = f"""
import eventlet; eventlet.monkey_patch()
import psutil, time
from shared.storage import NewObject, open_store

store = open_store("file://{tmp_path}")

def stored(number):
    new = [NewObject(key=f"images/org/{{number}}.{{part}}.jpg", data=b"%d" % number, content_type="image/jpeg")
           for part in (1, 2)]
    return [each.bytes for each in store.put_together(new)]

assert list(eventlet.GreenPool().imap(stored, range(10, 60))) == [[2, 2]] * 50
(writer,) = psutil.Process().children()
writer.kill()
while writer.status() != psutil.STATUS_ZOMBIE:
    time.sleep(0.01)
assert stored(60) == [2, 2]
assert len(list(store.keys())) == 102
assert b"".join(store.open("images/org/37.2.jpg")) == b"37"
"""

    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


def test_a_disk_that_refuses_is_a_failure_of_the_store_for_all_that_came_together(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    (tmp_path / ".incoming").rmdir()

    with pytest.raises(StorageUnavailable, match="cannot write to the storage folder: No such file or directory"):
        two_together(store)

    assert list(store.keys()) == []


# S3


def test_s3_is_asked_never_to_overwrite_and_to_check_the_digest(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3

    put(store)

    (_, key, headers) = fake.requests[-1]
    assert key == KEY
    assert headers["If-None-Match"] == "*"
    assert headers["Content-Type"] == "image/jpeg"
    assert "x-amz-checksum-sha256" in headers
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=an-id/")


def test_a_put_whose_answer_was_lost_succeeds_when_repeated(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3
    fake.lose_next_put = True

    stored = put(store)

    assert fake.objects == {KEY: BODY}
    assert stored.sha256 == hashlib.sha256(BODY).hexdigest()


def test_a_failing_service_is_tried_twice_and_then_unavailable(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3
    for act in (lambda: put(store), lambda: store.open(KEY), lambda: store.stat(KEY), lambda: list(store.keys())):
        fake.answers[:] = [503, 503, 503]
        before = len(fake.requests)

        with pytest.raises(StorageUnavailable):
            act()

        assert len(fake.requests) == before + 2


def test_one_slow_down_is_ridden_out(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3
    fake.answers = [503]

    assert put(store).bytes == len(BODY)


def test_refused_credentials_are_a_failure_of_the_store_not_a_missing_object(
    fake_s3: tuple[FakeS3, ObjectStore],
) -> None:
    fake, store = fake_s3
    fake.answers = [403]

    with pytest.raises(StorageUnavailable, match="answered 403"):
        store.stat(KEY)


def test_a_body_that_ends_too_early_is_never_taken_for_the_object(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3
    put(store)
    fake.answers = ["cut"]

    with pytest.raises(StorageUnavailable):
        read(store)


def test_a_long_listing_is_followed_to_its_end(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3
    fake.page_size = 2
    keys = [f"images/org_a/img_{number}/1.jpg" for number in range(5)]
    fake.objects.update(dict.fromkeys(keys, b"x"))

    assert list(store.keys("images/")) == keys


def test_a_service_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    store = open_store("s3://bucket?endpoint=http://127.0.0.1:1&region=eu-west-1")

    with pytest.raises(StorageUnavailable, match="EndpointConnectionError"):
        store.stat(KEY)


@pytest.mark.parametrize("url", ["s3://bucket/folder", "s3://bucket?reigon=x", "s3://id:secret@bucket"])
def test_an_s3_address_with_anything_else_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="nothing else") as refusal:
        open_store(url)

    assert "secret" not in str(refusal.value).replace("AWS_SECRET_ACCESS_KEY", "").lower()


def a_form(store: ObjectStore, key: str = KEY, *, size: int = 100, seconds: int = 600) -> UploadForm:
    form = store.upload_form(key=key, content_type="image/jpeg", size=size, seconds=seconds)
    assert form is not None
    return form


def send(form: UploadForm, body: bytes, **changed: str) -> int:
    return requests.post(form.url, data={**form.fields, **changed}, files={"file": body}, timeout=5).status_code


def test_a_form_lets_a_client_store_one_object_of_one_size(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3

    status = send(a_form(store), b"x" * 100)

    assert status == 204
    assert fake.objects == {KEY: b"x" * 100}
    assert store.measure(KEY).bytes == 100
    assert fake.requests[0][0] == "POST"


@pytest.mark.parametrize("size", [0, 99, 101, 10_000_000])
def test_a_form_takes_no_other_size(fake_s3: tuple[FakeS3, ObjectStore], size: int) -> None:
    fake, store = fake_s3

    assert send(a_form(store), b"x" * size) == 400
    assert fake.objects == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "images/org_b/img_1/7.jpg"},
        {"key": KEY + ".html"},
        {"Content-Type": "text/html"},
        {"x-amz-signature": "0" * 64},
        {"success_action_redirect": "https://elsewhere.test/"},
        {"x-amz-meta-more": "1"},
        {"acl": "public-read"},
    ],
)
def test_a_form_that_was_changed_is_refused(fake_s3: tuple[FakeS3, ObjectStore], changed: dict[str, str]) -> None:
    fake, store = fake_s3

    assert send(a_form(store), b"x" * 100, **changed) == 403
    assert fake.objects == {}


def test_a_form_ends(fake_s3: tuple[FakeS3, ObjectStore]) -> None:
    fake, store = fake_s3

    assert send(a_form(store, seconds=-1), b"x" * 100) == 403
    assert fake.objects == {}


@pytest.mark.parametrize("key", ["../x.jpg", "images/org_a/${filename}", "other/org_a/x.jpg"])
def test_no_form_is_signed_for_what_is_no_key(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        store.upload_form(key=key, content_type="image/jpeg", size=1, seconds=60)


def test_a_folder_has_no_form(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/objects")

    assert store.upload_form(key=KEY, content_type="image/jpeg", size=1, seconds=60) is None
