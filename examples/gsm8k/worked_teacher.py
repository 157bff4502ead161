"""A stand-in for a teacher, for machines that reach none: it reads GSM8K's own worked solutions aloud.

An OpenAI-compatible server (/v1/models, /v1/chat/completions). It is no language model: it finds the question among the
tasks that it was given, takes the calculations that the solution marks as <<48/2=24>>, and answers as the product's
prompts ask: one step of code a turn, the first wrong step of a student, one step in its place. What a run with it shows
is that the pipeline works on real tasks with a real student; it says nothing about what a real teacher would bring.

    WORKED_TEACHER_KEY=... python examples/gsm8k/worked_teacher.py --port 8000 FILE.jsonl [FILE.jsonl ...]
"""

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

from aiohttp import web

CALCULATION = re.compile(r"<<([^<>=]+)=([^<>]+)>>")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
PLAN = "Take the facts one after another, calculate each quantity with code, and give the last result as the answer."
Calculation = tuple[str, str, str]


def read(paths: list[Path]) -> dict[str, list[Calculation]]:
    """By question: what each calculation is about, its expression and its result."""
    solutions = {}
    for path in paths:
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            found = []
            for sentence in row["answer"].partition("####")[0].splitlines():
                about = CALCULATION.sub("", sentence)
                found += [
                    (about, expression.strip(), result.strip()) for expression, result in CALCULATION.findall(sentence)
                ]
            final = row["answer"].rpartition("####")[2].strip().replace(",", "")
            solutions[row["question"].strip()] = [*found, ("", "", final)]
    return solutions


def reply(messages: list[dict[str, str]], solutions: dict[str, list[Calculation]]) -> str:
    """What a teacher would say; the product's prompts are told apart by how they begin."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    user = next(message["content"] for message in messages if message["role"] == "user")
    if system.startswith("You check the work"):
        return locate(user, solutions)
    if "You take over for one step" in system:
        return repair(user, solutions)
    if system.startswith(("Compare an answer", "Two candidate")):
        return json.dumps({"equivalent": False})
    turns = [message["content"] for message in messages if message["role"] == "assistant"]
    if "<first_thought>" in system and not turns:
        return f"<first_thought>{PLAN}</first_thought>"
    done = sum("<code>" in turn for turn in turns)
    solution = solutions.get(user.strip())
    return step(solution, done) if solution else "<thought>I do not know this task.</thought><code>print('?')</code>"


def step(solution: list[Calculation], number: int) -> str:
    """The calculation with that number (from 0), or the answer after the last one."""
    about, expression, _ = solution[min(number, len(solution) - 1)]
    if not expression:
        return f"<thought>That is the answer.</thought><code>final_answer_print({solution[-1][2]})</code>"
    code = expression.replace("%", "/100").replace("x", "*").replace(",", "")
    return f"<thought>{NUMBER.sub('', about).strip()}</thought><code>print({code})</code>"


def locate(user: str, solutions: dict[str, list[Calculation]]) -> str:
    """The first step that errs, or prints nothing that the solution has."""
    given, _ = json.JSONDecoder().raw_decode(user)
    solution, steps = solutions.get(given["task"].strip(), []), given["steps"]
    results = {_number(result) for _, _, result in solution}
    wrong = (
        one["step"]
        for one in steps
        if not (one["code"] is None and one["printed"] == "None")
        and not {_number(found) for found in NUMBER.findall(one["printed"])} & results
    )
    k = next(wrong, len(steps))
    return json.dumps({"analysis": "compared with the worked solution", "step": k, "advice": "do the next calculation"})


def repair(user: str, solutions: dict[str, list[Calculation]]) -> str:
    """The first calculation whose result was not printed before."""
    given, end = json.JSONDecoder().raw_decode(user)
    if "Write step 1 as a plan" in user[end:]:
        return f"<first_thought>{PLAN}</first_thought>"
    before = {
        _number(found) for one in given["steps_so_far"] for found in NUMBER.findall(f"{one['code']} {one['printed']}")
    }
    solution = solutions.get(given["task"].strip(), [("", "", "0")])
    number = next((n for n, (_, _, result) in enumerate(solution[:-1]) if _number(result) not in before), len(solution))
    return step(solution, number)


def _number(text: str) -> str:
    return text.replace(",", "").strip().removesuffix(".0")


def application(solutions: dict[str, list[Calculation]], key: str) -> web.Application:
    def allowed(request: web.Request) -> None:
        if key and request.headers.get("Authorization") != f"Bearer {key}":
            raise web.HTTPUnauthorized

    async def models(request: web.Request) -> web.Response:
        allowed(request)
        return web.json_response({"object": "list", "data": [{"id": "worked-solutions", "object": "model"}]})

    async def chat(request: web.Request) -> web.Response:
        allowed(request)
        body = await request.json()
        said = reply(body["messages"], solutions)
        message = {"role": "assistant", "content": said}
        words = sum(len(one["content"].split()) for one in body["messages"])
        usage: dict[str, Any] = {"prompt_tokens": words, "completion_tokens": len(said.split())}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"model": "worked-solutions", "choices": [choice], "usage": usage})

    app = web.Application(client_max_size=2**24)
    app.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", chat)])
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    web.run_app(
        application(read(given.files), os.environ.get("WORKED_TEACHER_KEY", "")), host="127.0.0.1", port=given.port
    )


if __name__ == "__main__":
    main()
