"""Whether a model can be spoken to as the steps of a run will, told by its tokenizer and chat template."""

from pathlib import Path

from score_distill.agent.chat import ChatFormat
from score_distill.agent.chat_template import ChatFormatError, ChatTemplate, Message
from score_distill.api import Serving

_TALK: list[Message] = [
    {"role": "system", "content": "Solve the task."},
    {"role": "user", "content": "How many cups?"},
    {"role": "assistant", "content": "<thought>count</thought><code>print(1)</code>"},
    {"role": "user", "content": "Observation: 1"},
]


def check_student(folder: Path) -> None:
    """Raise ChatFormatError unless the steps' token ids can be made: with a system message or within the user's."""
    chat = ChatFormat(folder)
    chat.opening(_TALK[:2])
    chat.turn(_TALK[2]["content"])


def check_teacher(folder: Path, serving: Serving) -> None:
    """Raise ChatFormatError unless vLLM can render what a teacher is told, a system message among it."""
    if any(one.partition("=")[0] == "--chat-template" for one in serving.args):
        return
    template = ChatTemplate(folder)
    if not template.takes_system:
        raise ChatFormatError(
            f"{folder}: the chat template takes no system message, by which a teacher is told what to do; give another "
            "teacher, or a template that takes one by --chat-template in spec.teacher.serving.args"
        )
    template.render(_TALK)
    if template.in_json:
        raise ChatFormatError(
            f"{folder}: vLLM does not read chat_template.json; save its text as chat_template.jinja beside it"
        )
