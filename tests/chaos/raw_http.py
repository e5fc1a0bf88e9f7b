"""Requests as bytes, right or wrong in every place: Hypothesis strategies, and a client that sends them as they are."""

import socket
from dataclasses import dataclass

from hypothesis import strategies as st

from ops.bench.http1 import AnswerParser, ProtocolError
from tests.handlers.anything import bodies, headers

WHOLE_S = 10.0
BROKEN_S = 0.05


@dataclass(frozen=True)
class Wire:
    """A request; `whole` where its framing is right, so that an answer is due."""

    content: bytes
    whole: bool


# Most are to get as far as the worker.
methods = st.sampled_from(["POST"] * 40 + ["PUT"] * 10 + ["GET", "DELETE", "OPTIONS", "HEAD2", "post"])
models = st.sampled_from(["minilm"] * 40 + ["minilm/1.0"] * 20 + ["minilm/9.9", "nobody", "..%2f..%2fetc", "%00", ""])
known_paths = st.builds(
    "{}{}{}".format,
    st.sampled_from(["/predictions/"] * 60 + ["/explanations/", "/v1/models/", "/v2/models/", "/wfpredict/", "/ping/"]),
    models,
    st.sampled_from(
        [""] * 24 + ["/v1/embeddings"] * 8 + ["/v1/models", ":predict", ":explain", "/infer", "?a=b", "/" * 50]
    ),
)
any_path = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40).map("/{}".format)
paths = st.integers(0, 15).flatmap(lambda die: known_paths if die else any_path)


def _request(method: str, path: str, named: dict[str, str], body: bytes, framing: str) -> Wire:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    # Names and values that would end the line are for `junk`; here they would change the framing.
    lines += [f"{name}: {value}" for name, value in named.items() if value.isprintable() and name != "data"]
    match framing:
        case "chunked":
            lines.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        case "too short":
            lines.append(f"Content-Length: {len(body) + 7}")
        case "nonsense":
            lines.append("Content-Length: -1e9")
        case _:
            lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines).encode("utf-8", errors="replace")
    return Wire(head + b"\r\n\r\n" + body, framing in {"right", "chunked"})


well_framed = st.builds(_request, methods, paths, headers, bodies, st.sampled_from(["right"] * 8 + ["chunked"]))
ill_framed = st.builds(_request, methods, paths, headers, bodies, st.sampled_from(["too short", "nonsense"]))
junk = st.binary(max_size=400).map(lambda content: Wire(content, whole=False))
# One in twelve is not HTTP, or not all of it: each of these is waited for, as no answer need come.
wires = st.integers(0, 11).flatmap(lambda die: well_framed if die else ill_framed | junk)


def outcome_of(port: int, wire: Wire) -> str:
    """The status in digits, "closed" without one, or "silent" where neither came in time."""
    parser = AnswerParser()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.settimeout(WHOLE_S if wire.whole else BROKEN_S)
        try:
            client.sendall(wire.content)
            while True:
                got = client.recv(65536)
                if not got:
                    return "closed"
                for answer in parser.feed(got):
                    return str(answer.status)
        except TimeoutError:
            return "silent"
        except (ConnectionError, ProtocolError):
            return "closed"
