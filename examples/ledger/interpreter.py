"""Executes one step of a ledger trajectory; for pretraining and measuring our own tiny models only.

The product runs a student's code in its sandbox; here plain `exec` without builtins is enough,
because the models know no words but the ledger's. It gives the same observation text. States are
values: running a step returns a new one and leaves the old one as it was.
"""

import re
from dataclasses import dataclass, field

from examples.ledger.family import END_OF_DOCUMENTS

TURN = re.compile(r"<thought>.*?</thought><code>(.*?)</code>", re.DOTALL)
NO_CODE = "SyntaxError: a step is <thought>...</thought><code>...</code>"


@dataclass(frozen=True)
class State:
    """Variables of the interpreter, how many documents were read, and the answer once given."""

    variables: dict[str, int] = field(default_factory=dict)
    cursor: int = 0
    answer: str | None = None


def run(turn: str, state: State, documents: tuple[str, ...]) -> tuple[str, State]:
    """The observation after an assistant turn, and the state it leaves."""
    found = TURN.fullmatch(turn)
    if found is None:
        return NO_CODE, state
    printed: list[str] = []
    cursor, answer = state.cursor, state.answer

    def read() -> str:
        nonlocal cursor
        cursor += 1
        return documents[cursor - 1] if cursor <= len(documents) else END_OF_DOCUMENTS

    def final_answer_print(value: object) -> None:
        nonlocal answer
        answer = str(value)
        printed.append(answer)

    tools = {
        "__builtins__": {},
        "print": lambda *values: printed.append(" ".join(map(str, values))),
        "read": read,
        "final_answer_print": final_answer_print,
    }
    scope = tools | state.variables
    try:
        exec(found[1], scope)
    except Exception as error:  # whatever the model wrote, the error is its observation
        printed.append(f"{type(error).__name__}: {error}")
    variables = {name: value for name, value in scope.items() if name not in tools and isinstance(value, int)}
    return "\n".join(printed) or "None", State(variables, cursor, answer)
