"""What the search tool asks: a corpus of the user's own, or a search engine behind an endpoint."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from score_distill.api.base import Model, SecretKey, Uri

SITE = r"^(https?://)?[a-zA-Z0-9][-.a-zA-Z0-9]*(/\S*)?$"


class SearchEndpoint(Model):
    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=1024)] = Field(
        description="takes POST {query, limit}, answers {results: [{title, url, snippet}]}"
    )
    api_key_secret: SecretKey | None = Field(None, description="where the bearer token is; never the token itself")


class Search(Model):
    """Exactly one of corpus and endpoint."""

    corpus: Uri | None = Field(
        None, description="a folder of .txt and .md files, or JSON Lines of {id?, title?, url?, text}, plain or .gz"
    )
    endpoint: SearchEndpoint | None = Field(None, description="a search engine; each of its answers is kept")
    results: int = Field(10, ge=1, le=50, description="most results of one search (paper: 10)")
    blocked: tuple[Annotated[str, StringConstraints(pattern=SITE, max_length=512)], ...] = Field(
        (),
        max_length=256,
        description="sites with their subdomains, or beginnings of addresses, that are never shown: "
        "example.com, example.com/datasets/mine",
    )

    @model_validator(mode="after")
    def one_backend(self) -> Self:
        given = [name for name in ("corpus", "endpoint") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of corpus, endpoint (found {', '.join(given) or 'none'})")
        return self
