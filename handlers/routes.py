"""Which answer a request's path asks for.

Behind `/predictions/<model>/<version>/` TorchServe hands any path to the handler, as the header `url_path`;
`/predictions/<model>` comes without it. What arrives without a known path is not answered with vectors.
"""

from collections.abc import Mapping
from typing import Literal

from .errors import NotFoundError, shown

Route = Literal["embeddings", "models", "describe"]


def route(headers: Mapping[str, str]) -> Route:
    """What is asked for; `headers` by lower-case name. Raises NotFoundError for a path that is not served."""
    if headers.get("describe") == "True":  # the management API's customized=true
        return "describe"
    path = headers.get("url_path", "").strip("/")
    if path in ("", "v1/embeddings"):
        return "embeddings"
    if path == "v1/models":
        return "models"
    raise NotFoundError(f"path {shown(path)} is not served; 'v1/embeddings' and 'v1/models' are", code="unknown_path")
