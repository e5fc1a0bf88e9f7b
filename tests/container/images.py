"""Build the Containerfile's targets with buildah, without a registry and without an engine: a Debian made by mmdebstrap
stands for its base, and the packaged JDK of 2021 for its JDK image."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from env.jdk import packaged_java
from ops.settings import ROOT
from tests.container.debian import apt_options, certificates, make_tree, run, settings_elsewhere

BASE, JDK = "localhost/debian:bookworm-slim", "localhost/jdk:11"
# Where a build secret is found by the command that is given it.
SECRET = "/run/secrets/ca.pem"


@dataclass(frozen=True)
class Image:
    """An image's root file system, mounted, and its configuration as Docker keeps it."""

    tree: Path
    config: Mapping[str, Any]

    @property
    def environ(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.config["Env"])

    @property
    def user(self) -> int:
        uid, gid = map(int, self.config["User"].split(":"))
        assert uid == gid
        return uid

    @property
    def bytes(self) -> int:
        """What its files take, each counted once."""
        return int(run(["du", "--summarize", "--block-size=1", str(self.tree)]).split()[0])


class Buildah:
    """A storage of its own below `folder`; nothing of it is left after `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str) -> str:
        place = ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run"), "--storage-driver", "vfs"]
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder), "TMPDIR": str(self.folder)}
        return run(["buildah", *place, *words], environ).strip()

    def _image_of(self, content: Path, target: str, name: str) -> None:
        container = self("from", "scratch")
        self("add", "--quiet", container, str(content), target)
        self("commit", "--quiet", container, name)
        self("rm", container)

    def make_bases(self) -> None:
        """What stands for the two images that the Containerfile names by digest."""
        java = packaged_java()
        assert java is not None
        tarball = self.folder / "debian.tar"
        make_tree(tarball)
        self._image_of(tarball, "/", BASE)
        tarball.unlink()
        self._image_of(java.parent.parent, "/opt/java/openjdk", JDK)

    def build(self, target: str) -> None:
        """Build a target of the Containerfile as it stands in the checkout; its name is the target's."""
        with settings_elsewhere(SECRET) as settings:
            lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
            secrets = {"pip.conf": f"[global]\n{lines}", "apt.conf": "".join(f"{line}\n" for line in apt_options())}
            trusted = certificates()
            if trusted is not None:
                secrets["ca.pem"] = trusted.read_text(encoding="utf-8")
            options = []
            for name, content in secrets.items():
                file = self.folder / name
                file.write_text(content, encoding="utf-8")
                options += ["--secret", f"id={name},src={file}"]
            self(
                *("bud", "--isolation", "chroot", "--format", "docker", "--layers", "--target", target),
                *("--build-arg", f"DEBIAN_BASE={BASE}", "--build-arg", f"JDK_BASE={JDK}", *options),
                *("--file", str(ROOT / "env" / "Containerfile"), "--tag", target, str(ROOT)),
            )

    def mount(self, image: str) -> Image:
        """Its file system, writable for root, and its configuration."""
        tree = Path(self("mount", self("from", image)))
        return Image(tree, json.loads(self("inspect", "--type", "image", image))["Docker"]["config"])

    def close(self) -> None:
        subprocess.run(["umount", "--recursive", str(self.folder / "root" / "vfs")], capture_output=True, check=False)
        run(["rm", "-rf", str(self.folder)])  # hundreds of thousands of files
