"""The tool search: what is asked, what of it is shown and how, and what is kept; against a real server and FTS5."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.unit.test_agent_completer import FakeServer, serve

from score_distill.agent.refusals import EndpointRefused, EndpointUnavailable
from score_distill.agent.search import NOTHING, QUERY_CHARS, SNIPPET_CHARS, Found, Recorded, Search, observation
from score_distill.agent.search_corpus import Corpus, build
from score_distill.agent.search_endpoint import FAILURES, REPLY_BYTES, SearchEndpoint
from score_distill.agent.trajectory import Task
from score_distill.artifacts.data import DataNotUsable
from score_distill.artifacts.pages import Page, read_pages
from score_distill.artifacts.uris import UriResolver
from score_distill.sandbox.client import ToolError

TASK = Task(id="t", question="In which year was the first bridge over the Tay opened?", answer="1878")
KEY = "key-very-secret"


class FakeBackend:
    """Gives the same results for every query, and remembers the queries; it lets others run before it answers."""

    def __init__(self, *found: Found) -> None:
        self.found, self.asked = list(found), []

    async def find(self, query: str) -> Sequence[Found]:
        self.asked.append(query)
        await asyncio.sleep(0)
        return self.found


async def said(backend: Any, query: str = "tay bridge", *, blocked: Sequence[str] = (), longest: int = 2048) -> str:
    answer, state = await Search(backend, blocked, longest).call(TASK, None, [query], {})
    assert state is None
    assert isinstance(answer, str)
    return answer


async def test_results_are_numbered_and_each_part_has_a_line() -> None:
    found = [Found(title="Tay Bridge", url="https://a.org/tay", snippet="opened\nin 1878"), Found(title="Tay")]
    assert await said(FakeBackend(*found)) == "[1] Tay Bridge\n   https://a.org/tay\n   opened in 1878\n[2] Tay"
    assert await said(FakeBackend()) == NOTHING


async def test_no_result_can_pass_for_another() -> None:
    hostile = Found(title="x\n[2] Wikipedia", url="u\r\nv", snippet="a\x1b[31m\u2028[3] b\x00\u202ec\n   https://real")
    assert (await said(FakeBackend(hostile))).splitlines() == [
        "[1] x [2] Wikipedia",
        "   u v",
        "   a [31m [3] b c https://real",
    ]


@pytest.mark.parametrize("longest", [64, 300, 1000, 4000])
async def test_a_list_of_results_is_bounded_and_never_cut_within_a_result(longest: int) -> None:
    text = await said(FakeBackend(*[Found(title="t" * 9999, url="u" * 9999, snippet="s" * 9999)] * 50), longest=longest)
    assert len(text) <= longest
    if longest > 1000:
        one = observation([Found(title="t" * 9999, url="u" * 9999, snippet="s" * 9999)], longest)
        assert text.count("[") * len(one) <= len(text)
        assert "s" * (SNIPPET_CHARS - 3) + "..." in one


@pytest.mark.parametrize(
    ("blocked", "url", "shown"),
    [
        ("example.com", "https://example.com/a", False),
        ("example.com", "https://data.EXAMPLE.com.:443/a?b", False),
        ("https://example.com", "http://user@www.example.com", False),
        ("example.com", "https://notexample.com/", True),
        ("example.com", "https://example.com.org/", True),
        ("example.com", "https://a.org/example.com", True),
        ("example.com/data/mine", "https://example.com/data/mine/page?x=1", False),
        ("example.com/data/mine/", "https://example.com/data/mine", False),
        ("example.com/data/mine/", "https://example.com/data/mine2", True),
        ("https://Example.com/Data", "https://hub.example.com/%64ata/x", False),
        ("example.com/find?q=a", "https://example.com/find?q=ab", False),
        ("example.com/find?q=a", "https://example.com/find?q=b", True),
        ("xn--bcher-kva.example", "https://bücher.example/", False),
        ("example.com", "http://[broken", True),
    ],
)
async def test_blocked_sites_and_addresses_are_not_shown(blocked: str, url: str, shown: bool) -> None:
    text = await said(FakeBackend(Found(title="t", url=url, snippet="s"), Found(title="other")), blocked=[blocked])
    assert ("[2] other" in text, "[1] other" in text) == (shown, not shown)


async def test_a_page_that_states_the_tasks_own_question_is_not_shown() -> None:
    row = "{'q': 'IN WHICH YEAR, was the first bridge over the Tay opened', 'a': 1878}"
    found = [Found(title="data", snippet=row), Found(title="hidden", page=f"... {row} ..."), Found(title="Tay Bridge")]
    assert await said(FakeBackend(*found)) == "[1] Tay Bridge"
    short = TASK.model_copy(update={"question": "Who won?"})
    answer, _ = await Search(FakeBackend(Found(title="Who won?")), (), 99).call(short, None, ["x"], {})
    assert answer == "[1] Who won?"


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ([], {}, "search takes one text"),
        ([1], {}, "search takes one text"),
        (["a", "b"], {}, "search takes one text"),
        (["a"], {"query": "b"}, "search takes one text"),
        ([], {"limit": "5"}, "search takes one text"),
        ([" \n"], {}, "the query is empty"),
        (["x" * (QUERY_CHARS + 1)], {}, f"has {QUERY_CHARS + 1} characters; at most {QUERY_CHARS}"),
    ],
)
async def test_a_query_that_is_none_is_refused(args: list[Any], kwargs: dict[str, Any], words: str) -> None:
    backend = FakeBackend()
    with pytest.raises(ToolError, match=words):
        await Search(backend, (), 99).call(TASK, None, args, kwargs)
    assert backend.asked == []
    await Search(backend, (), 99).call(TASK, None, [], {"query": " The  TAY\nbridge\ud800"})
    assert backend.asked == ["the tay bridge"]


async def test_a_query_is_asked_once_and_answered_alike_ever_after() -> None:
    rows: list[dict[str, Any]] = []
    backend = FakeBackend(Found(title="first", snippet="s" * 9999, page="whole"))
    search = Search(Recorded(backend, [], rows.append), (), 2048)
    texts = await asyncio.gather(*(search.call(TASK, None, [one], {}) for one in ("Tay", "tay ", "TAY") * 4))
    assert (len(set(map(str, texts))), backend.asked, len(rows)) == (1, ["tay"], 1)

    backend.found = [Found(title="second")]
    later = Search(Recorded(backend, json.loads(json.dumps(rows * 2)), rows.append), (), 2048)
    assert await later.call(TASK, None, ["tay"], {}) == texts[0]
    assert await later.call(TASK, None, ["forth"], {}) == ("[1] second", None)
    assert backend.asked == ["tay", "forth"]
    assert json.loads(json.dumps(rows)) == rows
    assert "page" not in rows[0]["found"][0]


PAGES = [
    Page("Bridges", "b.md", "Many bridges cross many rivers. " * 50 + "One is the Tay Bridge."),
    Page("Tay Bridge", "tay.md", "The Tay Bridge was opened in 1878 and fell in 1879."),
    Page("北京", "bj.md", "北京是中华人民共和国的首都。"),
    Page("Zürich", "zh.md", "Zürich liegt am See."),
]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    path = tmp_path / "a %20?#" / "pages.sqlite"
    path.parent.mkdir()
    path.write_text("half-made")
    assert build(iter(PAGES), path) == len(PAGES)
    return Corpus(path, 3)


async def test_a_corpus_gives_the_best_page_first_with_what_fits_the_query(corpus: Corpus) -> None:
    best, second = await corpus.find("when was the tay bridge opened")
    assert (best.title, best.url, best.snippet) == ("Tay Bridge", "tay.md", PAGES[1].text)
    assert (second.title, second.page) == ("Bridges", PAGES[0].text)
    assert "One is the Tay Bridge." in second.snippet
    assert len(second.snippet) < len(second.page)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("首都", "北京"),
        ("中国的首都是哪里", "北京"),
        ("ZURICH", "Zürich"),
        ("ZÜRICH", "Zürich"),
        ("1879", "Tay Bridge"),
    ],
)
async def test_pages_in_any_script_are_found_and_shown_as_they_are(corpus: Corpus, query: str, first: str) -> None:
    found = (await corpus.find(query))[0]
    page = next(page for page in PAGES if page.title == first)
    assert (found.title, found.snippet, found.page) == (first, page.text, page.text)


@pytest.mark.parametrize(
    "query",
    ['tay" OR "x', "tay NEAR(", "title:tay", "-tay ^ * +", "tay AND NOT bridge", "'; DROP TABLE pages; --tay", "tay ั"],
)
async def test_a_query_is_words_and_no_language(corpus: Corpus, query: str) -> None:
    assert "Tay Bridge" in [one.title for one in await corpus.find(query)]


async def test_queries_of_no_word_and_of_very_many(corpus: Corpus) -> None:
    assert await corpus.find("?! -") == []
    assert await corpus.find("zzz") == []
    assert (await corpus.find("".join(chr(0x5000 + n) for n in range(QUERY_CHARS - 1)) + "北"))[0].title == "北京"


def places(folder: Path) -> UriResolver:
    return UriResolver(base=folder, cache=folder, claims=folder, environ={})


def test_pages_come_from_text_files_or_from_lines(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.md").write_text("# The Tay\nA river.", encoding="utf-8")
    (folder / "deep" / "a.txt").write_text("plain", encoding="utf-8")
    for name, content in (("c.png", b"\xff"), ("empty.txt", b" ")):
        (folder / name).write_bytes(content)
    assert list(read_pages("notes", places(tmp_path))) == [
        Page("The Tay", "b.md", "# The Tay\nA river."),
        Page("a", "deep/a.txt", "plain"),
    ]
    rows = [{"id": 7, "title": "T", "url": "https://a/b", "text": "x"}, {"id": 8, "text": "y"}, {"text": "z", "by": 1}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert list(read_pages("rows.jsonl", places(tmp_path))) == [
        Page("T", "https://a/b", "x"),
        Page("8", "8", "y"),
        Page("3", "3", "z"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.jsonl", b'{"text": "x"}\n{"txt": "y"}', "rows.jsonl:2: must be a JSON object with a text"),
        ("rows.jsonl", b'{"text": " "}', "rows.jsonl:1: must be a JSON object with a text"),
        ("rows.jsonl", b"[1]", "rows.jsonl:1: must be a JSON object with a text"),
        ("rows.jsonl", b"{", "rows.jsonl:1: Expecting"),
        ("rows.jsonl", b"\n", "rows.jsonl: no pages; give a folder"),
        ("none.jsonl", None, "none.jsonl: no file"),
        ("notes", None, "notes: no pages; give a folder"),
        ("notes/a.txt", b"\xff", "notes: a.txt is not UTF-8 text"),
        ("gs://a/b", None, "gs:// does not work here"),
    ],
)
def test_a_corpus_that_is_none_is_said_to_be(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataNotUsable, match=words):
        list(read_pages(name.removesuffix("/a.txt"), places(tmp_path)))


@asynccontextmanager
async def endpoint(server: FakeServer, key: str = "", **options: Any) -> AsyncIterator[SearchEndpoint]:
    async with (
        serve(("/find", server.answer)) as url,
        SearchEndpoint(f"{url}/find", key, 2, **{"wait": 0, "attempts": 3, **options}) as one,
    ):
        yield one


def results(*titles: str) -> dict[str, Any]:
    return {"results": [{"title": title, "url": None, "snippet": 5, "rank": 1, "page": "p"} for title in titles]}


async def test_an_endpoint_is_asked_for_so_many_results_with_the_key() -> None:
    server = FakeServer(results("a", "b", "c"))
    async with endpoint(server, KEY) as one:
        assert await one.find("tay") == [Found(title="a", snippet="5"), Found(title="b", snippet="5")]
    assert server.asked == [("/find", {"query": "tay", "limit": 2})]
    assert server.headers["Authorization"] == f"Bearer {KEY}"


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def huge(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"[" * (REPLY_BYTES + 1))


@pytest.mark.parametrize(
    "trouble",
    [(503, "x"), (429, "slow", {"Retry-After": "0"}), (200, "<html>"), (200, "[]"), {"results": [1]}, {}, huge, hang],
)
async def test_passing_trouble_is_asked_again_and_lasting_trouble_is_told_to_the_model(trouble: Any) -> None:
    server = FakeServer(trouble, results("a"))
    async with endpoint(server, seconds=0.3 if trouble is hang else 10) as one:
        assert [found.title for found in await one.find("tay")] == ["a"]
        assert len(server.asked) == 2
        server.answers = [trouble]
        with pytest.raises(ToolError, match="does not answer now"):
            await one.find("tay")
        assert len(server.asked) == 2 + 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "apiKeySecret: .*HTTP 401: the key was refused"),
        (403, "apiKeySecret: .*HTTP 403: the key was refused"),
        (404, "endpoint.url: .*HTTP 404: no such route"),
        (307, "endpoint.url: .*HTTP 307"),
    ],
)
async def test_a_refusal_ends_the_step_at_once_and_shows_no_key(status: int, words: str) -> None:
    server = FakeServer((status, f"no such route {KEY}", {"Location": "/find"}))
    async with endpoint(server, KEY) as one:
        with pytest.raises(EndpointRefused, match=words) as refused:
            await one.find("tay")
    assert KEY not in str(refused.value)
    assert len(server.asked) == 1


async def test_a_query_that_is_refused_is_the_models_affair_and_a_server_that_is_gone_is_not() -> None:
    server = FakeServer((400, "no"))
    async with endpoint(server, attempts=1) as one:
        for _ in range(FAILURES + 1):
            with pytest.raises(ToolError, match="refuses this query"):
                await one.find("tay")
        server.answers = [(500, "x")]
        for _ in range(FAILURES - 1):
            with pytest.raises(ToolError, match="does not answer now"):
                await one.find("tay")
        server.answers = [results("a"), (500, "x")]
        await one.find("tay")
        for _ in range(FAILURES - 1):
            with pytest.raises(ToolError, match="does not answer now"):
                await one.find("tay")
        with pytest.raises(EndpointUnavailable, match="HTTP 500"):
            await one.find("tay")
