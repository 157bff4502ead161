"""Whether a text gives an answer away: numbers by value, phrases whole, letters and common words only where said."""

import time

import pytest

from score_distill.agent.leaks import leaks_answer

LONG = "The question says that Mia has 40 cups and Ben gives her 2 more."
CHOICE = "Which city? (A) Paris (B) London. Option A: Paris. Choose one."


@pytest.mark.parametrize(
    ("reference", "text", "seen"),
    [
        ("42", "so it is 42", [LONG]),
        ("42", "so it is 42.", []),
        ("42", "final_answer_print(42)", []),
        ("42", "x = 42.0", []),
        ("42", "x=42", []),
        ("42.5", "x = 42.50", []),
        ("42", "42", ["Ida has 142 coins"]),
        ("42", "x = ４２", []),
        ("42 dollars", "that makes 42", []),
        ("2", "print(40 * 2)", ["Mia has 40 cups"]),
        ("-5", "x = -5", ["it is 5"]),
        ("1,234", "x = 1234", []),
        ("1234", "x = 1,234", []),
        ("1234", "x = 1_234", []),
        (r"\boxed{7}", "it must be 7", []),
        ("0.5", "the share is 1/2", []),
        ("1/2", "the share is 0.5", []),
        ("1/2", "the share is .50", []),
        ("1/2", r"the share is \frac{1}{2}", []),
        ("0.5", r"the share is \dfrac12", []),
        (r"\frac{1}{2}", "x = 0.5", []),
        ("½", "x = 0.5", []),
        ("0.5", "50 percent of them", []),
        ("0.5", "50% of them", []),
        ("50%", "x = 0.5", []),
        ("50", "50 percent", []),
        ("50 percent", "half, 50 %", []),
        ("3/4", "Fraction(3 / 4)", []),
        ("3/4", "Fraction(3, 4)", []),
        ("0.75", "print(3 / 4)", ["there are 3"]),
        ("18", "there are eighteen", []),
        ("eighteen", "x = 18", []),
        ("21", "twenty-one of them", []),
        ("2005", "two thousand and five", []),
        ("2", "the answer is two.", []),
        ("1000", "x = 10**3", []),
        ("1000", "x = 10^{3}", []),
        ("1000", "x = 10³", []),
        ("1000", "x = 1e3", []),
        ("2000000", "2 million people", []),
        ("Paris, France", "print('Paris, France')", []),
        ("The Lord of the Rings", "search('lord of the rings')", []),
        ("巴黎", "我想是巴黎吧", []),
        ("A", "The answer is A.", [CHOICE]),
        ("A", "so the correct answer is (A)", [CHOICE]),
        ("(A)", "final_answer_print('A')", [CHOICE]),
        ("A", "x = 'A'", [CHOICE]),
        ("b", "choose option B", [CHOICE]),
        ("no", "The answer is no.", []),
        ("No", "final_answer_print('no')", []),
        ("yes", "answer: Yes, because it rains", []),
        ("True", "final_answer_print(True)", []),
    ],
)
def test_an_answer_that_is_given_away(reference, text, seen):
    assert leaks_answer(reference, text, seen) is True


@pytest.mark.parametrize(
    ("reference", "text", "seen"),
    [
        ("42", "x = 042.50", []),
        ("42", "3.42 and 421 and 142 and x42", []),
        ("42", "42", ["Ida has 42 coins"]),
        ("42", "forty-two", ["Ida has 42 coins"]),
        ("42", "print(40 + 2)", [LONG]),
        ("2", "print(40 + 2)", [LONG]),
        ("2", "x = 2", ["Mia has two cups"]),
        ("5", "x = -5", []),
        ("3/4", "3 and 4", []),
        ("0.75", "print(3 / 4)", ["3 cakes for 4 friends"]),
        ("8", "print(2 ** 3)", ["2 cells double 3 times"]),
        ("1", "first take one of them", []),
        ("2", "add the two numbers", []),
        ("0.5", "5 percent", []),
        ("Paris", "comparison", []),
        ("One Direction", "the one way", []),
        ("?", "what?", []),
        ("no", "there is no need to sort", []),
        ("no", "The answer is no longer needed", []),
        ("no", "final_answer_print('no')", ["no"]),
        ("yes", "yesterday", []),
        ("True", "found = True", []),
        ("A", "a plan: read the text. A cup holds more.", [CHOICE]),
        ("A", "options = {'A': 3, 'B': 4}; if best == 'A': pass", [CHOICE]),
        ("A", "print(read())", [CHOICE]),
        ("A", "x = 'A'", ["the answer is A"]),
        ("上海", "我在海上", []),
    ],
)
def test_an_answer_that_is_not(reference, text, seen):
    assert leaks_answer(reference, text, seen) is False


@pytest.mark.parametrize("piece", ["1/", "one ", "\\frac", "-", "9", "= ' "])
def test_looking_takes_as_long_as_the_text_is(piece):
    short, long = (min(seconds_to_look(piece * (length // len(piece))) for _ in range(3)) for length in (5_000, 20_000))
    assert long < 8 * short


def seconds_to_look(text: str) -> float:
    """Of this thread's own computing."""
    begin = time.thread_time()
    leaks_answer("42", text, [text])
    leaks_answer("no", text, [text])
    return time.thread_time() - begin
