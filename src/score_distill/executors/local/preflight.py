"""Whether a run can begin on this machine, before anything is spent: every fault at once.

Looks at what the steps that are left will use: task files, model folders, the teacher's endpoint and key, packages,
disk and store. It fetches models that are elsewhere, and asks an endpoint for its list of models; nothing is paid for.
"""

import asyncio
import json
import shutil
from collections.abc import Callable, Collection, Iterator
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import aiohttp

from score_distill import secret_keys
from score_distill.agent.chat_models import check_student, check_teacher
from score_distill.agent.completer import address, shown
from score_distill.agent.formats import read_tasks
from score_distill.api import Endpoint, SecretKey, Serving
from score_distill.artifacts.data import open_data
from score_distill.artifacts.models import check_model, model_folder
from score_distill.artifacts.pages import read_pages
from score_distill.artifacts.store import StoreError, check_store
from score_distill.artifacts.vocabulary import check_vocabularies
from score_distill.contract import ON_POLICY
from score_distill.control.pipeline import Step
from score_distill.errors import BadInput
from score_distill.executors.local.layout import RunPaths
from score_distill.serving import vllm
from score_distill.serving.arguments import refusals

FIRST_LINES = 1000
FREE_BYTES, FREE_MODELS = 2**30, 8


class NotReady(BadInput):
    """Everything that stands in the way, one a line in ``faults``."""

    def __init__(self, faults: Collection[str]) -> None:
        self.faults = tuple(faults)
        head = f"this machine cannot run it yet: {len(faults)} fault{'s' * (len(faults) > 1)}"
        super().__init__("\n".join((head, *(f"  {fault}" for fault in faults))))


async def preflight(site: RunPaths, steps: Collection[Step]) -> None:
    """Raise NotReady unless ``steps`` can run here."""
    needs = {need for step in steps for need in step.needs}
    faults = list(_unsupported(site))
    student, teacher = site.run.spec.student, site.run.spec.teacher
    checks: list[Callable[[], Path | None]] = [partial(_store, site)]
    if any(step.verb in ("prepare", "evaluate") for step in steps):
        checks += [partial(_tasks, site, *one) for one in _task_sets(site)]
    search = site.run.spec.search
    if search is not None and search.corpus is not None and any(step.verb == "prepare" for step in steps):
        checks.append(partial(_corpus, site, search.corpus))
    if search is not None and search.endpoint is not None and search.endpoint.api_key_secret is not None:
        checks.append(partial(_search_key, site, search.endpoint.api_key_secret))
    if needs & {"student", "trainer"}:
        serving = student.serving if "student" in needs else None
        checks.append(partial(_model, site, "spec.student", student.model, serving))
    if "teacher" in needs and teacher.model is not None:
        checks.append(partial(_model, site, "spec.teacher", teacher.model, teacher.serving))
    if any(step.name == ON_POLICY for step in steps):
        checks.append(partial(check_vocabularies, student.model, str(teacher.model), site.places))
    folders: list[Path] = []
    for check in checks:
        try:
            if folder := await asyncio.to_thread(check):
                folders.append(folder)
        except BadInput as error:
            faults.append(str(error))
    faults += _packages(site, needs)
    faults += await asyncio.to_thread(lambda: list(_arguments(site, needs)))
    faults += _room(site, folders)
    if "teacher" in needs and teacher.endpoint is not None:
        try:
            await ask_endpoint(teacher.endpoint, site)
        except BadInput as error:
            faults.append(str(error))
    if faults:
        raise NotReady(faults)


def _unsupported(site: RunPaths) -> Iterator[str]:
    spec = site.run.spec
    if spec.resources.trainer.nodes > 1:
        yield f"spec.resources.trainer.nodes: {spec.resources.trainer.nodes}; must be 1 on one machine"
    trainer = spec.resources.trainer
    if site.machine.gpus and trainer.processes > site.machine.gpus:
        field = "gpus" if trainer.processes_per_node is None else "processesPerNode"
        yield (
            f"spec.resources.trainer.{field}: {trainer.processes}; must be at most {site.machine.gpus}, the GPUs of "
            "this machine"
        )


def _task_sets(site: RunPaths) -> Iterator[tuple[str, str, str]]:
    tasks = site.run.spec.tasks
    yield "spec.tasks.train", tasks.train.uri, tasks.train.format
    for i, one in enumerate(tasks.eval):
        yield f"spec.tasks.eval[{i}]", one.uri, one.format


def _tasks(site: RunPaths, path: str, uri: str, form: str) -> None:
    """The first lines of a task file; ``prepare`` reads the others before anything is paid for."""
    try:
        lines = islice(open_data(uri, site.places), FIRST_LINES)
        for _ in read_tasks(lines, form, uri):  # type: ignore[arg-type]
            pass
    except (BadInput, StoreError) as error:
        raise BadInput(f"{path}: {error}") from error


