"""The student's prompt for a task: the one that it acts on is the one that it is trained on."""

from score_distill.agent import prompts, tools
from score_distill.agent.chat import ChatFormat
from score_distill.agent.trajectory import Task
from score_distill.stages.context import StageContext


def opening_ids(chat: ChatFormat, frame: StageContext, task: Task) -> tuple[int, ...]:
    """The student's prompt for a task, in every stage the same."""
    spec = frame.config.spec
    told = tools.words(spec.tools, spec.method.agent.libraries)
    return chat.opening(prompts.opening(task, told, style=spec.student.prompt, plan=spec.method.agent.plan))
