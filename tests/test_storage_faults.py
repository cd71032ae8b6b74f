"""Which errors of S3 pass by themselves; those of a real server are in `tests/faults`."""

import logging
from typing import Any

import pytest
from aiohttp import ClientPayloadError
from botocore import exceptions
from s3fs.errors import translate_boto_error

from c3l_ray import storage_faults
from c3l_ray.storage_faults import RetryNotice, is_of_s3, is_transient


def make_answer(code: str, status: int) -> exceptions.ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return exceptions.ClientError(answer, "PutObject")


URL = {"endpoint_url": "http://s3"}


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (make_answer("SlowDown", 503), True),
        (make_answer("InternalError", 500), True),
        (make_answer("504", 504), True),
        (make_answer("TooManyRequests", 429), True),
        (make_answer("RequestTimeout", 400), True),
        (make_answer("ConditionalRequestConflict", 409), True),
        (make_answer("PreconditionFailed", 412), False),
        (make_answer("NotImplemented", 501), False),
        (make_answer("AccessDenied", 403), False),
        (make_answer("NoSuchBucket", 404), False),
        (exceptions.EndpointConnectionError(**URL), True),
        (exceptions.ConnectTimeoutError(**URL), True),
        (exceptions.ConnectionClosedError(**URL), True),
        (exceptions.SSLError(**URL, error="a certificate of another host"), False),
        (exceptions.NoCredentialsError(), False),
        (ValueError("of a file"), False),
        (OSError(28, "No space left on device"), False),
    ],
    ids=str,
)
def test_an_error_passes_by_itself_or_does_not(error: Exception, passes: bool) -> None:
    assert is_transient(error) == passes
    assert is_transient(translate_boto_error(error)) == passes  # as s3fs raises it


def test_what_s3_libraries_raise_is_told_from_what_readers_raise() -> None:
    for error in (ClientPayloadError(), exceptions.NoCredentialsError()):
        assert is_of_s3(error)
    for error in (ValueError(), UnicodeDecodeError("utf-8", b"", 0, 1, "bad")):
        assert not is_of_s3(error)


def test_a_request_is_sent_again_and_what_it_was_given_up_for_is_not(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = RetryNotice()
    caplog.set_level(logging.WARNING)
    away = exceptions.EndpointConnectionError(endpoint_url="http://me:planted@s3/b")
    assert decide(away) and not decide(away)  # the second time as a whole read's error
    assert decide(make_answer("SlowDown", 503)) and not decide(make_answer("AccessDenied", 403))
    (said,) = caplog.messages  # at most twice a minute
    assert said == (
        "S3 does not answer as it should, and is asked again: Could not connect to the endpoint "
        'URL: "http://s3/b"'
    )
    monkeypatch.setattr(storage_faults, "_SAY_EVERY_S", 0.0)
    decide(make_answer("SlowDown", 503))
    assert len(caplog.messages) == 2
