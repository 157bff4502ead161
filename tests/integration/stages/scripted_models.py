"""`ScriptedModels`: one OpenAI-compatible server that plays teacher and student of the ledger by rule, and counts.

Nothing here is a language model. The teacher writes the canonical step of a task; the student writes it too, but errs
at a share of its steps that the pushed folder names (``errs.json``). Every reply is a function of the request and the
pushed folder alone, so a request that is sent again gets the same reply. What it takes: the student as token ids on
/v1/completions, where the teacher scores token ids too, the teacher as messages on /v1/chat/completions, and the
management routes of vLLM.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from examples.ledger.family import END_OF_DOCUMENTS, FINISH, next_step
from tokenizers import Tokenizer

from score_distill.agent.seeds import share_of
from score_distill.agent.turns import parse_turn

MARKS = re.compile(r"<\|(user|assistant)\|>(.*?)(?:<\|end\|>|\Z)", re.DOTALL)
END_OF_TURN = "<|end|>"
Fault = str | None


@dataclass
class ScriptedModels:
    """``reference`` gives a task's answer by its question; ``folder`` holds the student's tokenizer.

    ``fault`` says what goes wrong with a call, by its number from 1: "500", "429", "cut", or None. ``tail`` follows
    every turn. ``before`` is called with the number of each call that will be answered. The shares say how often the
    teacher does what it should not.
    """

    folder: Path
    reference: dict[str, str] = field(default_factory=dict)
    fault: Callable[[int], Fault] = lambda _: None
    tail: str = ""
    before: Callable[[int], None] = lambda _: None
    teacher_errs: float = 0.0
    judge_errs: float = 0.0
    judge_never: float = 0.0
    leaks: float = 0.0
    cut_off: float = 0.0
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    pushed: list[Path] = field(default_factory=list)
    admin: list[str] = field(default_factory=list)
    calls: int = 0
    paused: bool = False

    def __post_init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.pushed.append(self.folder)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/completions", self.completions)
        app.router.add_post("/v1/chat/completions", self.chat)
        for route in ("pause", "collective_rpc", "reset_prefix_cache", "resume"):
            app.router.add_post(f"/{route}", self.manage)
        return app

    @property
    def paid(self) -> int:
        """Calls that were answered, whether or not anybody was left to read the answer."""
        return sum(self.answered.values())

    async def manage(self, request: web.Request) -> web.Response:
        name = request.path[1:]
        self.admin.append(name)
        if name == "collective_rpc":
            assert self.paused, "weights are reloaded while requests run"
            self.pushed.append(Path((await request.json())["kwargs"]["weights_path"]))
        self.paused = {"pause": True, "resume": False}.get(name, self.paused)
        return web.json_response({})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "prompt_logprobs" in body and body["model"] == "teacher":
            ids = body["prompt"]
            given = [None, *({str(one): {"logprob": teacher_logprob(one)}} for one in ids[1:])]
            choice = {"text": "", "finish_reason": "length", "prompt_logprobs": given}
            return await self.reply(request, "teacher", choice, len(ids), 1, "score")
        if "prompt_logprobs" in body:
            return web.json_response(self.probed(body["prompt"]))
        text = f"{self.student(body)}{self.tail}{END_OF_TURN}"
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids[: body["max_tokens"]]
        choice: dict[str, Any] = {
            "text": text,
            "token_ids": ids,
            "finish_reason": "stop" if ids[-1:] == body["stop_token_ids"] else "length",
        }
        if "logprobs" in body:
            choice["logprobs"] = {"token_logprobs": [logprob(token) for token in ids]}
        return await self.reply(request, "student", choice, len(body["prompt"]), len(ids))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = self.teacher(body["messages"], body["seed"])
        cut_off = asked_for(body["messages"]) == "act" and share_of("long", body["messages"][0]) < self.cut_off
        reason = "length" if cut_off else "stop"
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
        asked = sum(len(one["content"].split()) for one in body["messages"])
        return await self.reply(request, "teacher", choice, asked, len(text.split()), asked_for(body["messages"]))

    async def reply(
        self, request: web.Request, role: str, choice: dict[str, Any], prompt: int, completion: int, kind: str = "act"
    ) -> web.StreamResponse:
        """The reply, or the fault that is due in its place."""
        self.calls += 1
        fault = self.fault(self.calls)
        if fault is not None:
            self.faults[fault] += 1
        if fault == "500":
            return web.Response(status=500, text="scripted")
        if fault in ("400", "401"):
            return web.Response(status=int(fault), text="scripted")
        if fault == "429":
            return web.Response(status=429, headers={"Retry-After": "0"})
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        usage["prompt_tokens_details"] = {"cached_tokens": prompt // 2}  # type: ignore[assignment]
        content = json.dumps({"choices": [choice], "usage": usage}).encode()
        if fault == "cut":
            return await cut(request, content)
        self.before(self.calls)
        self.answered[role, kind] += 1
        for name, count in (("prompt", prompt), ("cached", prompt // 2), ("completion", completion)):
            self.tokens[role, name] += count
        return web.Response(body=content, content_type="application/json")

    def probed(self, ids: Sequence[int]) -> dict[str, Any]:
        """``prompt_logprobs`` as the folder's probe has them: what the weights there would give."""
        probe = json.loads((self.pushed[-1] / "probe.json").read_text())
        assert list(ids) == probe["ids"], "something other than the probe is asked for"
        given = [{str(one): {"logprob": value}} for one, value in zip(ids[1:], probe["logprobs"], strict=True)]
        return {"choices": [{"text": "", "finish_reason": "length", "prompt_logprobs": [None, *given]}]}

    def student(self, body: dict[str, Any]) -> str:
        """The canonical step, or a wrong one: which, depends on task, place, weights and, where sampled, the seed."""
        said = MARKS.findall(self.tokenizer.decode(body["prompt"], skip_special_tokens=False))
        question, seen = said[0][1].strip(), [text for role, text in said[1:] if role == "user"]
        observation = seen[-1].removeprefix("Observation: ") if seen else ""
        right = next_step(question, observation)
        errs = json.loads((self.pushed[-1] / "errs.json").read_text())
        draw = body["seed"] if body["temperature"] > 0 else 0
        return wrong(right) if share_of("errs", question, len(seen), observation, draw) < errs["share"] else right

    def teacher(self, messages: list[dict[str, str]], seed: int) -> str:
        user = next(one["content"] for one in messages if one["role"] == "user")
        match asked_for(messages):
            case "judge":
                return self.judge(user, seed)
            case "repair":
                return self.repair(user, seed) + self.tail
            case "equal":
                return json.dumps({"equivalent": False}) if share_of("judge", user) >= self.judge_never else "hm"
        seen = [one["content"] for one in messages if one["role"] == "user"][1:]
        observation = seen[-1].removeprefix("Observation: ") if seen else ""
        right = next_step(user, observation)
        errs = observation == END_OF_DOCUMENTS and share_of("teacher", user) < self.teacher_errs
        return (wrong(right) if errs else right) + self.tail

    def judge(self, user: str, seed: int) -> str:
        given = json.loads(user.partition("\n\nSteps before")[0])
        question, steps = given["task"], given["steps"]
        if share_of("never", question) < self.judge_never or share_of("bad", seed) < self.judge_errs / 2:
            return '{"analysis": "cut off in the mid'
        if share_of("range", seed) < self.judge_errs / 2:
            return json.dumps({"analysis": "", "step": len(steps) + 1, "advice": ""})
        return json.dumps({"analysis": "", "step": first_wrong(question, steps), "advice": "do as the fact says"})

    def repair(self, user: str, seed: int) -> str:
        given, _ = json.JSONDecoder().raw_decode(user)
        question, before = given["task"], given["steps_so_far"]
        observation = before[-1]["printed"] if before else ""
        if share_of("leak", seed) < self.leaks:
            return f"<thought>it is known</thought><code>x = {self.reference[question]}</code>"
        return next_step(question, observation)


