"""Settings: three sources, one order, and errors that name key, value and what is allowed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from ops.settings import EXPORTERS_OWN, OBSERVERS_OWN, ROOT, Settings, SettingsError, _warn_injected, load_settings
from ops.torchserve import launcher

NO_FILE = Path("/nonexistent/embedkit.toml")


def test_the_defaults_are_the_contract() -> None:
    """Ports, host and default model without any setting are those that other programs rely on."""
    settings = load_settings(environ={}, file=NO_FILE)
    assert (settings.inference_port, settings.management_port, settings.metrics_port) == (8080, 8081, 8082)
    assert settings.host == "127.0.0.1"
    assert settings.default_model == "minilm"
    assert (settings.var, settings.store) == (ROOT / "var", ROOT / "archives" / "store")


def test_file_environment_flags_in_that_order(tmp_path: Path) -> None:
    """The environment wins over the file, and a flag over both."""
    file = tmp_path / "embedkit.toml"
    file.write_text("inference_port = 1001\nmanagement_port = 1002\nmetrics_port = 1003\n")
    environ = {"EMBEDKIT_MANAGEMENT_PORT": "2002", "EMBEDKIT_METRICS_PORT": "2003", "HOME": "/root"}
    settings = load_settings({"metrics_port": 3003, "host": None}, environ, file)
    assert (settings.inference_port, settings.management_port, settings.metrics_port) == (1001, 2002, 3003)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"EMBEDKIT_INFERENCE_PROT": "1"}, r"unknown setting EMBEDKIT_INFERENCE_PROT: did you mean inference_port\?"),
        ({"EMBEDKIT_ZZZ": "1"}, r"unknown setting EMBEDKIT_ZZZ: known: .*inference_port"),
        ({"EMBEDKIT_INFERENCE_PORT": "http"}, r"EMBEDKIT_INFERENCE_PORT='http': .*integer"),
        ({"EMBEDKIT_INFERENCE_PORT": "70000"}, r"EMBEDKIT_INFERENCE_PORT='70000': .*65535"),
        ({"EMBEDKIT_INFERENCE_PORT": "8081"}, r"inference_port and management_port are both 8081"),
    ],
)
def test_bad_settings_are_named(environ: dict[str, str], said: str) -> None:
    """An unknown key or a bad value is an error with the key as it was written, the value, and what is allowed."""
    with pytest.raises(SettingsError, match=said):
        load_settings(environ=environ, file=NO_FILE)


SERVICES = {
    "EMBEDKIT_SERVICE_HOST": "10.0.0.1",
    "EMBEDKIT_SERVICE_PORT": "8000",
    "EMBEDKIT_SERVICE_PORT_HTTP": "8000",
    "EMBEDKIT_PORT": "tcp://10.0.0.1:8000",
    "EMBEDKIT_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "EMBEDKIT_PORT_8000_TCP_PROTO": "tcp",
    "EMBEDKIT_PORT_8000_TCP_PORT": "8000",
    "EMBEDKIT_PORT_8000_TCP_ADDR": "10.0.0.1",
    "EMBEDKIT_GATEWAY_SERVICE_HOST": "10.0.0.2",
    "EMBEDKIT_GATEWAY_SERVICE_PORT": "9000",
    "EMBEDKIT_GATEWAY_SERVICE_PORT_HTTP_METRICS": "9000",
    "EMBEDKIT_GATEWAY_PORT": "udp://10.0.0.2:9000",
    "EMBEDKIT_GATEWAY_PORT_9000_UDP": "udp://10.0.0.2:9000",
    "EMBEDKIT_GATEWAY_PORT_9000_UDP_PROTO": "udp",
    "EMBEDKIT_GATEWAY_PORT_9000_UDP_PORT": "9000",
    "EMBEDKIT_GATEWAY_PORT_9000_UDP_ADDR": "10.0.0.2",
}


def test_what_kubernetes_sets_is_no_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Services named embedkit and embedkit-gateway change nothing, and every name that is ignored is said, once."""
    _warn_injected.cache_clear()
    environ = {**SERVICES, "OTHER_SERVICE_HOST": "10.0.0.3", "OTHER_PORT": "tcp://10.0.0.3:1"}
    assert load_settings(environ=environ, file=NO_FILE) == load_settings(environ=environ, file=NO_FILE) == Settings()
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert re.findall(r"[A-Z_]{5,}\w*", line) == sorted(SERVICES)


def test_a_settings_own_value_beside_a_service_counts() -> None:
    """A Service named embedkit-gateway takes the name EMBEDKIT_GATEWAY_PORT; whoever sets a port there means it."""
    settings = load_settings(environ={**SERVICES, "EMBEDKIT_GATEWAY_PORT": "8001"}, file=NO_FILE)
    assert settings.gateway_port == 8001


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EMBEDKIT_SERVICE_HOTS", "10.0.0.1", "unknown setting EMBEDKIT_SERVICE_HOTS"),
        ("EMBEDKIT_PORT", "8000", "unknown setting EMBEDKIT_PORT"),
        ("EMBEDKIT_PORT_HTTP_TCP", "tcp://10.0.0.1:8000", "unknown setting EMBEDKIT_PORT_HTTP_TCP"),
        ("EMBEDKIT_GATEWAY_PROT", "tcp://10.0.0.1:8000", r"EMBEDKIT_GATEWAY_PROT: did you mean gateway_port\?"),
        ("EMBEDKIT_GATEWAY_PORT", "tcp", "EMBEDKIT_GATEWAY_PORT='tcp'"),
        ("EMBEDKIT_ALERT_WEBHOOK", "tcp://10.0.0.1:1", "EMBEDKIT_ALERT_WEBHOOK='tcp://10.0.0.1:1': is no URL"),
    ],
)
def test_what_only_looks_like_kubernetes_fails(name: str, value: str, said: str) -> None:
    """All else that is unknown is an error still."""
    with pytest.raises(SettingsError, match=said):
        load_settings(environ={**SERVICES, name: value}, file=NO_FILE)


