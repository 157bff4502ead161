"""What a gateway counts, for Prometheus: requests and tokens, by route. Every label has few values."""

import re

from prometheus_client import CollectorRegistry, Counter, generate_latest

ROUTES = ("completions", "chat/completions")
TAIL = 8192  # bytes of an answer's end that are looked at: usage stands after what was generated
_COUNTS = {kind: re.compile(rb'"%s_tokens":\s*(\d+)' % kind.encode()) for kind in ("prompt", "completion")}


class Meter:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "score_gateway_requests", "Requests relayed or refused.", ["route", "status"], registry=self._registry
        )
        self._tokens = Counter(
            "score_gateway_tokens", "Tokens that answers tell of.", ["route", "kind"], registry=self._registry
        )

    def answered(self, route: str, status: int) -> None:
        self._requests.labels(_known(route), f"{status // 100}xx").inc()

    def spent(self, route: str, tail: bytes) -> None:
        """``tail`` is the end of an answer; quotes inside generated text are escaped, so they match nothing here."""
        for kind, pattern in _COUNTS.items():
            if found := pattern.findall(tail):
                self._tokens.labels(_known(route), kind).inc(int(found[-1]))

    def text(self) -> str:
        return generate_latest(self._registry).decode()


def _known(route: str) -> str:
    return route if route in ROUTES else "other"
