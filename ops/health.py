"""`embedkit health`: whether every served model gives its right vector now. What probes and health checks run."""

from concurrent.futures import ThreadPoolExecutor

from ops.errors import OpsError
from ops.prepare import known_references
from ops.probe import Probe, probe_known
from ops.settings import Settings

TIMEOUT_S = 5.0


def ask_all(settings: Settings) -> list[Probe]:
    """A real request to each model that is to be served, all at once.

    Raises:
        OpsError: nothing is to be served.
    """
    desired, references = known_references(settings)
    if not desired:
        raise OpsError("nothing is served yet: run `embedkit up` or `embedkit run`")

    def ask(model: str) -> Probe:
        return probe_known(settings, model, references.get(model), TIMEOUT_S)

    with ThreadPoolExecutor(len(desired)) as pool:
        return list(pool.map(ask, desired))
