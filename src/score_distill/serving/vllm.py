"""How vLLM is started for a run: the command and the environment, pure. Keeping it up is ``servers.py``.

It listens on 127.0.0.1 alone. The API key is added to the environment as VLLM_API_KEY, never to the arguments. Only
the student's server has vLLM's management routes (weight push), which no key guards.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from score_distill.api import Serving
from score_distill.machine import Machine


def command(
    model: Path,
    name: str,
    serving: Serving,
    port: int,
    machine: Machine,
    *,
    python: str = sys.executable,
    gpus: int = 1,
) -> list[str]:
    """``gpus`` share the model; ``serving.args`` come last, and so win."""
    options = {
        "--model": str(model),
        "--served-model-name": name,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": serving.dtype,
        "--max-model-len": str(serving.context_length),
        # Of what is sampled, after temperature and top_p: RL weighs samples by it. Prompts are scored without either.
        "--logprobs-mode": "processed_logprobs",
        # The manifest alone says how is sampled: no top_k or repetition_penalty of the model's generation_config.json.
        "--generation-config": "vllm",
        "--uvicorn-log-level": "warning",
    }
    flags = ["--enable-prompt-tokens-details", "--enable-prefix-caching"]
    if not machine.gpus:
        # A chunk of a seeded request's prompt takes a sample back, which a CPU generator cannot: the engine dies.
        flags += ["--enforce-eager", "--no-enable-chunked-prefill"]
        # With its own variable below: the worker in the engine's process, or the two wait for each other by spinning.
        flags += ["--distributed-executor-backend", "uni"]
    if gpus > 1:
        options["--tensor-parallel-size"] = str(gpus)
    words = [word for option in options.items() for word in option]
    return [python, "-m", "vllm.entrypoints.openai.api_server", *words, *flags, *serving.args]


def environ(given: Mapping[str, str], machine: Machine, home: Path, *, managed: bool) -> dict[str, str]:
    """``home`` takes every file that vLLM would leave in the user's folders; ``managed`` opens the weight push."""
    secrets = ("AWS_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    kept = {name: value for name, value in given.items() if not name.startswith(secrets)}
    own = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_SERVER_DEV_MODE": "1" if managed else "0",
    }
    for_cpu = {
        "VLLM_CPU_KVCACHE_SPACE": str(machine.cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(max(1, machine.cores // 2)),
        "TORCHDYNAMO_DISABLE": "1",  # prompt log-probabilities would call a compiler
    }
    return {**({} if machine.gpus else for_cpu), **kept, **own}
