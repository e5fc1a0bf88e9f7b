"""What can be wrong with the pins. Standard library only."""


class PinError(RuntimeError):
    """A pin is wrong, or cannot be carried. The message names the file or the pin, and the next step."""
