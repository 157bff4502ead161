"""A journal on S3, which cannot append: rows are buffered and stored as numbered parts.

A part goes out when it is large, when the time is up (from a thread, so that a stalled stage loses nothing) and on
close. A process killed in between loses at most that interval, never a part. What could not be stored stays in the
buffer; the next `append` says why, and `close` tries once more.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from score_distill.artifacts.store import StoreError, encode_row


class S3Appender:
    def __init__(
        self, put: Callable[[str, bytes], object], prefix: str, seconds: float = 10.0, size: int = 1 << 20
    ) -> None:
        self._put, self._prefix, self._seconds, self._size = put, prefix, seconds, size
        self._rows = bytearray()
        self._part = 0
        self._failure: StoreError | None = None
        self._rows_lock, self._sending = threading.Lock(), threading.Lock()
        self._closed = threading.Event()
        self._timer = threading.Thread(target=self._flush_in_time, name=f"journal {prefix}", daemon=True)
        self._timer.start()

    def append(self, record: Mapping[str, Any]) -> None:
        line = encode_row(record)
        if self._closed.is_set():
            raise ValueError(f"{self._prefix}: the journal is closed")
        if self._failure:
            raise self._failure
        with self._rows_lock:
            self._rows += line
        if len(self._rows) >= self._size:
            self.flush()

    def flush(self) -> None:
        with self._sending:
            with self._rows_lock:
                rows = bytes(self._rows)
            if rows:
                self._put(f"{self._prefix}/{self._part:08d}.jsonl", rows)
                self._part += 1
                with self._rows_lock:
                    del self._rows[: len(rows)]

    def close(self) -> None:
        self._closed.set()
        self._timer.join()
        self.flush()

    def _flush_in_time(self) -> None:
        while not self._closed.wait(self._seconds):
            try:
                self.flush()
            except StoreError as error:
                self._failure = error
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
