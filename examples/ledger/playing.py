"""Lets a model of the ledger act: batched decoding with transformers, one turn at a time.

For measuring our own models without a server; the product has its own agent loop, sandbox and
servers, and is not used here.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from examples.ledger.family import OBSERVATION, Message, Task
from examples.ledger.interpreter import State, run
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

MAX_STEPS = 14
SPARE_STEPS = 6
TURN_TOKENS = 40
BATCH = 128


@dataclass(frozen=True)
class Played:
    """A conversation so far: the turn texts, the observation after each and the state it left."""

    task: Task
    turns: tuple[str, ...] = ()
    observations: tuple[str, ...] = ()
    states: tuple[State, ...] = (State(),)

    @property
    def state(self) -> State:
        return self.states[-1]

    @property
    def solved(self) -> bool:
        return self.state.answer == self.task.answer

    def messages(self) -> list[Message]:
        """The chat up to the last observation."""
        chat = [{"role": "user", "content": self.task.question}]
        for turn, observation in zip(self.turns, self.observations, strict=True):
            chat.append({"role": "assistant", "content": turn})
            chat.append({"role": "user", "content": f"{OBSERVATION}{observation}"})
        return chat

    def then(self, turn: str) -> "Played":
        """The conversation after one more turn, executed."""
        observation, state = run(turn, self.state, self.task.documents)
        return Played(self.task, (*self.turns, turn), (*self.observations, observation), (*self.states, state))

    def before(self, step: int) -> "Played":
        """The conversation before step `step`, counted from 0."""
        return Played(self.task, self.turns[:step], self.observations[:step], self.states[: step + 1])


@dataclass(frozen=True)
class Player:
    """A model and its tokenizer."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast = field(repr=False)

    @staticmethod
    def load(folder: Path) -> "Player":
        """Reads a Hugging Face folder, in single precision."""
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return Player(model, AutoTokenizer.from_pretrained(folder, padding_side="left"))

    def next_turns(self, played: list[Played], temperature: float = 0) -> list[str]:
        """The model's own next turn in each conversation, greedy at 0; "" where the context is full."""
        prompts = [
            self.tokenizer.apply_chat_template(p.messages(), tokenize=False, add_generation_prompt=True) for p in played
        ]
        context = self.model.config.max_position_embeddings
        encoded = [ids[:context] for ids in self.tokenizer(prompts, add_special_tokens=False)["input_ids"]]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        turns = [""] * len(encoded)
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        for chunk in (order[i : i + BATCH] for i in range(0, len(order), BATCH)):
            fitting = [i for i in chunk if len(encoded[i]) + TURN_TOKENS <= context]
            if fitting:
                batch = self.tokenizer.pad({"input_ids": [encoded[i] for i in fitting]}, return_tensors="pt")
                with torch.no_grad():
                    ids = self.model.generate(**batch, max_new_tokens=TURN_TOKENS, **sampling)
                new = ids[:, batch["input_ids"].shape[1] :]
                for i, text in zip(fitting, self.tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
                    turns[i] = text
        return turns

    def play(self, tasks: list[Task]) -> list[Played]:
        """Plays every task to its answer, or to MAX_STEPS; with many facts, SPARE_STEPS more than there are."""
        return self.go_on([Played(task) for task in tasks])

    def go_on(self, begun: list[Played]) -> list[Played]:
        """Plays every conversation on, to its answer or for as many further turns as `play` has."""
        played = list(begun)
        for _ in range(max(MAX_STEPS, *(len(one.task.documents) + SPARE_STEPS for one in played))):
            going = [i for i, p in enumerate(played) if p.state.answer is None]
            if not going:
                break
            for i, turn in zip(going, self.next_turns([played[i] for i in going]), strict=True):
                played[i] = played[i].then(turn)
        return played
