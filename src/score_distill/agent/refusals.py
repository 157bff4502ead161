"""How an endpoint may fail, and which of these an error reply is. Pure.

Endpoints put the same few facts for programs (codes, the parameter that it is about, when to come back) in different
places; the sentence for people is kept to be shown.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from score_distill.errors import BadInput, Infrastructure

QUOTA = frozenset(
    {"insufficientquota", "quotaexceeded", "exceededcurrentquotaerror", "paymentrequired", "accountdeactivated"}
    | {"insufficientbalance", "insufficientcredits", "creditbalancetoolow", "insufficientfunds", "arrearage"}
    | {"budgetexceeded", "servicequotaexceededexception"}
)
CONTEXT = frozenset(
    {"contextlengthexceeded", "exceedcontextsizeerror", "contextwindowexceeded", "tokenslimitreached"}
    | {"modelmaxprompttokensexceeded"}
)
CONTENT = frozenset(
    {"contentfilter", "contentpolicyviolation", "responsibleaipolicyviolation", "datainspectionfailed"}
    | {"moderationblocked", "contentmoderation", "invalidprompt", "promptblocked", "safety", "flagged"}
)
NO_MODEL = frozenset({"modelnotfound", "invalidmodel", "deploymentnotfound"})
UNSUPPORTED = frozenset({"unsupportedparameter", "unsupportedvalue", "unknownparameter", "extraforbidden"})
BUSY = frozenset({408, 425, 429})
NEVER = frozenset({501, 505})  # errors of a server that no second try mends


LONGEST_PAUSE = 300.0  # a server that asks for more is not waited for
TOO_LONG = re.compile(  # of servers whose context errors have no code
    r"context.length|maximum model length|prompt is too long|Input is too long|ContextWindowExceeded"
    r"|`inputs` tokens \+ `max_new_tokens` must be"
)


@dataclass(frozen=True)
class Refusal:
    """``codes`` are lower-case letters alone, so that insufficient_quota is InsufficientQuota.

    ``status`` is the HTTP status that the body itself gives: some put an error in a reply of status 200.
    """

    codes: frozenset[str] = frozenset()
    param: str = ""
    status: int = 0
    retry_after: float = 0.0
    text: str = ""

    @property
    def quota(self) -> bool:
        return bool(self.codes & QUOTA) or any(code.startswith("billing") for code in self.codes)

    @property
    def of_content(self) -> bool:
        return bool(self.codes & CONTENT)


class EndpointRefused(BadInput):
    """The server will not answer such a request: wrong key, unknown model, malformed request. Not worth a retry."""


class RequestRefused(EndpointRefused):
    """The server will not answer this one request, as a content filter does; it has answered, or may answer, others."""

    def __init__(self, message: str, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class QuotaSpent(EndpointRefused):
    """What was paid for at the endpoint is used up: no wait mends that, but more quota or money does."""


class EndpointUnavailable(Infrastructure):
    """The server did not give a usable answer within the bound of retries."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ContextOverflow(Exception):
    """The conversation and its next turn do not fit the model's context."""


def read_refusal(content: bytes) -> Refusal:
    """The error of a reply; of what is no such object the text alone."""
    text = content.decode("utf-8", "replace")
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        return Refusal(text=text)
    if isinstance(reply, list) and reply:
        reply = reply[0]
    if not isinstance(reply, dict):
        return Refusal(text=text)
    error = reply["error"] if isinstance(reply.get("error"), dict) else reply
    codes = frozenset(code for part in _parts(error) for code in _codes(part))
    status = error.get("code")
    return Refusal(
        codes,
        _param(error),
        status if isinstance(status, int) and 400 <= status <= 599 else 0,
        max((_delay(part) for part in _parts(error)), default=0.0),
        text,
    )


def error_of(what: str, status: int, refusal: Refusal, retry_after: float, said: str) -> Exception:
    """The error for a status that is not 200."""
    codes = refusal.codes
    if refusal.quota or status == 402 or (status == 429 and retry_after > LONGEST_PAUSE):
        return QuotaSpent(f"{what}: the endpoint's quota is spent, and asking again does not help: {said}")
    if refusal.of_content and 400 <= status < 500:
        return RequestRefused(f"{what}: {said}", refusal)
    if status in BUSY or (status >= 500 and status not in NEVER):
        return EndpointUnavailable(f"{what}: {said}", retry_after)
    if status in (401, 403):
        told = f" ({', '.join(sorted(codes))})" if codes else ""
        return EndpointRefused(f"{what}{told}: the key was refused; check the endpoint's apiKeySecret and headers")
    if status in (400, 413, 422) and (codes & CONTEXT or (status != 413 and TOO_LONG.search(said))):
        return ContextOverflow(said)
    if refusal.param == "model" or codes & NO_MODEL:
        return EndpointRefused(f"{what}: {said}")
    if status in (400, 422):
        return RequestRefused(f"{what}: {said}", refusal)
    if status == 413:
        return RequestRefused(f"{what}: {said}")
    return EndpointRefused(f"{what}: {said}")


def seconds_until(retry_after: str, now: datetime) -> float:
    """Seconds of a Retry-After header, which is a number of them or a date; 0 for anything else."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", retry_after):
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _parts(error: Mapping[str, Any], depth: int = 3) -> Iterator[Mapping[str, Any]]:
    """The error and what is said in it in more detail."""
    yield error
    for name in ("message", "detail", "details", "innererror", "metadata", "fieldViolations") if depth else ():
        more = error.get(name)
        for part in more if isinstance(more, list) else [more]:
            if isinstance(part, dict):
                yield from _parts(part, depth - 1)


def _codes(part: Mapping[str, Any]) -> Iterator[str]:
    for name in ("code", "type", "status", "reason", "error_type", "__type"):
        if isinstance(value := part.get(name), str):
            yield re.sub(r"[^a-z]", "", value.rpartition("#")[2].lower())
    if "flagged_input" in part:
        yield "flagged"


def _param(error: Mapping[str, Any]) -> str:
    """The parameter by OpenAI's ``param``, FastAPI's ``loc`` or Google's ``fieldViolations``."""
    for part in _parts(error):
        if isinstance(param := part.get("param"), str) and param:
            return param
        loc = part.get("loc")
        if isinstance(loc, list) and len(loc) > 1 and loc[0] == "body":
            return ".".join(map(str, loc[1:]))
        if isinstance(field := part.get("field"), str) and field:
            return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", field.rpartition(".")[2])
    return ""


def _delay(part: Mapping[str, Any]) -> float:
    """Google's RetryInfo: "34.5s"."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)s", str(part.get("retryDelay", "")))
    return float(found[1]) if found else 0.0
