from score_distill.agent.decontamination import GRAM, Contamination, Deduplicator
from score_distill.agent.trajectory import Task

LONG = "Mia has forty two cups and Ben gives her another seven of them today"


def task(question: str, *documents: str, name: str = "t") -> Task:
    return Task(id=name, question=question, answer="a", documents=documents)


def known(*tasks: Task) -> Contamination:
    contamination = Contamination()
    contamination.add("held-out", tasks)
    return contamination


def test_an_evaluation_set_is_counted():
    assert Contamination().add("one", iter([task("a"), task("b")])) == 2


def test_the_same_text_in_another_dress_matches():
    match = known(task("How many cups?", "Mia buys 2.")).match(task("how  many CUPS\n", "mia, buys: 2"))
    assert match == ("same text as an evaluation task", "held-out")


def test_another_number_or_document_does_not_match():
    contamination = known(task("How many cups?", "Mia buys 2."))
    assert contamination.match(task("How many cups?", "Mia buys 3.")) is None
    assert contamination.match(task("How many cups?")) is None


def test_thirteen_words_in_a_row_match_and_twelve_do_not():
    words = LONG.split()
    assert len(words) == 14
    contamination = known(task(LONG))
    thirteen = " ".join(words[1:])
    match = contamination.match(task(f"Yesterday {thirteen} and more"))
    assert match == (f"shares {GRAM} words in a row with an evaluation task", "held-out")
    assert contamination.match(task(f"Yesterday {' '.join(words[2:])} and more")) is None


def test_a_run_of_words_may_go_from_question_to_document():
    words = LONG.split()
    assert known(task(" ".join(words[:5]), " ".join(words[5:]))).match(task(LONG + " too"))


def test_short_texts_match_only_whole():
    contamination = known(task("2 + 2 = ?"))
    assert contamination.match(task("2+2 =?"))
    assert contamination.match(task("2 - 2 = ?")) is None
    assert contamination.match(task("What is 2 + 2 = ?")) is None


def test_a_text_held_whole_matches_however_many_tasks_with_other_answers_hold_it():
    contamination = known(task(LONG), task("How often does the letter r stand in strawberry?"))
    variants = [
        Task(id=before, question=f"{before} {LONG} {before}", answer=before) for before in ("Solve:", "Say:", "Tell:")
    ]
    for one in variants:
        contamination.see(one)
    held = ("holds the whole text of an evaluation task", "held-out")
    assert [contamination.match(one) for one in variants] == [held] * 3
    assert contamination.match(task("Q: How often does the letter r stand in strawberry? A:")) == held
    assert contamination.match(task("Q: How often does the letter s stand in strawberry? A:")) is None


def test_the_first_set_that_matches_is_named():
    contamination = known(task("q"))
    contamination.add("later", [task("q"), task("r")])
    assert contamination.match(task("q")).against == "held-out"
    assert contamination.match(task("r")).against == "later"


def test_doubles_name_the_first():
    doubles = Deduplicator()
    assert doubles.match(task("q", name="one")) is None
    assert doubles.match(task("Q!", name="two")) == ("same text as another training task", "one")
    assert doubles.match(task("r", name="three")) is None


CHINESE = "小明有四十二个杯子，小红又给了他七个，后来他打破了三个，还送给邻居五个，现在他一共还剩下多少个杯子？"


def test_chinese_is_compared_by_characters():
    contamination = known(task(CHINESE))
    assert (
        contamination.match(task(CHINESE.replace("，", " ").replace("？", ""))).why == "same text as an evaluation task"
    )
    match = contamination.match(task("昨天老师问：" + CHINESE[:40] + "请回答。"))
    assert match == ("shares 26 characters in a row with an evaluation task", "held-out")
    assert contamination.match(task("昨天老师问：" + CHINESE[:20] + "请回答。")) is None
    assert contamination.match(task("现在他一共还剩下多少个杯子？")) is None


