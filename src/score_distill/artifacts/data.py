"""Lines of a data file named in the manifest: JSON Lines, plain or gzip, local or on S3, streamed.

What a line means is the reader's business; it gets every line, so that its number is right. A file of another kind is
known by how it begins, and told as what it is.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from io import BufferedReader

from score_distill.artifacts.store import StoreMissing
from score_distill.artifacts.uris import UriResolver, local_path, scheme
from score_distill.errors import BadInput

HEAD = 4096
GZIP = b"\x1f\x8b"
_LINES = "write it as JSON Lines, one JSON object a line"
_UNPACK = "unpack it, or pack it with gzip"
_BEGINNINGS = {
    GZIP: ("gzip within gzip", "unpack it once"),
    b"PAR1": ("a Parquet file", f'{_LINES}, such as pandas.read_parquet(A).to_json(B, orient="records", lines=True)'),
    b"ARROW1": ("an Arrow file", _LINES),
    b"\xff\xff\xff\xff": ("an Arrow stream", _LINES),
    b"Obj\x01": ("an Avro file", _LINES),
    b"ORC": ("an ORC file", _LINES),
    b"SQLite format 3\0": ("an SQLite database", _LINES),
    b"\x89HDF": ("an HDF5 file", _LINES),
    b"\x93NUMPY": ("a NumPy array", _LINES),
    b"%PDF": ("a PDF", _LINES),
    b"\xd0\xcf\x11\xe0": ("an old Office file such as .xls", _LINES),
    b"PK": ("a zip archive or an .xlsx table", f"unpack it; of a table {_LINES.replace('it', 'its rows', 1)}"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", _UNPACK),
    b"\x04\x22\x4d\x18": ("compressed with lz4", _UNPACK),
    b"BZh": ("compressed with bzip2", _UNPACK),
    b"\xfd7zXZ\0": ("compressed with xz", _UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "get the file with git lfs pull"),
    b"/annex/objects/": ("a git-annex pointer, not the file itself", "get the file with git annex get"),
    b"\xff\xfe\0\0": ("UTF-32 text", "save it as UTF-8"),
    b"\xff\xfe": ("UTF-16 text", "save it as UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "save it as UTF-8"),
}
_TEXTS = {
    rb"<[!?a-zA-Z]": ("an HTML or XML page, such as a login or an error", "download the file again"),
    rb"\[\s*(?:\{|\Z)": ("a JSON array", "write its objects one a line, such as by jq -c '.[]'"),
    rb"\{[^\n]*\},\s*\n": ("JSON objects with commas between them", "drop the commas at the ends of lines"),
    rb"\{(?:[^\n]*[,{\[:])?\s*\n": (
        "one JSON object over several lines",
        "write each object on one line, such as by jq -c",
    ),
    rb"-\s+\w+:|---\s": ("YAML by its looks", _LINES),
    rb'"?[\w .-]{1,40}"?(?:[,;\t]"?[\w .-]{1,40}"?)+\r?(?:\n|\Z)': ("a CSV table by its looks", _LINES),
}


class DataNotUsable(BadInput):
    """The data file cannot be read; the message says what would be right."""


def open_data(uri: str, places: UriResolver) -> Iterator[bytes]:
    """Every line with its end, as stored; DataNotUsable with the first line or where the file breaks, or StoreError."""
    try:
        with _open(uri, places) as file:
            packed = uri.endswith(".gz") or file.peek(2).startswith(GZIP)
            lines = gzip.GzipFile(fileobj=file) if packed else file
            if found := another_kind(lines.peek(HEAD)[:HEAD]):
                raise DataNotUsable(f"{uri}: {found}")
            yield from lines
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataNotUsable(f"{uri}: damaged gzip ({error}); copy the file again, or drop .gz from its name") from error
    except FileNotFoundError as error:
        raise DataNotUsable(f"{uri}: no file {error.filename}; relative paths start at {places.base}") from error
    except IsADirectoryError as error:
        raise DataNotUsable(f"{uri}: a folder; name one file of JSON Lines") from error
    except PermissionError as error:
        raise DataNotUsable(f"{uri}: no permission to read {error.filename}") from error
    except (StoreMissing, ValueError) as error:
        raise DataNotUsable(f"{uri}: {error}") from error


def another_kind(head: bytes) -> str:
    """What a file that begins so is, and what would be right, where it is known not to be JSON Lines; else empty."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for what, right in (
        *(told for beginning, told in _BEGINNINGS.items() if head.startswith(beginning)),
        *(told for pattern, told in _TEXTS.items() if re.match(pattern, text)),
        *([("UTF-16 or UTF-32 text", "save it as UTF-8")] if re.match(rb"\0{0,3}[{\[]\0", head) else []),
        *([("a binary file", _LINES)] if b"\0" in head else []),
    ):
        return f"this is {what}; {right}"
    return ""


def _open(uri: str, places: UriResolver) -> BufferedReader:
    if scheme(uri) == "s3":
        from score_distill.artifacts.s3 import open_s3

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not bucket or not key:
            raise ValueError("names no file; write s3://BUCKET/PATH")
        return open_s3(f"s3://{bucket}", places.environ).open(key)
    return local_path(uri, places.base, places.claims).open("rb")
