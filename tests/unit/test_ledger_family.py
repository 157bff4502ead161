"""The ledger family: its tasks are sound, disjoint, and solved by its own perfect trajectory."""

import random
from itertools import islice

import pytest
from examples.ledger.family import (
    END_OF_DOCUMENTS,
    FACTS,
    STUDENT_PART,
    WHOLE,
    next_step,
    solution,
    split_of,
    tasks,
)
from examples.ledger.interpreter import State, run
from examples.ledger.language import OPERATION_KINDS, OPERATIONS, TEMPLATES, asked, meaning
from examples.ledger.wandering import wander

QUESTION = "How many cups does Mia have at the end?"


def sample(split="eval", count=100, part=WHOLE, seed=0, facts=FACTS):
    return list(islice(tasks(random.Random(seed), split, part, facts), count))


@pytest.mark.parametrize(
    ("sentence", "code"),
    [
        ("Mia has 42 cups.", "x = 42"),
        ("Ida gives Mia 9 cups.", "x += 9"),
        ("Mia gives Ida 9 cups.", "x -= 9"),
        ("Mia steals 7 cups from Ben.", "x += 7"),
        ("Ben steals 7 cups from Mia.", "x -= 7"),
        ("Mia lends Ben 3 cups.", "x -= 3"),
        ("Mia borrows 3 cups from Ben.", "x += 3"),
        ("The cups of Mia double.", "x *= 2"),
        ("Half of the cups of Mia break.", "x //= 2"),
        ("Mia orders 4 boxes of 6 cups.", "x += 4 * 6"),
        ("Mia mails 4 bags of 6 cups.", "x -= 4 * 6"),
        ("Mia trades 5 cups for 8 coins.", "x -= 5"),
        ("Mia trades 5 coins for 8 cups.", "x += 8"),
        ("Mia buys 32 coins.", ""),
        ("Ben buys 32 cups.", ""),
        ("Mia wants 12 cups.", ""),
        ("Mia does not buy 12 cups.", ""),
        ("It rains all day.", ""),
    ],
)
def test_meaning_of_a_sentence(sentence, code):
    assert meaning(sentence, "Mia", "cups").code == code


def test_thought_names_what_is_asked_and_marks_every_mention():
    step = next_step(QUESTION, "Ida gives Mia 9 cups.")
    assert step == "<thought>Mia cups Ida no Mia me cups yes: gain</thought><code>x += 9\nprint(read())</code>"


@pytest.mark.parametrize("observation", ["", "None", "NameError: name 'x' is not defined", "17"])
def test_what_is_no_fact_is_answered_by_reading(observation):
    assert next_step(QUESTION, observation) == "<thought>read</thought><code>print(read())</code>"


def test_every_sentence_has_one_reading():
    from examples.ledger.language import _pattern

    for task in sample(count=300):
        for document in task.documents:
            assert sum(bool(_pattern(t.text).fullmatch(document)) for t in TEMPLATES) == 1, document


def test_perfect_trajectory_gives_the_answer_in_5_to_10_steps():
    for task in sample(count=300):
        messages, state, observation = solution(task), State(), None
        turns = messages[1::2]
        assert 5 <= len(turns) <= 10
        for turn, after in zip(turns, [*messages[2::2], None], strict=True):
            observation, state = run(turn["content"], state, task.documents)
            assert after is None or after["content"] == f"Observation: {observation}"
        assert state.answer == task.answer


def test_splits_are_disjoint_and_reproducible():
    by_split = {split: {task.id for task in sample(split, 200)} for split in ("pretrain", "train", "eval")}
    assert all(split_of(task) == split for split, ids in by_split.items() for task in ids)
    assert len(set.union(*by_split.values())) == 600
    assert sample("eval", 20, seed=3) == sample("eval", 20, seed=3) != sample("eval", 20, seed=4)


@pytest.mark.parametrize("count", [3, 38])
def test_a_task_has_as_many_facts_as_are_asked_for_and_takes_two_steps_more(count):
    for task in sample(facts=(count, count)):
        turns = [message for message in solution(task) if message["role"] == "assistant"]
        assert (len(task.documents), len(turns)) == (count, count + 2)


def test_student_part_lacks_operations_that_the_whole_has():
    known = {t.kind for t in STUDENT_PART.operations}
    assert known < set(OPERATION_KINDS) == {t.kind for t in OPERATIONS}
    unknown = [t for t in OPERATIONS if t not in STUDENT_PART.operations]
    for task in sample(count=200, part=STUDENT_PART):
        person, item = asked(task.question)
        assert all(meaning(document, person, item) for document in task.documents)
        assert not any(_uses(t, document) for t in unknown for document in task.documents)


def _uses(template, document):
    from examples.ledger.language import _pattern

    return bool(_pattern(template.text).fullmatch(document))


def test_a_question_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="not a ledger question"):
        asked("What is 2 + 2?")


def test_states_are_values():
    before = State({"x": 10}, 1)
    documents = ("Mia has 10 cups.", "Mia buys 5 cups.")
    observation, after = run("<thought>t</thought><code>x += 5\nprint(read())</code>", before, documents)
    assert (observation, after) == ("Mia buys 5 cups.", State({"x": 15}, 2))
    assert before == State({"x": 10}, 1)
    assert run("<thought>t</thought><code>print(read())</code>", after, documents)[0] == END_OF_DOCUMENTS


def test_what_happened_before_an_error_stays():
    observation, state = run("<thought>t</thought><code>print(read())\nx += 1</code>", State(), ("It rains.",))
    assert observation == "It rains.\nNameError: name 'x' is not defined"
    assert state == State({}, 1)


def test_wandering_marks_right_exactly_the_steps_that_answer_the_last_observation():
    rng = random.Random(0)
    wrong = 0
    for task in sample(count=50):
        messages, right = wander(rng, task, mistakes=0.4)
        observations = ["", *(m["content"].removeprefix("Observation: ") for m in messages[2::2])]
        for turn, observation, is_right in zip(messages[1::2], observations, right, strict=True):
            if is_right:
                assert turn["content"] == next_step(task.question, observation)
            wrong += not is_right
    assert wrong > 50
