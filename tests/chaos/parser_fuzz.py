"""The request parser under atheris (libFuzzer): inputs that reach new lines are kept and changed further.

`python -m tests.chaos.parser_fuzz FOLDER SECONDS` keeps its inputs in the folder; it exits otherwise than 0, with the
input, where anything but a checked request or a RequestError comes out.
"""

import gzip
import sys
from pathlib import Path

import atheris
import orjson

with atheris.instrument_imports(include=["handlers"]):
    from handlers import body, errors, protocol

TYPES = ("", "application/json", "text/plain; charset=utf-16", "application/json; charset=gbk", "multipart/form-data")
ENCODINGS = ("", "identity", "gzip", "br")
ROWS = ("body", "data", "input")
MAX_BYTES = 1 << 16
LIMITS = protocol.Limits(
    max_texts=8,
    max_chars=64,
    dimensions=384,
    vocabulary=30_522,
    models=("minilm", "minilm/1.0"),
    prompts={"query": "q: "},
)
# What chance would take long to find: whole requests to begin with, and words to put into them.
SEEDS = (
    b'{"input": "a text"}',
    b'{"input": ["a", "\xe6\x95\x99"], "model": "minilm", "encoding_format": "base64", "dimensions": 8}',
    b'{"input": [[1, 2], [30521]], "prompt_name": "document", "truncate": false}',
    b'{"input": [7], "prompt_name": "query", "user": null}',
)
WORDS = (
    *("input", "model", "minilm/1.0", "encoding_format", "float", "base64", "dimensions", "prompt_name", "query"),
    *("truncate", "true", "null", "[[", "]]", "[]", "{}", ", ", ": ", "-1", "1e3", "30522", "\\ud800", "\\u0000"),
)


def one_input(data: bytes) -> None:
    """Three bytes choose how the rest arrives as a body."""
    if len(data) < 3:
        return
    content_type, encoding, row = (
        choices[byte % len(choices)] for choices, byte in zip((TYPES, ENCODINGS, ROWS), data, strict=False)
    )
    sent: bytes | str = data[3:]
    if data[2] & 128:  # TorchServe's decode_input_request
        sent = data[3:].decode("utf-8", "replace")
    headers = body.request_headers({"Content-Type": content_type, "Content-Encoding": encoding})
    try:
        request = protocol.parse_request(body.decode_body({row: sent}, headers, max_bytes=MAX_BYTES), LIMITS)
    except errors.RequestError as refused:
        told(refused)
    else:
        checked(request)


def told(refused: errors.RequestError) -> None:
    """What the client is told is an answer of its own fault, and can be sent."""
    assert 400 <= refused.status < 500
    assert orjson.loads(refused.body())["error"]["message"]


def checked(request: protocol.EmbeddingRequest) -> None:
    """What comes through is within every limit."""
    assert 1 <= len(request) <= LIMITS.max_texts
    assert bool(request.texts) != bool(request.token_ids)
    assert all(0 < len(text) <= LIMITS.max_chars + len("q: ") and text.encode() for text in request.texts)
    assert all(0 <= item < LIMITS.vocabulary for ids in request.token_ids for item in ids)
    assert request.dimensions is None or 1 <= request.dimensions <= LIMITS.dimensions


def prepare(folder: Path) -> tuple[Path, Path]:
    """The corpus to begin with and the dictionary."""
    corpus, words = folder / "corpus", folder / "words"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        (corpus / f"plain{number}").write_bytes(bytes(3) + seed)
        (corpus / f"utf16{number}").write_bytes(b"\2\0\0" + seed.decode().encode("utf-16"))
        (corpus / f"gzip{number}").write_bytes(b"\0\2\0" + gzip.compress(seed, mtime=0))
    lines = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in WORDS)
    words.write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")
    return corpus, words


def main(folder: Path, seconds: int) -> None:
    corpus, words = prepare(folder)
    flags = [f"-max_total_time={seconds}", f"-dict={words}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *flags], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
