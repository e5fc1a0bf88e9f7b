"""Write an environment down as a CycloneDX bill of materials: what is in it, from which files, under which licence."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from env.requirements import subset
from env.state import State

SCHEMA = SchemaVersion.V1_6
LONGEST_NAME = 100  # some packages give the licence's whole text where its name belongs


@dataclass(frozen=True)
class Sources:
    """What the bill is drawn from: the lock's text, uv.lock's, and where torch's +cpu build is to be had."""

    lock: str
    uv_lock: str
    cpu_index: str


def licence_of(name: str, version: str) -> str | None:
    """What the installed package says of its licence, if it is installed here in this version."""
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    if about["Version"] != version:
        return None
    for key in ("License-Expression", "License"):
        words = about.get_all(key, [""])[0]
        if 0 < len(words) < LONGEST_NAME and words != "UNKNOWN":
            return words
    classified = [each for each in about.get_all("Classifier", []) if each.startswith("License ::")]
    return classified[-1].rpartition(" :: ")[2] if classified else None


def _locked(state: State, uv_lock: str) -> dict[str, Mapping[str, Any]]:
    """Package name → uv.lock's entry for it in the release that this environment has."""
    releases = {canonicalize_name(name): version.partition("+")[0] for name, version in state.packages.items()}
    entries = tomllib.loads(uv_lock)["package"]
    return {each["name"]: each for each in entries if releases.get(each["name"]) == each.get("version")}


def _files(locked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(sha256, URL) of the files that uv.lock names for a package."""
    source = [locked["sdist"]] if "sdist" in locked else []
    for file in (*source, *locked.get("wheels", [])):
        yield file["hash"].removeprefix("sha256:"), file["url"]


def _distributions(name: str, version: str, locked: Mapping[str, Any], sources: Sources) -> list[ExternalReference]:
    """The files that the lock takes for this package, each by its hash; none where it takes another version."""
    entry = subset(sources.lock, {name})
    if not entry.startswith(f"{name}=={version} "):
        return []
    urls = dict(_files(locked))
    return [
        ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION,
            url=XsUri(urls.get(sha256, f"{sources.cpu_index}/{name}/")),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        )
        for sha256 in re.findall(r"sha256:(\w+)", entry)
    ]


def _package(name: str, state: State, locked: Mapping[str, Any], sources: Sources) -> Component:
    version = state.packages[name]
    licence = licence_of(name, version)
    files = _distributions(name, version, locked, sources)
    properties = [Property(name="embedkit:pinned", value="true" if files else "false")]
    if name == "torch":
        properties.append(Property(name="embedkit:cuda", value=state.torch_cuda or "none"))
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"{name}=={version}",
        purl=PackageURL("pypi", name=name, version=version),
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
        external_references=files,
        properties=properties,
    )


def bill(state: State, sources: Sources, kit_version: str) -> Bom:
    """The bill of materials of an environment: Python, the JDK and every package, and which needs which."""
    made = Bom()
    kit = Component(type=ComponentType.APPLICATION, name="embedkit", version=kit_version, bom_ref="embedkit")
    made.metadata.component = kit
    made.metadata.properties.add(Property(name="embedkit:environment", value=state.what))
    made.metadata.properties.add(Property(name="embedkit:lock", value=state.lock))
    locked = _locked(state, sources.uv_lock)
    packages = {name: _package(name, state, locked.get(name, {}), sources) for name in sorted(state.packages)}
    made.components = [
        Component(type=ComponentType.PLATFORM, name="python", version=state.python, bom_ref="python"),
        Component(type=ComponentType.PLATFORM, name="openjdk", version=state.jdk, bom_ref="openjdk"),
        *packages.values(),
    ]
    made.register_dependency(kit, made.components)
    for name, entry in locked.items():
        needs = (need["name"] for need in entry.get("dependencies", []))
        made.register_dependency(packages[name], [packages[each] for each in needs if each in packages])
    return made


def as_json(made: Bom) -> str:
    """The bill as CycloneDX JSON, indented."""
    return make_outputter(made, OutputFormat.JSON, SCHEMA).output_as_string(indent=2)
