import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ProfileNotFound

from score_distill.artifacts.s3_errors import store_errors
from score_distill.artifacts.store import StoreDenied, StoreError, StoreFull, StoreMissing, StoreUnfit, StoreUnreachable


def answered(status: int, code: str) -> ClientError:
    told = {"Error": {"Code": code, "Message": "quotes HUSH"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(told, "PutObject")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (answered(403, "AccessDenied"), StoreDenied),
        (answered(403, "403"), StoreDenied),
        (answered(401, "Unauthorized"), StoreDenied),
        (NoCredentialsError(), StoreDenied),
        (answered(404, "NoSuchKey"), StoreMissing),
        (answered(404, "NoSuchBucket"), StoreUnfit),
        (answered(400, "ExpiredToken"), StoreDenied),
        (answered(403, "ExpiredTokenException"), StoreDenied),
        (answered(400, "InvalidToken"), StoreDenied),
        (answered(403, "RequestTimeTooSkewed"), StoreDenied),
        (answered(403, "InvalidAccessKeyId"), StoreDenied),
        (answered(403, "SignatureDoesNotMatch"), StoreDenied),
        (answered(400, "KMS.DisabledException"), StoreDenied),
        (answered(400, "KMS.ThrottlingException"), StoreUnreachable),
        (answered(301, "PermanentRedirect"), StoreUnfit),
        (answered(301, "301"), StoreUnfit),
        (answered(400, "AuthorizationHeaderMalformed"), StoreUnfit),
        (answered(501, "NotImplemented"), StoreUnfit),
        (answered(400, "RequestTimeout"), StoreUnreachable),
        (answered(429, "TooManyRequestsException"), StoreUnreachable),
        (answered(409, "OperationAborted"), StoreUnreachable),
        (answered(507, "XMinioStorageFull"), StoreFull),
        (answered(400, "XMinioAdminBucketQuotaExceeded"), StoreFull),
        (ProfileNotFound(profile="HUSH"), StoreDenied),
        (answered(412, "PreconditionFailed"), StoreError),
        (answered(500, "InternalError"), StoreUnreachable),
        (answered(503, "SlowDown"), StoreUnreachable),
        (EndpointConnectionError(endpoint_url="http://user:HUSH@host"), StoreUnreachable),
        (answered(507, "InsufficientStorage"), StoreFull),
        (answered(403, "QuotaExceeded"), StoreFull),
    ],
)
def test_each_failure_has_its_kind_and_quotes_nothing(raised, expected):
    with pytest.raises(StoreError, match="s3://b/p: key: ") as told, store_errors("s3://b/p: key", 5):
        raise raised
    assert type(told.value) is expected
    assert "HUSH" not in str(told.value)
    assert told.value.__suppress_context__


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError), store_errors("s3://b/p: key", 5):
        raise KeyError
