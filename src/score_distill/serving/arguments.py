"""What vLLM's own parser says of the arguments that it would be started with, where vLLM is installed."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

SECONDS = 120.0  # to import vLLM on a busy machine

_ASK = """
import contextlib, io, json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
said = []
for options in json.loads(sys.argv[1]):
    words = io.StringIO()
    with contextlib.redirect_stderr(words):
        try:
            validate_parsed_serve_args(make_arg_parser(FlexibleArgumentParser(prog="vllm")).parse_args(options))
        except (SystemExit, TypeError, ValueError) as error:
            words.write(f"{error}" if not isinstance(error, SystemExit) else "")
        else:
            words = io.StringIO()
    said.append(words.getvalue().strip().rpartition("\\n")[2].removeprefix("vllm: error: "))
print(json.dumps(said))
"""


def refusals(commands: Sequence[Sequence[str]], environ: Mapping[str, str]) -> list[str]:
    """Why vLLM would refuse each command of `vllm.command`; empty where it would not, or cannot be asked here."""
    nothing = [""] * len(commands)
    if not commands or find_spec("vllm") is None:
        return nothing
    options = [list(command[command.index("--model") :]) for command in commands]
    asked = [sys.executable, "-c", _ASK, json.dumps(options)]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, env=dict(environ), timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return nothing
    if done.returncode:
        return nothing
    said: list[str] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return said
