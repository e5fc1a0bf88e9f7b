"""How long steps tell what they do: two calls, both free to do nothing."""


class Progress:
    """The silent one; the CLI passes a subclass that prints.

    `say` gets a whole sentence worth a line (a warning, a step begun). `advance` is called up to some times a second
    with the bytes done so far and in all; `done == total` ends that step.
    """

    def say(self, line: str) -> None:
        """A sentence for the person who waits."""

    def advance(self, step: str, done: int, total: int) -> None:
        """Bytes done of a step, such as "download" or "pack"."""


SILENT = Progress()
