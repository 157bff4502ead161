"""Every paid model call, written down before its reply is used: what it cost, and what it said.

A stage that was killed runs its tasks again from the start, but calls that are in the ledger are answered from it: no
token is paid twice but those of the calls in flight. The same lines, summed, are the run's token accounts.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from score_distill.agent.chat_template import Message
from score_distill.agent.completer import Completer, Completion, Usage
from score_distill.api import Sampling
from score_distill.contract import Role
from score_distill.errors import BudgetSpent

Record = dict[str, Any]


@dataclass
class Account:
    """Tokens and calls by (role, purpose)."""

    totals: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, role: str, purpose: str, usage: Usage) -> None:
        row = self.totals.setdefault((role, purpose), [0, 0, 0, 0])
        for n, value in enumerate((1, usage.prompt, usage.cached, usage.completion)):
            row[n] += value

    def rows(self) -> list[Record]:
        names = ("calls", "prompt", "cached", "completion")
        return [
            {"role": role, "purpose": purpose, **dict(zip(names, row, strict=True))}
            for (role, purpose), row in sorted(self.totals.items())
        ]

    def restore(self, rows: list[Record]) -> None:
        """Take in what `rows` gave before a restart."""
        for row in rows:
            total = self.totals.setdefault((row["role"], row["purpose"]), [0, 0, 0, 0])
            for n, name in enumerate(("calls", "prompt", "cached", "completion")):
                total[n] += row[name]

    def tokens(self, role: Role) -> int:
        """Prompt and completion tokens of a role together."""
        return sum(row[1] + row[3] for (who, _), row in self.totals.items() if who == role)


class Ledger:
    """Where calls are written, and what tasks under way were answered.

    A call is as durable as the journal behind ``write``: in a folder against kill -9 at once, on S3 within ten seconds;
    those that a kill loses are paid again.

    ``past`` are the records of earlier attempts; those of tasks in ``finished`` count, but are not kept in memory.
    With ``remember`` a task that is begun anew is not asked for what it was answered in this attempt, until `settle`.
    ``mine`` are the tasks of this worker; None: all. ``own`` counts what they cost, in whichever attempt.
    ``teacher_tokens`` bounds what the teacher's calls cost together, over all attempts; of what ``past`` leaves of them
    this one of ``workers`` may spend its share.
    """

    def __init__(
        self,
        write: Callable[[Record], None],
        past: Iterable[Record] = (),
        finished: frozenset[str] = frozenset(),
        teacher_tokens: int | None = None,
        *,
        remember: bool = True,
        workers: int = 1,
        mine: frozenset[str] | None = None,
    ) -> None:
        self._write, self._teacher_tokens, self._remember = write, teacher_tokens, remember
        self._known: dict[str, dict[str, Record]] = {}
        self.account = Account()
        self.own = self.account if mine is None else Account()
        for record in past:
            own = mine is None or record["task"] in mine
            self._count(record["role"], record["purpose"], Usage(**record["usage"]), own=own)
            if record["task"] not in finished:
                self._known.setdefault(record["task"], {}).setdefault(record["key"], record)
        if teacher_tokens is not None:
            before = self.account.tokens("teacher")
            self._teacher_tokens = before + (teacher_tokens - before) // workers

    def known(self, task: str, key: str) -> Completion | None:
        record = self._known.get(task, {}).get(key)
        if record is None:
            return None
        reply = record["reply"]
        return Completion(
            reply["text"],
            Usage(**record["usage"]),
            reply["truncated"],
            tuple(reply["tokens"]),
            tuple(reply["logprobs"]),
        )

    def allow(self, role: Role) -> None:
        """Raises BudgetSpent before a call that would be paid from a budget that is spent."""
        if role == "teacher" and self._teacher_tokens is not None:
            spent = self.account.tokens("teacher")
            if spent >= self._teacher_tokens:
                raise BudgetSpent(
                    f"spec.budget.teacherTokens: {self._teacher_tokens:,} were left for this worker, "
                    f"{spent:,} are spent"
                )

    def enter(self, key: str, task: str, role: Role, purpose: str, completion: Completion) -> None:
        reply = asdict(completion)
        usage = reply.pop("usage")
        record = {"key": key, "task": task, "role": role, "purpose": purpose, "usage": usage, "reply": reply}
        self._write(record)
        self._count(role, purpose, completion.usage, own=True)
        if self._remember:
            self._known.setdefault(task, {})[key] = record

    def _count(self, role: str, purpose: str, usage: Usage, *, own: bool) -> None:
        self.account.add(role, purpose, usage)
        if own and self.own is not self.account:
            self.own.add(role, purpose, usage)

    def settle(self, task: str) -> None:
        """The task has its outcome: its calls are forgotten here."""
        self._known.pop(task, None)


@dataclass(frozen=True)
class Caller:
    """A completer whose calls for one task and purpose go through the ledger.

    ``revision`` names the model's weights, so that a reply of other weights is never taken for this one's.
    """

    completer: Completer
    ledger: Ledger
    role: Role
    revision: str
    task: str
    purpose: str

    async def generate(
        self,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        stop_token: int,
        logprobs: bool = False,
    ) -> Completion:
        key = self._key(list(prompt), max_tokens, sampling, seed, logprobs)
        if known := self.ledger.known(self.task, key):
            return known
        self.ledger.allow(self.role)
        completion = await self.completer.generate(
            prompt, max_tokens=max_tokens, sampling=sampling, seed=seed, stop_token=stop_token, logprobs=logprobs
        )
        self.ledger.enter(key, self.task, self.role, self.purpose, completion)
        return completion

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        key = self._key(list(messages), max_tokens, sampling, seed, schema)
        if known := self.ledger.known(self.task, key):
            return known
        self.ledger.allow(self.role)
        completion = await self.completer.chat(
            messages, max_tokens=max_tokens, sampling=sampling, seed=seed, schema=schema
        )
        self.ledger.enter(key, self.task, self.role, self.purpose, completion)
        return completion

    async def score(self, tokens: Sequence[int]) -> Completion:
        key = self._key(list(tokens), 0, Sampling(temperature=1), "score")
        if known := self.ledger.known(self.task, key):
            return known
        self.ledger.allow(self.role)
        completion = await self.completer.score(tokens)
        self.ledger.enter(key, self.task, self.role, self.purpose, completion)
        return completion

    def _key(self, prompt: list[Any], max_tokens: int, sampling: Sampling, *more: object) -> str:
        asked = [self.revision, self.task, self.purpose, prompt, max_tokens, sampling.model_dump(), *more]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
