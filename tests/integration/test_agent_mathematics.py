import signal
import threading

import pytest

from score_distill.agent.answers import check
from score_distill.agent.leaks import leaks_answer
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
        ("twelve", "12", True),
        ("Paris\n]]}{", "12", False),
        (r"\sqrt{3}/2", r"\frac{\sqrt{3}}{2}", True),
        (r"\(\sqrt{3}/2\)", r"\boxed{\frac{\sqrt{3}}{2}}", True),
        (r"\text{Paris}", "12", False),
        ("41=42", "42", False),
        ("x=41=42", "42", False),
        ("6*7=42", "42", True),
        ("x=42", "42", True),
        ("f(2)=42", "42", True),
        ("x=y=42", "42", True),
    ],
)
def test_expressions(verifier, answer, reference, equal):
    assert verifier.equal(answer, reference) is equal


@pytest.mark.parametrize(
    "hostile",
    ["9^{9^{9^9}}", "99999999!", "1000000000!", "(" * 900, "2^{2^{2^{2^{2^2}}}}", "9" * 500 + "^" + "9" * 400],
)
def test_an_answer_without_end_is_wrong_and_the_next_one_is_read(verifier, hostile):
    assert verifier.equal(hostile, "72") is False
    assert verifier.equal("71+1", "72") is True


@pytest.mark.parametrize("hostile", ["9^{9^{9^9}}", "99999999!"])
def test_a_reference_without_end_is_not_decided(verifier, hostile):
    assert verifier.equal("72", hostile) is None
    assert verifier.equal("71+1", "72") is True


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_that_is_ended_from_outside_while_it_compares_is_no_verdict(signal_number):
    one = Verifier(seconds=30.0)
    assert one.equal("71+1", "72") is True
    found = []
    asking = threading.Thread(target=lambda: found.append(one.equal("1000000000!", "72")))
    asking.start()
    one._child.send_signal(signal_number)
    asking.join()
    assert found == [None]
    one.close()


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


@pytest.mark.parametrize(
    ("reference", "text", "seen", "leak"),
    [
        ("x+1", "final_answer_print('1 + x')", [], True),
        (r"\frac{\sqrt{3}}{2}", r"it is $\sqrt{3}/2$", [], True),
        ("x^2+1", "y = 1 + x**2", [], True),
        ("x^2+1", "y = x**2 + 2", [], False),
        ("x+1", "final_answer_print('1 + x')", ["let $1+x$ be given"], False),
    ],
)
def test_a_formula_is_given_away_in_any_form(reference, text, seen, leak):
    assert leaks_answer(reference, text, seen) is leak


def test_what_math_verify_cannot_read_is_left_to_a_judge():
    verdict = check("math", "x", "$$ $$")
    assert (verdict.correct, verdict.by) == (None, "none")
