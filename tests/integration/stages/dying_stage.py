"""A stage that is killed by signal 9 as it is about to store a key: ``dying_stage.py CONFIG WORD-OF-THE-KEY``."""

import importlib
import os
import signal
import sys
from pathlib import Path

from score_distill.artifacts.folder import FolderStore
from score_distill.work_folder import read_config


class Deadly(FolderStore):
    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        if sys.argv[2] in key:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().put(key, data, if_absent=if_absent)


config = read_config(Path(sys.argv[1]))
importlib.import_module(f"score_distill.stages.{config.verb}").run(config, Deadly(Path(config.store)))