def asked_for(messages: list[dict[str, str]]) -> str:
    """What a teacher's call is for, by the words that its prompt begins with."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    if system.startswith("You check the work"):
        return "judge"
    if "You take over for one step" in system:
        return "repair"
    return "equal" if system.startswith(("Compare an answer", "Two candidate")) else "act"


def first_wrong(question: str, steps: Sequence[dict[str, Any]]) -> int:
    """The first step that is not the canonical one after what was printed before it; the last when all are."""
    observation = ""
    for k, step in enumerate(steps, 1):
        right = parse_turn(next_step(question, observation))
        if (step["thought"], step["code"]) != (right.thought, right.code):
            return k
        observation = step["printed"]
    return len(steps)


def wrong(step: str) -> str:
    """A turn that goes wrong in place of the canonical one: a fact skipped, a number off by one, a wrong answer."""
    if FINISH in step:
        return step.replace(FINISH, "final_answer_print(x + 1)")
    changed = re.sub(r"<code>(x [^\n]*)", r"<code>\1 + 1", step)
    return changed if changed != step else step.replace("<code>", "<code>read()\n")


def logprob(token: int) -> float:
    """What the server says of a sampled token; a function of the token, so that a test can say it too."""
    return -0.01 * (1 + token % 50)


def teacher_logprob(token: int) -> float:
    """What the teacher gives a token, wherever it stands."""
    return -0.02 * (1 + token % 30)


async def cut(request: web.Request, content: bytes) -> web.StreamResponse:
    """A reply whose second half never comes."""
    response = web.StreamResponse(headers={"Content-Length": str(len(content)), "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    assert request.transport is not None
    request.transport.close()
    return response
