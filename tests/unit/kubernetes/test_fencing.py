"""Until when an operator may write, and that a request is held back at the last instant."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kubernetes.client import ApiClient, Configuration, V1Lease, V1LeaseSpec

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.fencing import NotLeading, Term, boottime, fenced
from score_distill.executors.kubernetes.lease import Sight, Terms, may_take

METADATA = {"namespace": "team", "name": "run", "uid": "u", "resourceVersion": "1"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_term_lasts_from_the_sending_of_the_last_renewal_and_never_again_once_it_is_ended() -> None:
    clock = Clock()
    term = Term(15, clock)
    told = [term.holds()]
    term.renewed(sent=990.0)
    for now in (1000.0, 1004.9, 1005.0, 1035.0):
        clock.now = now
        told.append(term.holds())
    term.renewed(sent=1034.0)
    told.append(term.holds())
    term.end()
    told.append(term.holds())
    term.renewed(sent=1035.0)
    told.append(term.holds())
    assert told == [False, True, True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("holder", "since", "free"),
    [
        (None, 1000.0, True),
        ("", 1000.0, True),
        ("me", 1000.0, True),
        ("other", 1000.0, False),
        ("other", 980.0, False),
        ("other", 979.9, True),
    ],
)
def test_a_lease_is_free_when_nobody_has_it_or_it_has_not_changed_for_its_duration(
    holder: str | None, since: float, free: bool
) -> None:
    lease = V1Lease(spec=V1LeaseSpec(holder_identity=holder, lease_duration_seconds=20))
    assert may_take(lease, "me", Sight("7", since), now=1000.0) is free


def test_a_holder_writes_no_more_before_another_may_begin() -> None:
    terms = Terms()
    assert terms.renew + terms.retry < terms.duration


def test_the_clock_goes_on_as_the_machine_does() -> None:
    assert boottime() == pytest.approx(float(Path("/proc/uptime").read_text().split()[0]), abs=5)


class Server(http.server.ThreadingHTTPServer):
    """It answers everything, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(self.command)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(b"{}")

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def test_no_write_of_any_kind_leaves_after_the_term_and_reading_goes_on(server: Server) -> None:
    clock = Clock()
    term = Term(15, clock)
    host = f"http://127.0.0.1:{server.server_port}"
    cluster = Cluster(fenced(ApiClient(Configuration(host=host)), term.demand))
    writes = {
        "PATCH": lambda: cluster.write_status(METADATA, {}),
        "DELETE": lambda: cluster.delete("Job", METADATA),
        "POST": lambda: cluster.event({"metadata": METADATA}, "Normal", "Reason", "message"),
    }
    for write in writes.values():
        with pytest.raises(NotLeading):
            write()
    term.renewed(clock.now)
    for write in writes.values():
        write()
    assert server.asked == [*writes]
    clock.now += 15
    for write in writes.values():
        with pytest.raises(NotLeading):
            write()
    assert cluster.get("ConfigMap", METADATA) == {}
    assert {*server.asked[3:]} == {"GET"}


def test_a_write_that_is_overtaken_on_its_way_is_not_sent_to_its_end(server: Server) -> None:
    times = iter([1000.0, 1030.0])
    term = Term(15, lambda: next(times))
    term.renewed(1000.0)
    cluster = Cluster(fenced(ApiClient(Configuration(host=f"http://127.0.0.1:{server.server_port}")), term.demand))
    with pytest.raises(NotLeading):
        cluster.write_status(METADATA, {})
    assert next(times, None) is None