def test_a_nearly_equal_training_task_is_a_double_unless_a_number_differs():
    text = f"{LONG} and then she counts every one of the cups again before it rains in 3 hours. How many has she?"
    doubles = Deduplicator()
    assert doubles.match(task(text, name="one")) is None
    assert doubles.match(task(text.replace("How many", "Say how many"), name="two")) == (
        "nearly the text of another training task",
        "one",
    )
    assert doubles.match(task(text.replace("in 3 hours", "in 4 hours"), name="three")) is None
    assert doubles.match(task(text.replace("forty two", "forty three"), name="words")) is None
    assert doubles.match(task("Something else altogether, of 3 words or so", name="four")) is None


def test_a_nearly_equal_chinese_training_task_is_a_double():
    doubles = Deduplicator()
    assert doubles.match(task(CHINESE, name="one")) is None
    assert doubles.match(task(CHINESE.replace("现在", "现今"), name="two")).against == "one"
    assert doubles.match(task(CHINESE.replace("打破了三个", "打破了二个"), name="three")) is None


def test_empty_texts_are_no_trouble():
    doubles = Deduplicator()
    assert [doubles.match(task("?", name=name)) is None for name in ("one", "two")] == [True, False]


SYSTEM = (
    "You are a careful assistant who solves word problems step by step, writes down every intermediate result, and "
    "ends with the final number alone on the last line of the reply."
)
PASSAGE = (
    "The lighthouse at Cape Sorrow was built in 1871 by the brothers Amund and Nils Berge, who had learned their trade "
    "in Bergen; it burned down in the great storm of 1903 and was raised again in stone two years later."
)


def answered(question: str, answer: str, *documents: str) -> Task:
    return Task(id=question, question=question, answer=answer, documents=documents)


def test_a_system_prompt_or_passage_of_many_tasks_is_no_overlap():
    for shared in (SYSTEM, PASSAGE):
        held = [answered(f"{shared}\n\nHow old is Ben number {n}?", str(n)) for n in range(4)]
        train = [answered(f"{shared}\n\nHow many cups has Mia on day {n} of the week?", str(n)) for n in range(6)]
        contamination = known(*held)
        for one in train:
            contamination.see(one)
        assert [contamination.match(one) for one in train] == [None] * 6
        leaked = f"{shared}\n\nPlease note: {LONG}. How many?"
        contamination.add("other", [answered(f"{LONG}. How many are there?", "49")])
        assert (
            contamination.match(answered(leaked, "49")).why == f"shares {GRAM} words in a row with an evaluation task"
        )


def test_a_leaked_question_that_stands_in_many_training_tasks_is_still_an_overlap():
    contamination = known(answered(f"{LONG}. How many?", "49"))
    train = [answered(f"Puzzle {n}: {LONG}. Well?", "49") for n in range(5)]
    for one in train:
        contamination.see(one)
    assert all(contamination.match(one) for one in train)


def test_questions_about_one_passage_are_different_tasks():
    asked = {
        "Who built the lighthouse?": "Amund and Nils Berge",
        "When was it built?": "1871",
        "Where had they learned their trade?": "Bergen",
        "Was it built of wood at first?": "yes",
        "Was it destroyed by a storm?": "yes",
    }
    doubles = Deduplicator()
    for question, answer in asked.items():
        assert doubles.match(answered(f"{PASSAGE}\n\n{question}", answer)) is None
        assert doubles.match(answered(question, answer, PASSAGE)) is None


def test_operators_units_and_answers_tell_tasks_apart():
    doubles = Deduplicator()
    told = "A field is forty paces long and twenty paces wide and somebody walks around all of it twice a day: "
    for question, answer in [
        ("x+y", "3"),
        ("x-y", "3"),
        ("x*y", "3"),
        ("x/y", "3"),
        ("x < y", "3"),
        ("x <= y", "3"),
        ("x ∪ y", "3"),
        ("x ∩ y", "3"),
        ("(2 + 3) * 4", "3"),
        ("2 + (3 * 4)", "3"),
        ("what is 5?", "3"),
        ("what is 5!", "3"),
        (f"{told} how far is 5 km?", "3"),
        (f"{told} how far is 5 miles?", "3"),
        (f"{told} how far is it?", "3"),
        (f"{told} how far is it!", "4"),
    ]:
        assert doubles.match(answered(question, answer)) is None, question
