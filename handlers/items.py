"""One request on its way through a batch."""

from dataclasses import dataclass, field

from .encoding import Vectors
from .errors import RequestError
from .protocol import EmbeddingRequest
from .tokenizing import Tokens


@dataclass(slots=True)
class Item:
    """Filled stage by stage; an `error`, or a ready `body`, ends its way, and its neighbours go on.

    `characters`: those that are tokenized. `canary`: the kit's own trial, answered like any other and not counted as
    traffic.
    """

    request: EmbeddingRequest | None = None
    characters: int = 0
    tokens: list[Tokens] = field(default_factory=list)
    vectors: Vectors | None = None
    body: bytes | None = None
    error: RequestError | None = None
    canary: bool = False

    @property
    def size(self) -> int:
        """The characters or token ids that came with it."""
        return sum(map(len, self.request.texts)) + sum(map(len, self.request.token_ids)) if self.request else 0

    @property
    def is_open(self) -> bool:
        """Whether it still has to be computed."""
        return self.error is None and self.body is None
