"""Where the key of a Secret that the manifest names is found, on a machine and in a pod.

In the file $SCORE_SECRETS/NAME/KEY, else in the variable NAME_KEY (upper case, anything but letters and digits as _).
No message shows one.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from score_distill.api import SecretKey
from score_distill.errors import BadInput


def variable(secret: SecretKey) -> str:
    return re.sub(r"[^A-Z0-9]", "_", f"{secret.name}_{secret.key}".upper())


def find(secret: SecretKey, environ: Mapping[str, str]) -> str:
    """The key; BadInput says where it was looked for."""
    places = []
    if folder := environ.get("SCORE_SECRETS"):
        path = Path(folder, secret.name, secret.key)
        places.append(f"file {path}")
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"secret {secret.name}, key {secret.key}: {path} cannot be read") from error
    places.append(f"variable {variable(secret)}")
    if key := environ.get(variable(secret), "").strip():
        return key
    raise BadInput(f"secret {secret.name}, key {secret.key}: not found; give it as {' or '.join(places)}")
