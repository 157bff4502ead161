"""What every field of the manifest is made of: the base model, and texts and numbers with their bounds."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"
IMAGE = r"^[a-z0-9][-._a-zA-Z0-9/:@]*$"
QUALIFIED = r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$"
QUANTITY = r"^[0-9]{1,15}([.][0-9]{1,9})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
COUNT = r"^([1-9][0-9]{0,14}|[1-9][0-9]{0,11}k|[1-9][0-9]{0,8}M|[1-9][0-9]{0,5}G)$"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE, MAP_KEYS = "x-kubernetes-list-type", "x-kubernetes-list-map-keys"

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, StringConstraints(pattern=LABEL, max_length=52)]
Label = Annotated[str, StringConstraints(pattern=LABEL, max_length=30)]
Subdomain = Annotated[str, StringConstraints(pattern=SUBDOMAIN, max_length=253)]
Qualified = Annotated[str, StringConstraints(pattern=QUALIFIED, max_length=317)]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE, max_length=63)]
Image = Annotated[str, StringConstraints(pattern=IMAGE, max_length=512)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\S+$")]
Message = Annotated[str, StringConstraints(max_length=1024)]

_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


def count_of(value: Any) -> Any:
    """A count such as ``50M`` (suffixes k, M, G) as an integer; anything else is left for the validator to refuse."""
    match = re.fullmatch(r"(\d+)([kMG]?)", value) if isinstance(value, str) else None
    return int(match[1]) * _MULTIPLES[match[2]] if match else value


def _quantity_of(value: Any) -> Any:
    """YAML reads ``2`` as a number; Kubernetes takes it for the quantity "2"."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Count = Annotated[
    int,
    Field(ge=1, le=10**15, json_schema_extra={INT_OR_STRING: True, "pattern": COUNT, "maxLength": 15}),
    BeforeValidator(count_of),
]
Quantity = Annotated[
    str,
    StringConstraints(pattern=QUANTITY, max_length=28),
    BeforeValidator(_quantity_of),
    Field(json_schema_extra={INT_OR_STRING: True, "minimum": 0, "maximum": 10**15}),
]


class Model(BaseModel):
    """Base of everything in the manifest: camelCase outside, frozen, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, allow_inf_nan=False
    )


class SecretKey(Model):
    """A key of a Secret; on one machine the file NAME/KEY under $SCORE_SECRETS, or the variable NAME_KEY."""

    name: Name = Field(description="of the Secret")
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = Field(
        description="within the Secret"
    )
