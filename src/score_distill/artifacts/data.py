"""Lines of a data file named in the manifest: .jsonl or .jsonl.gz, local or on S3, streamed.

What a line means is the reader's business; it gets every line, so that its number is right.
"""

import gzip
import zlib
from collections.abc import Iterator
from typing import IO, cast

from score_distill.artifacts.store import StoreMissing
from score_distill.artifacts.uris import UriResolver, local_path, scheme
from score_distill.errors import BadInput


class DataNotUsable(BadInput):
    """The data file cannot be read; the message says what would be right."""


def open_data(uri: str, places: UriResolver) -> Iterator[bytes]:
    """Every line with its end, as stored; DataNotUsable with the first line or where the file breaks, or StoreError."""
    try:
        with _open(uri, places) as file:
            yield from gzip.GzipFile(fileobj=file) if uri.endswith(".gz") else file
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


def _open(uri: str, places: UriResolver) -> IO[bytes]:
    if scheme(uri) == "s3":
        from score_distill.artifacts.s3 import open_s3

        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not bucket or not key:
            raise ValueError("names no file; write s3://BUCKET/PATH")
        return cast(IO[bytes], open_s3(f"s3://{bucket}", places.environ).open(key))
    return local_path(uri, places.base, places.claims).open("rb")
