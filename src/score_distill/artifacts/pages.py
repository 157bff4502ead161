"""The pages of a corpus that the manifest names: text files of a folder, or lines of JSON, local or on S3, streamed."""

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from score_distill.artifacts.data import DataNotUsable, open_data
from score_distill.artifacts.uris import UriResolver, local_path, scheme

ENDINGS = (".txt", ".md")


class Page(NamedTuple):
    """One text; ``url`` is its address, or its place in the corpus."""

    title: str
    url: str
    text: str


def read_pages(uri: str, places: UriResolver) -> Iterator[Page]:
    """Every page, in the same order each time; DataNotUsable says which file or line is none, or that there is none."""
    found = False
    for page in _lines(uri, places) if uri.endswith((".jsonl", ".jsonl.gz")) else _files(uri, places):
        found = True
        yield page
    if not found:
        raise DataNotUsable(f"{uri}: no pages; give a folder of .txt and .md files, or a .jsonl file")


def _lines(uri: str, places: UriResolver) -> Iterator[Page]:
    for number, row in enumerate(open_data(uri, places), 1):
        if row.strip():
            try:
                yield _page(json.loads(row.decode("utf-8-sig")), number)
            except (ValueError, RecursionError) as error:
                raise DataNotUsable(f"{uri}:{number}: {error}") from error


def _page(row: object, number: int) -> Page:
    if not isinstance(row, dict) or not isinstance(text := row.get("text"), str) or not text.strip():
        raise ValueError("must be a JSON object with a text that is not empty")
    given = {name: str(row[name]) for name in ("id", "title", "url") if row.get(name) is not None}
    url = given.get("url") or given.get("id") or str(number)
    return Page(given.get("title", url), url, text)


def _files(uri: str, places: UriResolver) -> Iterator[Page]:
    for name, content in _contents(uri, places):
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataNotUsable(f"{uri}: {name} is not UTF-8 text") from error
        if text.strip():
            heading = re.match(r"\s*#\s+(\S.*)", text)
            yield Page(heading[1] if heading else PurePosixPath(name).stem, name, text)


def _contents(uri: str, places: UriResolver) -> Iterator[tuple[str, bytes]]:
    """Names, relative to the folder, and contents of its text files."""
    try:
        if scheme(uri) == "s3":
            from score_distill.artifacts.s3 import open_s3

            store = open_s3(uri, places.environ)
            for key in sorted(store.list("")):
                if key.endswith(ENDINGS):
                    yield key, store.get(key)
            return
        folder = local_path(uri, places.base, places.claims)
        for path in sorted(folder.rglob("*")):
            if path.suffix in ENDINGS and path.is_file():
                yield path.relative_to(folder).as_posix(), path.read_bytes()
    except OSError as error:
        raise DataNotUsable(f"{uri}: {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise DataNotUsable(f"{uri}: {error}") from error