def _corpus(site: RunPaths, uri: str) -> None:
    """The first pages; ``prepare`` reads the others before anything is paid for."""
    try:
        for _ in islice(read_pages(uri, site.places), FIRST_LINES):
            pass
    except (BadInput, StoreError) as error:
        raise BadInput(f"spec.search.corpus: {error}") from error


def _search_key(site: RunPaths, secret: SecretKey) -> None:
    try:
        secret_keys.find(secret, site.environ)
    except BadInput as error:
        raise BadInput(f"spec.search.endpoint.apiKeySecret: {error}") from error


def _model(site: RunPaths, path: str, uri: str, serving: Serving | None) -> Path:
    try:
        folder = model_folder(uri, site.places)
        check_model(folder, uri)
        if path == "spec.student":
            check_student(folder)
        else:
            check_teacher(folder, site.run.spec.teacher.serving)
    except (BadInput, StoreError) as error:
        raise BadInput(f"{path}.model: {error}") from error
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    longest = config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")
    if serving is not None and isinstance(longest, int) and longest < serving.context_length:
        raise BadInput(
            f"{path}.serving.contextLength: {serving.context_length}; must be at most {longest}, the longest context "
            f"of {uri} (max_position_embeddings)"
        )
    return folder


def _arguments(site: RunPaths, needs: Collection[str]) -> Iterator[str]:
    """What vLLM's parser says of ``serving.args``; of those that the product gives itself its tests know."""
    spec = site.run.spec
    own = {"student": spec.student.serving} | ({"teacher": spec.teacher.serving} if spec.teacher.model else {})
    served = {role: serving for role, serving in own.items() if role in needs and serving.args}
    commands = [vllm.command(Path(role), role, serving, 1, site.machine) for role, serving in served.items()]
    environ = vllm.environ(site.environ, site.machine, site.work / "vllm", managed=False)
    for (role, serving), said in zip(served.items(), refusals(commands, environ), strict=True):
        if said:
            yield f"spec.{role}.serving.args: {list(serving.args)}; vLLM refuses: {said}"


def _packages(site: RunPaths, needs: Collection[str]) -> Iterator[str]:
    serves = "student" in needs or ("teacher" in needs and site.run.spec.teacher.model is not None)
    wanted = {"vllm": serves, "deepspeed": "trainer" in needs}
    wanted |= dict.fromkeys(site.run.spec.method.agent.libraries, "sandbox" in needs)
    for package, needed in wanted.items():
        if needed and find_spec(package) is None:
            yield f"the Python package {package} is not installed; make setup installs all that a run needs"


def _room(site: RunPaths, models: Collection[Path]) -> Iterator[str]:
    """Disk for checkpoints and caches: a bound below which no run can end, not a promise that it is enough."""
    largest = max((sum(file.stat().st_size for file in model.glob("*.safetensors")) for model in models), default=0)
    wanted = FREE_BYTES + FREE_MODELS * largest
    existing = next(folder for folder in (site.folder, *site.folder.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < wanted:
        yield f"{existing}: {free / 2**30:.1f} GiB free; at least {wanted / 2**30:.1f} GiB are needed; give --work DIR"


def _store(site: RunPaths) -> None:
    try:
        check_store(site.store, site.key)
    except (StoreError, OSError) as error:
        raise BadInput(f"spec.artifacts.uri: {error}") from error


async def ask_endpoint(endpoint: Endpoint, site: RunPaths) -> None:
    """Ask for the list of models; BadInput when the endpoint does not answer, refuses the key or lacks the model."""
    path = "spec.teacher.endpoint"
    headers = {one.name: one.value for one in endpoint.headers if one.value is not None}
    for i, one in enumerate(endpoint.headers):
        if one.secret is not None:
            try:
                headers[one.name] = secret_keys.find(one.secret, site.environ)
            except BadInput as error:
                raise BadInput(f"{path}.headers[{i}].secret: {error}") from error
    if endpoint.api_key_secret is not None:
        headers["Authorization"] = f"Bearer {secret_keys.find(endpoint.api_key_secret, site.environ)}"
    where = address(endpoint.url.rstrip("/"), "models")
    url = shown(str(where))
    timeout = aiohttp.ClientTimeout(total=30, sock_connect=10)
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
            session.get(where, allow_redirects=False) as response,
        ):
            status, body = response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BadInput(f"{path}.url: {url}: no answer ({type(error).__name__}); is the endpoint up?") from error
    if status in (401, 403):
        given = "the key was refused" if headers else "it wants a key"
        raise BadInput(f"{path}.apiKeySecret: {url}: HTTP {status}: {given}")
    if status in (404, 405):
        return
    if status != 200:
        raise BadInput(f"{path}.url: {url}: HTTP {status}; give the base URL up to and with /v1")
    try:
        names = [str(one["id"]) for one in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}.url: {url}: not an OpenAI-compatible list of models") from error
    if names and endpoint.model not in names:
        some = ", ".join(names[:5])
        raise BadInput(f"{path}.model: {endpoint.model}; must be one that the endpoint serves ({some} ...)")
