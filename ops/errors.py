"""What the operator can be told."""


class OpsError(RuntimeError):
    """An operation cannot go on. The message names the thing, the value and the next step."""
