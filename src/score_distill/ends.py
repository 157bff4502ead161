"""What an error means to whoever started the command: the exit code and the message. ``cli`` alone turns one into it.

Errors that nobody foresaw are a fault of this program, and keep their trace.
"""

import errno

from score_distill.agent.chat import ChatFormatError
from score_distill.agent.completer import EndpointRefused, EndpointUnavailable
from score_distill.artifacts.data import DataNotUsable
from score_distill.artifacts.models import ModelNotUsable
from score_distill.artifacts.store import StoreDenied, StoreError, StoreFull, StoreUnreachable
from score_distill.contract import Exit, StageError
from score_distill.sandbox.client import SandboxError

KINDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Exit], ...] = (
    ((EndpointUnavailable, SandboxError, StoreUnreachable, StoreFull), Exit.INFRASTRUCTURE),
    ((EndpointRefused, ChatFormatError, DataNotUsable, ModelNotUsable, StoreDenied), Exit.BAD_INPUT),
    (StoreError, Exit.INFRASTRUCTURE),
    (MemoryError, Exit.MODEL),
    (KeyboardInterrupt, Exit.INTERRUPTED),
    ((ConnectionError, TimeoutError), Exit.INFRASTRUCTURE),
)


def end_of(error: BaseException) -> tuple[Exit, str]:
    """The exit code and one message for an error; of a group the first that is understood."""
    if isinstance(error, BaseExceptionGroup):
        ends = [end_of(one) for one in error.exceptions]
        return next((end for end in ends if end[0] != Exit.BUG), ends[0])
    if isinstance(error, StageError):
        return error.exit, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Exit.INFRASTRUCTURE, f"{error.filename or 'disk'}: {error.strerror}; make room and start again"
    if type(error).__name__ == "OutOfMemoryError":
        return Exit.MODEL, f"{error}; lower packTokens, raise zeroStage or use more processes"
    for kinds, code in KINDS:
        if isinstance(error, kinds):
            return code, str(error) or type(error).__name__
    return Exit.BUG, f"{type(error).__name__}: {error}"
