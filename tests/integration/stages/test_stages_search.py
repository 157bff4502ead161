"""The tool search within a run: model-written code calls it in the real sandbox, in one step after another."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from tests.integration.stages.conftest import MakePlace, Place, ledger
from tests.unit.test_agent_completer import serve

from score_distill.agent.environment import SnapshotPool
from score_distill.agent.refusals import EndpointRefused
from score_distill.agent.trajectory import Step, Task
from score_distill.errors import BadInput
from score_distill.stages.acting import RolloutContext, floor
from score_distill.stages.context import StageContext
from score_distill.stages.rollouts import reproduce

TASK = Task(id="t", question="In which year was the first bridge over the Tay opened?", answer="1878")
PAGES = [
    {"title": "Tay Bridge", "url": "https://bridges.example/tay", "text": "The Tay Bridge was opened in 1878."},
    {"title": "Set", "url": "https://data.example/rows/1", "text": "A row about the Tay bridge: 1878."},
]
SHOWN = "[1] Tay Bridge\n   https://bridges.example/tay\n   The Tay Bridge was opened in 1878."
SEARCHED = {"tools": ["python", "read", "search"]}


class FakeEngine:
    """A search engine that answers each request in other words; with ``status`` it answers by that alone."""

    def __init__(self) -> None:
        self.url, self.status, self.asked = "", 200, []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((await request.json(), request.headers.get("Authorization")))
        row = {"title": f"answer {len(self.asked)}", "url": "https://a.example/", "snippet": "text"}
        return web.json_response({"results": [row]}, status=self.status)


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    one = FakeEngine()
    async with serve(("/find", one.answer)) as url:
        one.url = f"{url}/find"
        yield one


def acting(place: Place, step: str, **more: Any) -> StageContext:
    return StageContext(
        place.config(step, inputs=("prepare", "mentor"), teacher=None, student=None, **more), place.store
    )


async def printed(here: RolloutContext, *codes: str) -> list[str]:
    """What the steps print, one after another."""
    world, said = await here.world(TASK), []
    for code in codes:
        outcome = await world.run(code)
        world = outcome.world
        said.append(outcome.observation)
    return said


async def test_code_finds_the_pages_that_prepare_indexed_whatever_became_of_the_corpus(make_place: MakePlace) -> None:
    place = await make_place(ledger(60), **SEARCHED, search={"corpus": "pages.jsonl", "blocked": ["data.example/rows"]})
    corpus = place.folder / "pages.jsonl"
    corpus.write_text("\n".join(map(json.dumps, PAGES)))
    assert (await place.run("prepare")).counts["pages"] == 2
    corpus.unlink()
    async with floor(acting(place, "mentor"), frozenset()) as here:
        shown = await printed(here, "found = search('the Tay bridge')", "print(found)", "search('')", "search(1)")
    assert shown[:2] == ["None", SHOWN]
    assert [one.removeprefix("ToolError: ") for one in shown[2:]] == [
        "the query is empty",
        "search takes one text, the query",
    ]


async def test_a_corpus_that_cannot_be_read_costs_nothing(make_place: MakePlace) -> None:
    place = await make_place(ledger(60), **SEARCHED, search={"corpus": "pages.jsonl"})
    with pytest.raises(BadInput, match=r"spec\.search\.corpus: pages.jsonl: no file"):
        await place.run("prepare")


async def test_a_prefix_is_replayed_with_what_was_found_when_it_was_made(
    make_place: MakePlace, engine: FakeEngine
) -> None:
    place = await make_place(ledger(60), **SEARCHED, search={"endpoint": {"url": engine.url}})
    code = "found = search('Tay'); print(found)"
    async with floor(acting(place, "mentor"), frozenset()) as here:
        (shown,) = await printed(here, code)
    assert shown == "[1] answer 1\n   https://a.example/\n   text"

    engine.status = 500
    step = Step(author="student", text="", thought="", code=code, observation=shown, answer=None, error=None, state="")
    async with floor(acting(place, "rl"), frozenset(), durable=False) as here, SnapshotPool() as scope:
        world = await reproduce(scope.hold(await here.world(TASK)), [step], scope)
        assert world is not None
        assert (await world.run("print(found == search('  TAY'))")).observation == "True"
        assert len(engine.asked) == 1
        outcome = await world.run("print(search('Forth'))")
        assert outcome.observation == ("ToolError: the search does not answer now; go on without it, or try later")
        engine.status = 200
        again = (await world.run("print(search('Forth'))")).observation
    async with floor(acting(place, "rl"), frozenset(), durable=False) as here:
        assert await printed(here, "print(search('forth'))") == [again]


@pytest.mark.parametrize("as_file", [True, False])
async def test_a_key_is_found_where_secrets_are_and_a_refused_one_ends_the_step(
    make_place: MakePlace, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, as_file: bool
) -> None:
    secret = {"name": "engine", "key": "api-key"}
    place = await make_place(ledger(60), **SEARCHED, search={"endpoint": {"url": engine.url, "api_key_secret": secret}})
    with pytest.raises(BadInput, match=r"secret engine, key api-key: not found.* ENGINE_API_KEY"):
        async with floor(acting(place, "mentor"), frozenset()):
            pass
    if as_file:
        path = place.folder / "secrets" / "engine" / "api-key"
        path.parent.mkdir(parents=True)
        path.write_text("k1\n")
        monkeypatch.setenv("SCORE_SECRETS", str(place.folder / "secrets"))
    else:
        monkeypatch.setenv("ENGINE_API_KEY", "k1")
    async with floor(acting(place, "mentor"), frozenset()) as here:
        await printed(here, "search('tay')")
        engine.status = 401
        with pytest.raises(EndpointRefused, match="the key was refused"):
            await printed(here, "search('forth')")
    assert [key for _, key in engine.asked] == ["Bearer k1"] * 2
    assert [body for body, _ in engine.asked] == [{"query": one, "limit": 10} for one in ("tay", "forth")]


async def test_what_a_model_reads_of_the_tools_is_the_same_for_both(make_place: MakePlace, engine: FakeEngine) -> None:
    place = await make_place(ledger(60), **SEARCHED, search={"endpoint": {"url": engine.url}}, prompt="Instructions")
    spec = place.spec
    told = spec.model_copy(update={"student": spec.student.model_copy(update={"prompt": "Instructions"})})
    frame = StageContext(replace(place, spec=told).config("mentor", inputs=("prepare",)), place.store)
    async with floor(frame, frozenset()) as here:
        student = here.student_actor(TASK, told.method.agent.sampling)
        teacher = here.teacher_actor(TASK, told.method.agent.sampling)
        assert student.opening == student.chat.opening(teacher.opening)
    assert "- search(query: str) -> str: what is found for the query" in teacher.opening[0]["content"]
