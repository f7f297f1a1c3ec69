"""S3 objects that are written on a condition, as `pyarrow.fs` can't: by botocore, where it is
installed."""

from __future__ import annotations

import contextlib
import logging
import os
import urllib.parse
import uuid
from collections.abc import Callable
from typing import Any

from momo_platform.stages.storage.objects import ObjectFiles
from momo_platform.stages.storage.patience import patiently

logger = logging.getLogger(__name__)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_ABSENT, _UNMET = (404,), (404, 409, 412)


class ConditionalObjects:
    """Objects by bucket and key ('bucket/folder/name'). Raises OSError, as `pyarrow.fs` words it,
    where the store fails or refuses; waits for one that is away, where it is `patient`."""

    def __init__(self, client: Any, *, patient: bool = True) -> None:
        self._client, self._patient = client, patient

    def get(self, path: str) -> tuple[bytes, str] | None:
        """(content, its tag) of an object, or None."""

        def read() -> tuple[bytes, str]:
            found = self._client.get_object(**_named(path))
            return found["Body"].read(), found["ETag"]

        found = self._answer(read, _ABSENT)
        return None if found in _ABSENT else found

    def put(self, path: str, content: str, tag: str | None) -> str | None:
        """Write an object that must not be there yet, or must have this `tag`; its new tag, None
        where it is not so. After a lost answer that may be our own writing: look."""
        when = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        what = {**_named(path), "Body": content.encode(), **when}
        found = self._answer(lambda: self._client.put_object(**what)["ETag"], _UNMET)
        return None if found in _UNMET else found

    def delete(self, path: str, tag: str) -> None:
        """Delete an object that has this tag; on stores without conditional deletes whatever its
        tag is."""
        name, client = _named(path), self._client
        refused = self._answer(lambda: client.delete_object(**name, IfMatch=tag), (*_UNMET, 501))
        if refused == 501:
            self._answer(lambda: client.delete_object(**name), _ABSENT)

    def _answer(self, call: Callable[[], Any], refusals: tuple[int, ...]) -> Any:
        """What the store answers; of a refusal with one of these statuses, the status."""
        from botocore import exceptions as told

        def ask() -> Any:
            try:
                return call()
            except told.ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status in refusals:
                    return status
                # What a store never does is not to be waited for.
                code = "not implemented" if status == 501 else f"HTTP status {status}"
                raise OSError(f"{code}: {error}") from error
            except (told.BotoCoreError, RuntimeError) as error:  # the latter: expired credentials
                away = isinstance(error, told.HTTPClientError | told.ConnectionError)
                raise OSError(f"{'NETWORK_CONNECTION: ' if away else ''}{error}") from error

        return patiently(ask) if self._patient else ask()


def _named(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}


def conditional_objects(files: ObjectFiles) -> ConditionalObjects | None:
    """Of the store that `files` are on. None where this installation has no botocore, or the store
    does not keep to the conditions: that is tried, with an object that goes again."""
    if files.fs.type_name != "s3":
        return None
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return None
    try:
        client = _client(files)
        # A store that is away was waited for by whoever made the storage.
        if _keeps_to_conditions(ConditionalObjects(client, patient=False), files):
            return ConditionalObjects(client)
    except (BotoCoreError, OSError, ValueError) as error:  # the bakery does without
        logger.warning("%s: no conditional writes (%s)", files.uri, error)
    return None


def _client(files: ObjectFiles) -> Any:
    from botocore.config import Config
    from botocore.session import get_session

    options = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(files.uri).query))
    named = (options.get("endpoint_override"), *(os.environ.get(name) for name in _ENDPOINTS))
    endpoint = next(filter(None, named), None)
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    # A heartbeat must not take as long as a lease lives; `patiently` asks again.
    retries = {"max_attempts": 2}
    style = {"addressing_style": "path" if endpoint else "auto"}
    return get_session().create_client(
        "s3",
        region_name=getattr(files.fs, "region", None) or None,
        endpoint_url=endpoint,
        config=Config(s3=style, connect_timeout=5, read_timeout=5, retries=retries),
    )


def _keeps_to_conditions(objects: ConditionalObjects, files: ObjectFiles) -> bool:
    name = f".conditional-{uuid.uuid4().hex}"
    probe = files.place(name)
    try:
        first = objects.put(probe, "1", None)
        if first is None or objects.put(probe, "2", None) is not None:
            return False
        second = objects.put(probe, "3", first)
        if second is None or objects.put(probe, "4", first) is not None:
            return False
        objects.delete(probe, second)
        return objects.get(probe) is None
    finally:
        with contextlib.suppress(OSError):
            files.remove(name)
