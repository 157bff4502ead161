"""What stands in the way is told before anything is spent: real files, real folders, a real HTTP endpoint."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from score_distill import manifest
from score_distill.control.pipeline import steps_of
from score_distill.executors.local.layout import RunPaths, run_paths
from score_distill.executors.local.preflight import NotReady, preflight
from score_distill.machine import Machine

KEY = "sk-right-0815"
STUDENT = Path("examples/ledger/models/student")
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


@pytest.fixture
async def endpoint() -> AsyncIterator[str]:
    """An OpenAI-compatible list of models behind a key."""

    async def models(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "bad key"}, status=401)
        return web.json_response({"data": [{"id": "big"}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"{runner.addresses[0][0]}:{runner.addresses[0][1]}"
    await runner.cleanup()


def model(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STUDENT / name, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    row = json.dumps({"question": "1 + 1?", "answer": "2"})
    (tmp_path / "train.jsonl").write_text(row + "\n")
    (tmp_path / "test.jsonl").write_text(row + "\n")
    model(tmp_path / "student")
    model(tmp_path / "teacher")
    return tmp_path


def site(home: Path, environ: dict[str, str] | None = None, **spec: Any) -> RunPaths:
    base = {
        "student": {"model": "student"},
        "teacher": {"model": "teacher"},
        "tasks": {"train": {"uri": "train.jsonl"}, "eval": [{"name": "test", "uri": "test.jsonl"}]},
        "artifacts": {"uri": "runs"},
    }
    run = manifest.parse(
        {
            "apiVersion": "distill.score.dev/v1alpha1",
            "kind": "DistillationRun",
            "metadata": {"name": "r"},
            "spec": base | spec,
        }
    )
    return run_paths(run, home, None, environ or {}, Machine(cores=2, memory_gib=8, gpus=0))


async def faults(site: RunPaths) -> tuple[str, ...]:
    with pytest.raises(NotReady) as error:
        await preflight(site, steps_of(site.run.spec))
    return error.value.faults


async def test_a_run_that_can_begin_passes_and_leaves_nothing_in_the_store(home: Path) -> None:
    await preflight(site(home), steps_of(site(home).run.spec))
    assert not list((home / "runs").rglob("preflight*"))


async def test_every_fault_is_told_at_once(home: Path) -> None:
    (home / "train.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": "x"}\n')
    (home / "test.jsonl").unlink()
    (home / "student" / "tokenizer.json").unlink()
    (home / "teacher" / "chat_template.jinja").unlink()
    (home / "runs").write_text("a file where the store should be")
    found = await faults(site(home, resources={"trainer": {"nodes": 2}}))
    expected = [
        "spec.resources.trainer.nodes: 2; must be 1 on one machine",
        "spec.artifacts.uri: ",
        "spec.tasks.train: train.jsonl:2: ",
        "spec.tasks.eval[0]: test.jsonl: no file",
        "spec.student.model: student: no tokenizer.json",
        "spec.teacher.model: teacher: no chat template",
    ]
    assert [line for line, begin in zip(found, expected, strict=True) if not line.startswith(begin)] == []


async def test_a_context_longer_than_the_models_is_refused(home: Path) -> None:
    (home / "student" / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 512}))
    (found,) = await faults(site(home))
    assert found.startswith("spec.student.serving.contextLength: 8192; must be at most 512")


@pytest.mark.parametrize("wrong", ["--no-such-flag", "--max-num-seqs=many"])
async def test_what_vllm_would_refuse_is_told_in_its_words(home: Path, wrong: str) -> None:
    right = {"model": "student", "serving": {"args": ["--no-enable-prefix-caching"]}}
    found = await faults(site(home, student=right, teacher={"model": "teacher", "serving": {"args": [wrong]}}))
    assert [
        line for line in found if not line.startswith(f"spec.teacher.serving.args: ['{wrong}']; vLLM refuses: ")
    ] == []
    assert wrong.partition("=")[0] in found[0].partition("refuses: ")[2]


@pytest.mark.parametrize(
    ("template", "role", "says"),
    [
        (TEMPLATE.replace("in messages", "in messages if m.role != 'system'"), "teacher", "takes no system message"),
        ("{{ raise_exception('no') }}", "student", "the chat template fails: no"),
        ("{% for m in messages %}{{ m.content }} {% endfor %}", "student", "without a special token"),
        ("{% for m in", "student", "the chat template is not Jinja"),
    ],
)
async def test_a_chat_template_that_steps_cannot_use_is_told(home: Path, template: str, role: str, says: str) -> None:
    (home / role / "chat_template.jinja").write_text(template)
    (found,) = await faults(site(home))
    assert found.startswith(f"spec.{role}.model: ") and says in found


async def test_only_what_is_left_to_do_is_looked_at(home: Path) -> None:
    (home / "train.jsonl").unlink()
    (home / "teacher" / "config.json").unlink()
    one = site(home)
    await preflight(one, [step for step in steps_of(one.run.spec) if step.name == "sft"])


async def test_a_teacher_that_scores_has_the_students_vocabulary(home: Path) -> None:
    one = site(home, method={"rl": {"controls": ["OnPolicyDistillation"]}})
    for role, words in (("student", ["a", "b"]), ("teacher", ["b", "a"])):
        tokenizer = json.loads((home / role / "tokenizer.json").read_text())
        tokenizer["added_tokens"] += [
            {**tokenizer["added_tokens"][0], "id": 5000 + n, "content": word} for n, word in enumerate(words)
        ]
        (home / role / "tokenizer.json").write_text(json.dumps(tokenizer))
    (found,) = await faults(one)
    assert found.startswith("spec.method.rl.controls: OnPolicyDistillation; the teacher must have the student's ")
    others = [step for step in steps_of(one.run.spec) if step.name != "distil-on-policy"]
    await preflight(one, others)


def behind(address: str, **more: Any) -> dict[str, Any]:
    secret = {"name": "teacher", "key": "api-key"}
    return {"endpoint": {"url": f"http://{address}/v1", "model": "big", "apiKeySecret": secret, **more}}


async def test_an_endpoint_that_answers_passes(home: Path, endpoint: str) -> None:
    one = site(home, {"TEACHER_API_KEY": KEY}, teacher=behind(endpoint))
    await preflight(one, steps_of(one.run.spec))


@pytest.mark.parametrize(
    ("environ", "more", "says"),
    [
        ({}, {}, "secret teacher, key api-key: not found; give it as variable TEACHER_API_KEY"),
        ({"TEACHER_API_KEY": "sk-wrong-4711"}, {}, "spec.teacher.endpoint.apiKeySecret: "),
        ({}, {"apiKeySecret": None}, "spec.teacher.endpoint.apiKeySecret: "),
        ({"TEACHER_API_KEY": KEY}, {"model": "small"}, "spec.teacher.endpoint.model: small; must be one that"),
        ({"TEACHER_API_KEY": KEY}, {"url": "http://127.0.0.1:9/v1"}, "spec.teacher.endpoint.url: "),
    ],
)
async def test_an_endpoint_that_cannot_be_used_is_told_without_its_key(
    home: Path, endpoint: str, environ: dict[str, str], more: dict[str, Any], says: str
) -> None:
    (found,) = await faults(site(home, environ, teacher=behind(endpoint, **more)))
    assert found.startswith(says)
    assert "sk-" not in found
