from pathlib import Path
from typing import Any

import orjson
import pytest

from handlers.card import CardError, ServingCard

IDENTITY: dict[str, Any] = {"model": "minilm", "version": "1.0", "revision": "0123456789abcdef", "kit": "0.1.0"}


def test_a_card_comes_back_as_written(tmp_path: Path) -> None:
    """to_json and read are each other's inverse."""
    card = ServingCard(**IDENTITY, device="cuda", dtype="float16", max_tokens=64, prompts={"query": "问："})
    (tmp_path / "embedkit.json").write_bytes(card.to_json())

    assert card == ServingCard.read(tmp_path / "embedkit.json")


def test_fingerprint_names_what_made_a_vector() -> None:
    """Model, version, twelve characters of the revision, backend, dtype and kit."""
    assert ServingCard(**IDENTITY).fingerprint == "minilm/1.0 rev=0123456789ab torch float32 kit=0.1.0"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"device": "gpu"}, "device"),
        ({"dtype": "int8"}, "dtype"),
        ({"backend": "onnx"}, "backend"),
        ({"threads": 0}, "threads"),
        ({"threads": True}, "threads"),
        ({"threads": 1.5}, "threads"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_texts": None}, "max_texts"),
        ({"prompts": {"query": 1}}, "prompts"),
        ({"prompts": []}, "prompts"),
        ({"model": "a b"}, "model"),
        ({"revision": "x\r\nSet-Cookie: y"}, "revision"),
        ({"version": ""}, "version"),
        ({"kit": 1}, "kit"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    """The error names the file and the key."""
    path = tmp_path / "embedkit.json"
    path.write_bytes(orjson.dumps({**IDENTITY, **change}))

    with pytest.raises(CardError, match=rf"embedkit\.json.*{named}"):
        ServingCard.read(path)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"model": "minilm"}'])
def test_an_unusable_file_is_named(content: bytes, tmp_path: Path) -> None:
    """No JSON, no object, missing keys: the error names the file."""
    path = tmp_path / "embedkit.json"
    path.write_bytes(content)

    with pytest.raises(CardError, match=r"embedkit\.json"):
        ServingCard.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error names the file and says to pack again."""
    with pytest.raises(CardError, match=r"embedkit\.json.*pack"):
        ServingCard.read(tmp_path / "embedkit.json")