def test_commands_run_beside_a_service(tmp_path: Path) -> None:
    """The real commands: stdout is what it is without, stderr has the names."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDKIT_")}
    place = {"EMBEDKIT_VAR": str(tmp_path / "var")}
    for command in (["bin/embedkit", "key", "list", "--json"], ["bin/python", "-m", "ops.supervisor.config"]):
        plain, beside = (
            subprocess.run(
                [Path(sys.prefix) / command[0], *command[1:]],
                env={**environ, **place, **services},
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            for services in ({}, SERVICES)
        )
        assert (plain.stderr, plain.stdout) == ("", beside.stdout)
        assert all(name in beside.stderr for name in SERVICES)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    """Broken TOML names the file; an unknown key in it names file and key."""
    file = tmp_path / "embedkit.toml"
    file.write_text("inference_port = \n")
    with pytest.raises(SettingsError, match=str(file)):
        load_settings(environ={}, file=file)
    file.write_text("jvm_heap = 3\n")
    with pytest.raises(SettingsError, match=r"embedkit\.toml: jvm_heap: did you mean jvm_heap_mb"):
        load_settings(environ={}, file=file)


def test_what_the_launcher_sets_is_no_setting() -> None:
    """What workers inherit in their environment is not mistaken for a setting."""
    inherited = launcher.clean_environment({}, Settings())
    load_settings(environ=inherited, file=NO_FILE)
    assert {"EMBEDKIT_TELEMETRY_DIR", "EMBEDKIT_SPEED_DIR"} <= inherited.keys()


@pytest.mark.parametrize(
    ("host", "met"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("0::0", "[::1]"), ("::1", "[::1]"), ("host.name", "host.name")],
)
def test_urls_can_be_connected_to(host: str, met: str) -> None:
    """An address to bind becomes one to connect to."""
    assert Settings(gateway_host=host).gateway_url("/x") == f"http://{met}:8000/x"


@pytest.mark.parametrize("host", ["::1", "::", "0:0:0:0:0:0:0:1"])
def test_torchserve_has_no_ipv6(host: str) -> None:
    """TorchServe 0.12 says "Invalid binding address": refused by name before, with what may be one."""
    with pytest.raises(SettingsError, match=f"EMBEDKIT_HOST='{host}': TorchServe cannot listen on IPv6.*gateway_host"):
        load_settings(environ={"EMBEDKIT_HOST": host}, file=NO_FILE)


@pytest.mark.parametrize(
    "host", ["", "[::1]", "127.0.0.1:80", "a b", "127.0.0.1 ssl crt x", "a\nb", "fe80::1%eth0", "ü"]
)
def test_what_is_no_address_is_refused(host: str) -> None:
    """Before it stands in a configuration, where it could say more than an address."""
    for name in ("host", "gateway_host"):
        with pytest.raises(ValidationError, match=f"(?s){name}.*without port, brackets and zone"):
            Settings(**{name: host})


def test_what_is_off_has_no_port_and_what_is_auto_needs_none() -> None:
    """An observer's port is a listener's unless it is `off`, and keeps `up` from starting only if it is `on`."""
    settings = Settings(prometheus="on", alertmanager="off")
    assert {"prometheus", "grafana"} <= set(settings.ports)
    assert "alertmanager" not in settings.ports
    assert set(settings.ports) - set(settings.needed_ports) == {"grafana", "gateway", "gateway_metrics"}
    assert settings.ports_of("prometheus") == {"prometheus": 9090}
    assert set(settings.ports_of("torchserve")) == {"inference", "management", "metrics"}


def test_restarts_are_spared_for_settings_that_exist() -> None:
    """The settings whose change leaves TorchServe running are settings."""
    assert set(Settings.model_fields) >= OBSERVERS_OWN | EXPORTERS_OWN


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"EMBEDKIT_PROMETHEUS": "yes"}, r"EMBEDKIT_PROMETHEUS='yes': .*'auto', 'on' or 'off'"),
        ({"EMBEDKIT_ALERT_WEBHOOK": "127.0.0.1:9999"}, r"EMBEDKIT_ALERT_WEBHOOK='127.0.0.1:9999': is no URL"),
    ],
)
def test_bad_choices_are_named(environ: dict[str, str], said: str) -> None:
    """What an observer may be set to is told, and so is a webhook that is no URL."""
    with pytest.raises(SettingsError, match=said):
        load_settings(environ=environ, file=NO_FILE)
