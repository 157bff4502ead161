import threading

import pytest

from score_distill.agent.answers import check
from score_distill.agent.mathematics import Verifier


@pytest.fixture(scope="module")
def verifier():
    one = Verifier(seconds=1.0)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        (r"\frac{1}{2}", "0.5", True),
        ("1+x", "x+1", True),
        ("(0,1]", "[0,1)", False),
        ("twelve", "12", False),
        ("Paris\n]]}{", "12", False),
        ("1", "$$", None),
    ],
)
def test_expressions(verifier, answer, reference, equal):
    assert verifier.equal(answer, reference) is equal


@pytest.mark.parametrize("tower", ["9^{9^{9^9}}", "1000000000!"])
def test_an_expression_without_end_is_not_decided_and_the_next_one_is(verifier, tower):
    assert verifier.equal(tower, "72") is None
    assert verifier.equal("71+1", "72") is True


def test_any_thread_may_ask(verifier):
    found = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(verifier.equal(f"{n}+1", f"{n + 1}"))) for n in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [True] * 4


def test_a_child_that_died_is_replaced(verifier):
    assert verifier.equal("1+1", "2") is True
    verifier._child.kill()
    verifier._child.wait()
    assert verifier.equal("1+1", "2") is None
    assert verifier.equal("1+1", "2") is True


def test_what_math_verify_cannot_read_is_left_to_a_judge():
    verdict = check("math", "x", "$$ $$")
    assert (verdict.correct, verdict.by) == (None, "none")
