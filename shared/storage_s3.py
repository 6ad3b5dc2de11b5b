"""The object store on any service that speaks the S3 protocol; credentials come from the environment."""

import base64
import binascii
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import parse_qsl, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.storage import (
    READ_BYTES,
    NewObject,
    ObjectMissing,
    ObjectStat,
    StorageUnavailable,
    StoredObject,
    UploadForm,
    checked_content_type,
    checked_key,
    checked_prefix,
    checked_range,
    content_type_of,
    measured,
    same_or_taken,
)

MEMORY_BYTES = 4 << 20
CLIENT = {
    "connect_timeout": 5,
    "read_timeout": 30,
    "retries": {"mode": "standard", "total_max_attempts": 2},
    "max_pool_connections": 64,
    "signature_version": "s3v4",
    # Services other than Amazon's often refuse the chunked trailers that newer clients add by themselves.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


class S3Store:
    """An ObjectStore in one bucket. Objects are write-once where the service honours ``If-None-Match: *``."""

    def __init__(self, *, bucket: str, endpoint: str | None = None, region: str | None = None) -> None:
        self._bucket = bucket
        addressing = {"addressing_style": "path" if endpoint else "auto"}
        self._s3: Any = boto3.session.Session().client(
            "s3", endpoint_url=endpoint, region_name=region, config=Config(**CLIENT, s3=addressing)
        )

    @classmethod
    def from_url(cls, url: str) -> "S3Store":
        """Return the store for ``s3://bucket?endpoint=…&region=…``; both options may be left out.

        Raises:
            ValueError: the address holds something else.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        surplus = sorted(options.keys() - {"endpoint", "region"})
        if surplus or parts.path.strip("/") or parts.username or parts.port:
            raise ValueError(
                "STORAGE_URL takes s3://bucket?endpoint=https://…&region=… and nothing else "
                "(credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
            )
        return cls(bucket=parts.netloc, endpoint=options.get("endpoint"), region=options.get("region"))

    def put(
        self, *, key: str, chunks: Iterable[bytes] | bytes, content_type: str, max_bytes: int | None = None
    ) -> StoredObject:
        """Gather and measure the bytes (above 4 MiB on disk), then send them in one request of at most 5 GB."""
        checked_key(key)
        checked_content_type(key=key, content_type=content_type)
        with _spool() as spool:
            offered = measured(
                key=key,
                chunks=chunks,
                content_type=content_type,
                write=_Spooler(spool).write,
                max_bytes=max_bytes,
            )
            spool.seek(0)
            if self._send(offered, spool):
                return offered
        return same_or_taken(self.measure(key), offered)

    def put_together(self, objects: Sequence[NewObject], *, max_bytes: int | None = None) -> list[StoredObject]:
        """Send one after the other: others send theirs meanwhile."""
        return [
            self.put(key=new.key, chunks=new.data, content_type=new.content_type, max_bytes=max_bytes)
            for new in objects
        ]

    def open(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes of the range; the connection is free once they are exhausted or the iterator closed."""
        checked_range(start=start, end=end)
        reader = self._read(checked_key(key), start=start, end=end)
        next(reader)  # sends the request, so that a missing object shows here
        return reader

    def stat(self, key: str) -> ObjectStat | None:
        """Ask for the object's head."""
        try:
            with _service(f"look up {checked_key(key)}"):
                head = self._s3.head_object(Bucket=self._bucket, Key=key)
        except ObjectMissing:
            return None
        return ObjectStat(
            key=key,
            bytes=head["ContentLength"],
            content_type=content_type_of(key),
            stored_at=head["LastModified"],
        )

    def measure(self, key: str) -> StoredObject:
        """Fetch the object and return its size and digests."""
        return measured(key=key, chunks=self.open(key), content_type=content_type_of(key), write=len, max_bytes=None)

    def delete(self, key: str) -> None:
        """Delete the object, in a bucket that keeps versions all of them; the protocol answers alike for none."""
        with _service(f"delete {checked_key(key)}"):
            answer = self._s3.delete_object(Bucket=self._bucket, Key=key)
            if answer.get("DeleteMarker"):  # hidden only: whoever names the version still gets its bytes
                self._delete_versions(key)

    def upload_form(self, *, key: str, content_type: str, size: int, seconds: int) -> UploadForm:
        """Sign a POST policy; nothing is asked of the service. Unlike a presigned PUT it can bind the size."""
        checked_content_type(key=checked_key(key), content_type=content_type)
        with _service("sign a form"):
            signed = self._s3.generate_presigned_post(
                Bucket=self._bucket,
                Key=key,
                Fields={"Content-Type": content_type},
                Conditions=[{"Content-Type": content_type}, ["content-length-range", size, size]],
                ExpiresIn=seconds,
            )
        return UploadForm(url=signed["url"], fields=signed["fields"])

    def drop_leftovers(self) -> None:
        """Do nothing: an object is sent in one request, and the service keeps none that came in part."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List the bucket, a thousand keys a request."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=checked_prefix(prefix))
        with _service("list the bucket"):
            for page in pages:
                yield from (entry["Key"] for entry in page.get("Contents", []))

    def _delete_versions(self, key: str) -> None:
        for page in self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=key):
            for version in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if version["Key"] == key:
                    self._s3.delete_object(Bucket=self._bucket, Key=key, VersionId=version["VersionId"])

    def _send(self, offered: StoredObject, body: IO[bytes]) -> bool:
        """Send the object with its SHA-256, which the service checks; False where the key is taken."""
        try:
            with _service(f"store {offered.key}"):
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=offered.key,
                    Body=body,
                    ContentLength=offered.bytes,
                    ContentType=offered.content_type,
                    ChecksumSHA256=base64.b64encode(binascii.unhexlify(offered.sha256)).decode(),
                    IfNoneMatch="*",
                )
        except _KeyTaken:
            return False
        return True

    def _read(self, key: str, *, start: int, end: int | None) -> Iterator[bytes]:
        """Yield one empty piece once the service has answered, then the bytes of the range."""
        if start == end:
            self._require(key)
            yield b""
            return
        last = "" if end is None else end - 1
        with _service(f"read {key}"):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{last}")
            except ClientError as error:
                if _status(error) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    yield b""
                    return
                raise
            with closing(answer["Body"]) as body:
                yield b""
                yield from body.iter_chunks(READ_BYTES)

    def _require(self, key: str) -> None:
        if self.stat(key) is None:
            raise ObjectMissing(f"no object {key}")


class _KeyTaken(Exception):
    """The service has an object under this key already."""


class _Spooler:
    """Writes to a temporary file; a full disk there is a failure of the store, not of the source."""

    def __init__(self, spool: IO[bytes]) -> None:
        self._spool = spool

    def write(self, piece: bytes) -> None:
        with _service("gather an object on the local disk"):
            self._spool.write(piece)


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)


@contextmanager
def _service(doing: str) -> Iterator[None]:
    """Turn the answers of the S3 service into the outcomes of the interface, without the service's own text."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in {"404", "NoSuchKey", "NotFound"}:
            raise ObjectMissing(f"no object to {doing}") from error
        if _status(error) == HTTPStatus.PRECONDITION_FAILED:
            raise _KeyTaken from error
        raise StorageUnavailable(f"cannot {doing}: the S3 service answered {code or _status(error)}") from error
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable(f"cannot {doing}: {type(error).__name__}") from error


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
