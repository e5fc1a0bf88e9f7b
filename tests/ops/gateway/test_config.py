"""haproxy.cfg for settings, models and keys, as text; the real HAProxy finds no fault in it."""

import re
import shutil
import tempfile
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.gateway.config import haproxy_config
from ops.gateway.knock import knock
from ops.gateway.program import refuse_faulty, refuse_open
from ops.gateway.replies import as_json, error
from ops.gateway.stage import Route
from ops.settings import GATEWAYS_OWN, Settings
from ops.torchserve.config import MAX_REQUEST_BYTES
from tests.ops.gateway.running import MINILM, OTHER, gateway, haproxy, settings_for
from tests.ops.test_paths import WORKS


def lines(text: str, begin: str) -> list[str]:
    """The lines that begin so, blanks aside."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith(begin)]


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("routes", [(), (MINILM,), (MINILM, OTHER)])
def test_haproxy_accepts_it(tmp_path: Path, routes: tuple[()]) -> None:
    """No model, one, several; in a folder with blanks and other letters."""
    for chosen in ({}, {"gateway_key_rate": 5}, {"gateway_host": "::1"}, {"var": tmp_path / "a b" / "ü"}):
        refuse_faulty(Settings(**{"var": tmp_path, **chosen}), routes, haproxy())


@pytest.mark.needs("haproxy", "openssl")
@pytest.mark.parametrize("odd", WORKS)
def test_it_runs_in_an_odd_folder(odd: str, certificate: Path) -> None:
    """With its keys, its certificate and its socket there."""
    with tempfile.TemporaryDirectory(prefix=f"ek{odd}") as folder:  # short: a socket lies below it
        chain = Path(folder) / "chain.pem"
        shutil.copy(certificate, chain)
        settings = settings_for(Path(folder) / "v", gateway_tls=chain)
        with gateway(settings, keys={}):
            assert knock(settings) == "closed"


def test_a_models_backends_share_its_queue_and_have_its_time() -> None:
    """TorchServe is never sent more than it lets wait, a quarter of it as large bodies, and has the model's own time
    and the wait."""
    text = haproxy_config(Settings(gateway_wait_s=7), (MINILM, OTHER))
    names = [f"model-{name}{part}" for name in ("minilm", "other") for part in ("", "-large")]
    assert re.findall(r"^backend (model-\S+)", text, re.MULTILINE) == names
    places = [f"server torchserve 127.0.0.1:8080 maxconn {count}" for count in (48, 16)]
    assert lines(text, "server torchserve")[:4] == places * 2
    assert lines(text, "timeout server 27s") == ["timeout server 27s"] * 4
    assert lines(text, "retries 7") == ["retries 7"] * 4


@pytest.mark.parametrize(("queue_size", "places", "large"), [(256, 192, 64), (5, 4, 1), (2, 1, 1), (1, 1, 1)])
def test_both_kinds_of_bodies_have_a_place(queue_size: int, places: int, large: int) -> None:
    """Within the queue, but for a queue of one."""
    route = Route("m", queue_size, 20)
    assert (route.places, route.large_places) == (places, large)


def test_one_model_needs_no_look_into_the_body() -> None:
    """With several the body has to say which; buffers have room for a whole body in either case."""
    one, two = (haproxy_config(Settings(), routes) for routes in ((MINILM,), (MINILM, OTHER)))
    assert "json_query" not in one
    assert "json_query" in two
    assert lines(one, "tune.bufsize") == lines(two, "tune.bufsize") == [f"tune.bufsize {(1024 + 32) << 10}"]


def test_only_the_users_door_is_behind_it() -> None:
    """The addresses that requests go to: inference, and the exporter for /healthz alone."""
    settings = Settings(inference_port=1, management_port=2, metrics_port=3, exporter_port=4)
    text = haproxy_config(settings, (MINILM,))
    targets = set(re.findall(r"^    server \S+ (\S+)", text, re.MULTILINE))
    assert targets == {"abns@embedkit-gateway-8000", "127.0.0.1:1", "127.0.0.1:4"}
    assert lines(text, "use_backend healthz") == ["use_backend healthz if health"]
    assert lines(text, "http-request set-uri /healthz") == ["http-request set-uri /healthz"]


def test_an_error_has_the_kits_form() -> None:
    """Type by status, quotes that HAProxy reads as they are."""
    said = error(404, "unknown_path", "it's not 'here'", param="x")
    assert said == (
        "status 404 content-type application/json string "
        '\'{"error":{"message":"it\\u0027s not \\u0027here\\u0027","type":"invalid_request_error","param":"x",'
        '"code":"unknown_path"}}\''
    )
    assert as_json({"a": "'"}) == '{"a":"\\u0027"}'
    assert '"type":"server_error"' in error(503, "overloaded", "busy")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_a_public_address_needs_keys_and_tls(host: str) -> None:
    """What is missing is named, and how to allow it all the same."""
    for keys, tls, wanted in (
        (None, None, "embedkit key add NAME.*EMBEDKIT_GATEWAY_TLS"),
        ({}, None, "EMBEDKIT_GATEWAY_TLS"),
        (None, Path("x.pem"), "embedkit key add NAME"),
    ):
        with pytest.raises(OpsError, match=f"gateway_host {re.escape(host)}.*{wanted}.*GATEWAY_OPEN=true"):
            refuse_open(Settings(gateway_host=host, gateway_tls=tls), keys)
    refuse_open(Settings(gateway_host=host, gateway_tls=Path("x.pem")), {})
    refuse_open(Settings(gateway_host=host, gateway_open=True), None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_may_be_open(host: str) -> None:
    """Without keys whoever is on this machine comes in, as on TorchServe's own port."""
    refuse_open(Settings(gateway_host=host), None)


@pytest.mark.parametrize("path", ["/a'b", "/a,b", "/a\\b"])
def test_a_path_that_haproxy_cannot_read_is_refused(path: str) -> None:
    """It is named before anything is written."""
    with pytest.raises(OpsError, match="HAProxy cannot take"):
        haproxy_config(Settings(gateway_keys=Path(path)), (MINILM,))


def test_its_settings_concern_nobody_else() -> None:
    """A change of them restarts neither TorchServe nor the exporter."""
    assert {name for name in Settings.model_fields if name.startswith("gateway")} == GATEWAYS_OWN


def test_a_body_that_passes_is_taken_by_torchserve() -> None:
    """By default the gateway lets none through that TorchServe would answer with its bare 413."""
    assert Settings().gateway_body_mb << 20 <= MAX_REQUEST_BYTES
