"""litserve with a process a core. Run by its own Python: `python litserve_server.py PORT`."""

import os
import sys
from typing import Any

import litserve  # type: ignore[import-not-found]
from encoder import Encoder  # type: ignore[import-not-found]


class Embedding(litserve.LitAPI):  # type: ignore[misc]
    """Texts in batches."""

    def setup(self, device: str) -> None:
        self._encoder = Encoder()

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["input"])

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, x: list[str]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = self._encoder.answers(x)
        return answers

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Embedding(max_batch_size=int(os.environ["PEER_BATCH"]), batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["PEER_WORKERS"]), timeout=300)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
