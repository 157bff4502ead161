"""What boto3 reports, in the store's own terms. Pure.

A cause is never chained: the request it quotes may hold what must not be seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from boto3.exceptions import RetriesExceededError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from score_distill.artifacts.store import (
    CONDITIONAL,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnfit,
    StoreUnreachable,
)

_NO_KEYS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    SSOError,
    ProfileNotFound,
)


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
        raise StoreUnfit(f"{what}: not a bucket name; it has letters, digits, '.', '-' and no more") from None
    except ResponseParserError:
        raise StoreUnreachable(f"{what}: what answers there does not speak S3; check AWS_ENDPOINT_URL") from None
    except (BotoCoreError, RetriesExceededError) as error:
        raise StoreUnreachable(f"{what}: no answer, tried {attempts} times ({type(error).__name__})") from None


def code_of(error: BaseException) -> str:
    """The server's word for what is wrong; the HTTP status where an answer has no body; "" for another error."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def explained(what: str, code: str, status: int, attempts: int, region: str = "") -> StoreError:
    """The error for a code of S3, or where that says nothing, for the HTTP status; ``region`` is the bucket's."""
    about = f"{what}: {code}"
    found = next((one for one in _KINDS if code in one.codes or any(part in code for part in one.parts)), None)
    if found is not None:
        place = f" ({region})" if region and found is _REGION else ""
        tried = f", tried {attempts} times" if found.kind is StoreUnreachable else ""
        return found.kind(f"{about}{tried}; {found.hint}{place}")
    if status in (401, 403):
        return StoreDenied(f"{about}; check the access key, its secret and what it may do in this bucket")
    if status == 404:
        return StoreMissing(f"{about}; no such object")
    if status in (408, 429) or status >= 500:
        return StoreUnreachable(f"{about}, tried {attempts} times; the server answers with errors")
    return StoreError(f"{about} (HTTP {status})")


def _explained(what: str, attempts: int, error: ClientError) -> StoreError:
    told = error.response.get("ResponseMetadata", {})
    region = error.response.get("Error", {}).get("Region") or told.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    return explained(what, code_of(error), told.get("HTTPStatusCode", 0), attempts, str(region))


@dataclass(frozen=True)
class _Kind:
    """Codes, whole or by a part of them, that mean the same."""

    kind: type[StoreError]
    hint: str
    codes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


_REGION = _Kind(
    StoreUnfit,
    "the bucket is in another region; set AWS_REGION to it, or AWS_ENDPOINT_URL to its server",
    ("AuthorizationHeaderMalformed", "301", "307"),
    ("PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraint", "InvalidRegion"),
)
_KINDS = (
    _REGION,
    _Kind(
        StoreUnreachable,
        "the server is too busy, or answers with errors",
        ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "TooManyRequests"),
        ("Throttl", "ServerNotInitialized", "RequestLimitExceeded"),
    ),
    _Kind(
        StoreFull,
        "make room or raise the quota and start again, nothing stored is lost",
        ("507",),
        ("Quota", "StorageFull", "InsufficientStorage"),
    ),
    _Kind(StoreUnfit, "create the bucket or correct its name", ("NoSuchBucket", "InvalidBucketName")),
    _Kind(
        StoreUnfit,
        f"the server cannot do that; the store needs one that takes {CONDITIONAL}",
        ("NotImplemented", "MethodNotAllowed", "501", "405"),
    ),
    _Kind(
        StoreDenied,
        "the session has expired; renew the key, its secret and AWS_SESSION_TOKEN together",
        ("TokenRefreshRequired", "RequestExpired", "InvalidToken"),
        ("ExpiredToken",),
    ),
    _Kind(
        StoreDenied,
        "the clock of this machine differs from the server's by minutes; set both right (NTP)",
        ("RequestTimeTooSkewed",),
    ),
    _Kind(StoreDenied, "the server knows no such access key; check AWS_ACCESS_KEY_ID", ("InvalidAccessKeyId",)),
    _Kind(
        StoreDenied,
        "the secret does not fit; check the access key and AWS_SECRET_ACCESS_KEY",
        ("SignatureDoesNotMatch",),
    ),
    _Kind(
        StoreDenied,
        "the key that the bucket is encrypted with cannot be used; check that it is enabled and may be used",
        (),
        ("KMS.", "Kms"),
    ),
    _Kind(
        StoreDenied,
        "check the access key, and that it may get, put, list and delete in this bucket",
        ("AccessDenied", "AllAccessDisabled", "AccountProblem"),
    ),
)
