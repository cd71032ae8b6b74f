"""What S3 answers where something is wrong: what passes by itself, and what a user has to mend."""

import logging
import re
import threading
import time
from urllib.parse import urlsplit

import botocore.exceptions

TRANSIENT_STATUSES = (429, 500, 502, 503, 504, 509)
TRANSIENT_CODES = (
    *("RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestThrottled"),
    *("InternalError", "ServiceUnavailable", "ConditionalRequestConflict", "OperationAborted"),
)
"""Codes of errors that the same request may not meet again, whatever their status."""

_ABOUT_CREDENTIALS = (
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("TokenRefreshRequired", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed"),
)
_NO_ANSWER = (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)
_LIBRARIES_OF_S3 = ("aiohttp", "aiobotocore", "botocore", "urllib3")
_SAY_EVERY_S = 30.0

log = logging.getLogger(__name__)


class RetryNotice:
    """Decides which errors of S3 are tried again, and says so, at most twice a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_said_s = float("-inf")

    def __call__(self, error: Exception) -> bool:
        """Whether the request that met an error is sent again.

        An error is seen twice where a read as a whole is repeated after its request was: what its
        request was given up for is not tried again.
        """
        if not is_transient(error) or getattr(error, "_was_retried", False):
            return False
        error._was_retried = True  # type: ignore[attr-defined]
        with self._lock:
            is_due = time.monotonic() - self._last_said_s >= _SAY_EVERY_S
            if is_due:
                self._last_said_s = time.monotonic()
        if is_due:
            log.warning(
                "S3 does not answer as it should, and is asked again: %s", hide_passwords(error)
            )
        return True


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: throttling, a 5xx, a connection that is lost."""
    answer = _find_answer(error)
    if answer is not None:
        return answer["code"] in TRANSIENT_CODES or answer["status"] in TRANSIENT_STATUSES
    return isinstance(error, _NO_ANSWER) and not isinstance(error, botocore.exceptions.SSLError)


def is_of_s3(error: BaseException) -> bool:
    """Whether an error comes from the libraries that speak to S3, which have kinds of their own."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES_OF_S3


def explain(error: BaseException, bucket: str, endpoint: str | None) -> str:
    """What is wrong with a place on S3, and what to do, as the rest of a sentence.

    Args:
        error: of the storage.
        bucket: of the place.
        endpoint: of the store; None where it is not known.
    """
    store = "S3" if endpoint is None else f"the S3 store at {strip_password(endpoint)}"
    answer = _find_answer(error)
    code = answer["code"] if answer else type(error).__name__
    if is_transient(error):
        return (
            f"{store} does not answer as it should ({hide_passwords(error)}); correct "
            "AWS_ENDPOINT_URL, or run the same command again once it does"
        )
    if isinstance(error, botocore.exceptions.NoCredentialsError):
        return (
            f"there are no credentials for {store}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ", on every node of a cluster"
        )
    if code in _ABOUT_CREDENTIALS:
        return (
            f"{store} refuses the credentials ({code}); correct AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION, on every node of a cluster"
        )
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return f"{store} has no bucket {bucket}; create it, or correct its name or AWS_ENDPOINT_URL"
    if code in ("AccessDenied", "403") or isinstance(error, PermissionError):
        return (
            f"{store} refuses it to these credentials ({code}); correct AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or allow them to list and read, and of an output to write and "
            f"delete, in bucket {bucket}"
        )
    return f"{store} refuses it: {hide_passwords(error)}"


def strip_password(address: str) -> str:
    """An address without the name and password that it may hold."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def hide_passwords(error: BaseException) -> str:
    """What an error says, without the names and passwords in its addresses."""
    return re.sub(r"(?<=://)[^/@\s\"']+@", "", str(error) or type(error).__name__)


def _find_answer(error: BaseException) -> dict[str, object] | None:
    """Code and status of the answer that made an error, or that which its cause had."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return {
                "code": str(response.get("Error", {}).get("Code", "")),
                "status": response.get("ResponseMetadata", {}).get("HTTPStatusCode"),
            }
        seen = seen.__cause__
    return None
