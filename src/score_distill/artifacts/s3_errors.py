"""What boto3 reports, in the store's own terms. Pure.

A cause is never chained: the request it quotes may hold what must not be seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import RetriesExceededError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from score_distill.artifacts.store import StoreDenied, StoreError, StoreFull, StoreMissing, StoreUnreachable

_NO_KEYS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_FULL = ("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507")


@contextmanager
def store_errors(what: str, attempts: int) -> Iterator[None]:
    """Raise StoreError about `what` for anything that boto3 raises after that many tries."""
    try:
        yield
    except ClientError as error:
        raise _explained(what, attempts, error) from None
    except _NO_KEYS as error:
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise StoreDenied(f"{what}: no credentials ({type(error).__name__}); {hint}") from None
    except ParamValidationError:
        raise StoreError(f"{what}: not a bucket name; it has letters, digits, '.', '-' and no more") from None
    except (BotoCoreError, RetriesExceededError) as error:
        raise StoreUnreachable(f"{what}: no answer, tried {attempts} times ({type(error).__name__})") from None


def code_of(error: BaseException) -> str:
    """The server's word for what is wrong; the HTTP status where an answer has no body; "" for another error."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _explained(what: str, attempts: int, error: ClientError) -> StoreError:
    code, status = code_of(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    about = f"{what}: {code}"
    if code == "NoSuchBucket":
        return StoreError(f"{about}; create the bucket or correct its name")
    if code in _FULL:
        return StoreFull(f"{about}; make room and start again, nothing stored is lost")
    if status in (401, 403):
        return StoreDenied(f"{about}; check the access key, its secret and what it may do in this bucket")
    if status == 404:
        return StoreMissing(f"{about}; no such object")
    if status >= 500 or code == "SlowDown":
        return StoreUnreachable(f"{about}, tried {attempts} times; the server answers with errors")
    return StoreError(f"{about} (HTTP {status})")
