"""What vLLM's own parser says of the arguments that it would be started with, where vLLM is installed."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

SECONDS = 120.0  # to import vLLM on a busy machine
REFUSED = 2  # the exit code of argparse, and so of a vLLM that was given what it does not know

_ASK = """
import sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
validate_parsed_serve_args(make_arg_parser(FlexibleArgumentParser(prog="vllm")).parse_args(sys.argv[1:]))
"""


def refusal(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Why vLLM would refuse a command of `vllm.command`; empty when it would not, or cannot be asked here."""
    if find_spec("vllm") is None:
        return ""
    options = command[command.index("--model") :]
    asked = [sys.executable, "-c", _ASK, *options]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, env=dict(environ), timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode != REFUSED:
        return ""
    return done.stderr.strip().rpartition("\n")[2].removeprefix("vllm: error: ")
