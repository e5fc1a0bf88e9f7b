"""What went wrong between here and the hub, in a sentence that names the cause and the next step."""

CUT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


def _root(error: BaseException) -> BaseException:
    """huggingface_hub wraps what happened in "cannot find it in the cache": the cause tells more."""
    from huggingface_hub.errors import LocalEntryNotFoundError  # type: ignore[import-untyped]

    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    return response.status_code if response is not None else None


def is_transient(error: BaseException) -> bool:
    """True for what another attempt may mend: a lost connection, a timeout, a server that asks for patience."""
    import requests
    from huggingface_hub.errors import OfflineModeIsEnabled

    error = _root(error)
    if isinstance(error, OfflineModeIsEnabled | requests.exceptions.SSLError | requests.exceptions.ProxyError):
        return False
    if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
        return True
    return _status(error) in CUT_STATUSES or wrong_size(error)


def wrong_size(error: BaseException) -> bool:
    """True where a file came longer or shorter than announced: going on from there cannot mend it."""
    return "Consistency check failed" in str(error)


def explain(error: BaseException, repository: str, revision: str, endpoint: str, *, file: str = "") -> str:
    """The sentence for a person: what was asked of whom, why it failed, what to do."""
    import requests
    from huggingface_hub import errors  # type: ignore[import-untyped]

    error = _root(error)
    status = _status(error)
    cases = (  # the first that applies; subclasses stand before what they derive from
        (
            isinstance(error, errors.OfflineModeIsEnabled),
            "HF_HUB_OFFLINE is set, so nothing is downloaded: unset it, or name a folder as the source",
        ),
        (
            isinstance(error, errors.GatedRepoError) or status == 403,
            f"the hub at {endpoint} asks for permission (HTTP {status}): accept the model's terms there and set "
            "HF_TOKEN to a token of that account",
        ),
        (
            isinstance(error, errors.RevisionNotFoundError),
            "the hub has this repository, but not this revision: check `revision` in models.toml",
        ),
        (
            isinstance(error, errors.EntryNotFoundError),
            "the hub lists this file but does not have it (HTTP 404): try again, or take another revision",
        ),
        (
            isinstance(error, errors.RepositoryNotFoundError) or status in {401, 404},
            f"the hub at {endpoint} has no such repository, or shows it to nobody without a token (HTTP {status}): "
            "check `hub` in models.toml, or set HF_TOKEN",
        ),
        (status is not None, f"the hub at {endpoint} answered HTTP {status}: try again later"),
        (
            isinstance(error, requests.exceptions.SSLError),
            f"no trusted connection to {endpoint} ({error}): set REQUESTS_CA_BUNDLE if a proxy stands between",
        ),
        (
            isinstance(error, requests.exceptions.ProxyError),
            f"the proxy lets nothing through to {endpoint}: check HTTPS_PROXY",
        ),
        (
            isinstance(error, requests.exceptions.ChunkedEncodingError),
            f"the connection to {endpoint} was cut: check the network",
        ),
        (isinstance(error, requests.Timeout), f"the hub at {endpoint} did not answer in time: check the network"),
        (
            isinstance(error, requests.ConnectionError),
            f"the hub at {endpoint} cannot be reached: check the network, set HF_ENDPOINT to a mirror, or download "
            "the model elsewhere and name its folder as the source",
        ),
        (wrong_size(error), f"{endpoint} sends another number of bytes than it announces: try another HF_ENDPOINT"),
        (True, f"{type(error).__name__}: {error}"),
    )
    reason = next(text for applies, text in cases if applies)
    return f"{repository}@{revision}{f' {file}' if file else ''}: {reason}"
