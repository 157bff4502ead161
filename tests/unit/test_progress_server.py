"""Progress by HTTP: what the operator asks for, and what Prometheus scrapes."""

import urllib.error
import urllib.request
from pathlib import Path

from score_distill.contract import Progress
from score_distill.progress_server import serve
from score_distill.work_folder import WorkFolder


def test_progress_is_told_as_it_is_now_and_nothing_else(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path)
    server = serve(folder, "mentor", 0)
    root = f"http://127.0.0.1:{server.server_port}"

    def read(path: str) -> bytes:
        with urllib.request.urlopen(root + path, timeout=5) as reply:
            return bytes(reply.read())

    assert read("/progress") == b"null"
    told = Progress(done=3, total=9, unit="tasks", message="fine", figures={"corrections": 4})
    folder.write_progress(0, told)
    assert Progress.model_validate_json(read("/progress")) == told
    assert b'score_stage_done{step="mentor",unit="tasks"} 3.0' in read("/metrics")
    assert b'score_stage_figure{figure="corrections",step="mentor"} 4.0' in read("/metrics")
    try:
        read("/stage.json")
    except urllib.error.HTTPError as error:
        assert error.code == 404
    else:
        raise AssertionError("only progress is told")
    server.shutdown()
