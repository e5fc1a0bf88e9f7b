"""mosec with a process a core. Run by its own Python: `python mosec_server.py --address 127.0.0.1 --port N`."""

import os
from typing import Any

from encoder import Encoder  # type: ignore[import-not-found]
from mosec import Server, Worker  # type: ignore[import-not-found]


class Embedding(Worker):  # type: ignore[misc]
    """Texts in batches."""

    def __init__(self) -> None:
        super().__init__()
        self._encoder = Encoder()

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = self._encoder.answers([each["input"] for each in data])
        return answers


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Embedding,
        num=int(os.environ["PEER_WORKERS"]),
        max_batch_size=int(os.environ["PEER_BATCH"]),
        max_wait_time=10,
        timeout=300,
        start_method="spawn",
    )
    server.run()
