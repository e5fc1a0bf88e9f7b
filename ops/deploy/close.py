"""Take a model's requests no more and let the accepted ones finish: TorchServe alone would drop them."""

import time
from collections.abc import Callable, Iterable

from ops.deploy.drain import wait_until_quiet
from ops.deploy.versions import CLOSED, closed
from ops.settings import Settings
from ops.torchserve.management import Management


def close(settings: Settings, models: Iterable[str], *, limit_s: float | None, say: Callable[[str], None]) -> list[str]:
    """Refuse new requests (503) but those that name a version, and wait for the others; returns what is still in
    flight after the limit, a line a version.

    Raises:
        ManagementError: TorchServe does not answer.
    """
    management, left = Management(settings), []
    serving = {model: management.describe(model) for model in models}
    for model, versions in serving.items():
        if versions and all(one.version != CLOSED for one in versions):
            management.register(model, closed(settings, model))
        if versions:
            management.set_default(model, CLOSED)
            say(f"{model}: new requests are refused")
    started = time.monotonic()
    for model, versions in serving.items():
        for one in versions:
            rest = None if limit_s is None else max(0.0, limit_s - (time.monotonic() - started))
            found = wait_until_quiet(settings, management, model, one.version, limit_s=rest, say=say)
            if not found.nothing:
                left.append(f"{model} {one.version}: {found}")
    return left
