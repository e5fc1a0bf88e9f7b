"""TorchServe's rendered configuration and command line."""

import xml.etree.ElementTree as ET
from pathlib import Path

from ops.desired import Served
from ops.settings import Settings
from ops.torchserve.config import config_properties, java_command, log4j2_xml

MINILM = Served("minilm", "1.0", "minilm-1.0.mar", "aa")
BGE = Served("bge", "2.0", "bge-2.0.mar", "bb")


def properties(settings: Settings) -> dict[str, str]:
    lines = config_properties(settings, [MINILM, BGE]).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_only_inference_leaves_loopback() -> None:
    """With a public host, management, metrics and gRPC still listen on loopback."""
    found = properties(Settings(host="0.0.0.0"))
    assert found["inference_address"] == "http://0.0.0.0:8080"
    for name in ("management_address", "metrics_address"):
        assert found[name].startswith("http://127.0.0.1:")
    assert (found["grpc_inference_address"], found["grpc_management_address"]) == ("127.0.0.1", "127.0.0.1")


def test_the_traps_are_closed() -> None:
    """Prometheus metrics, no system metrics, no remote model URLs, bodies as bytes, limits above the kit's 32 MB."""
    found = properties(Settings())
    assert found["metrics_mode"] == "prometheus"
    assert found["disable_system_metrics"] == "true"
    assert found["allowed_urls"] == "embedkit://none"
    assert found["decode_input_request"] == "false"
    assert int(found["max_request_size"]) > 32 << 20


def test_models_are_loaded_from_the_desired_state() -> None:
    """load_models names each model's archive."""
    assert properties(Settings())["load_models"] == "minilm=minilm-1.0.mar,bge=bge-2.0.mar"


def test_log4j2_is_xml_with_rotation_and_our_folder() -> None:
    """The log configuration parses, every file rolls by size within var/log, and nothing is left to substitute."""
    settings = Settings(log_mb=7, log_files=3)
    text = log4j2_xml(settings)
    files = ET.fromstring(text).findall("./Appenders/RollingFile")
    assert len(files) >= 2
    for file in files:
        assert file.attrib["fileName"].startswith(f"{settings.logs}/")
        policy, strategy = file.find("SizeBasedTriggeringPolicy"), file.find("DefaultRolloverStrategy")
        assert policy is not None
        assert strategy is not None
        assert (policy.attrib["size"], strategy.attrib["max"]) == ("7 MB", "3")
    assert "$" not in text


def test_the_jvm_is_capped_private_and_known_to_torchserve_stop() -> None:
    """The command caps the heap, exits when it is full, uses our TEMP, and is one `torchserve --stop` knows."""
    settings = Settings(jvm_heap_mb=512)
    command = java_command(Path("/j/java"), Path("/p/python"), Path("/site"), settings)
    assert "-Xmx512m" in command
    assert "-XX:+ExitOnOutOfMemoryError" in command
    assert f"-Djava.io.tmpdir={settings.temp}" in command
    assert "org.pytorch.serve.ModelServer" in command
    assert command[-1] == "-ncs"
