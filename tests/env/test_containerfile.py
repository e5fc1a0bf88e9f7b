"""env/Containerfile as text; `make image-test` builds it."""

import re

from ops.settings import ROOT


def test_nothing_that_git_ignores_gets_into_an_image() -> None:
    """State, archives and what a bundle brought are removed, where the folder that they lie in is copied."""
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {line.removeprefix("!") for line in context if line.startswith("!")}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    folders = {line.strip("/") for line in ignored if line.startswith("/") and line.strip("/").split("/")[0] in copied}
    removed = re.search(r"rm -rf (var .*)$", (ROOT / "env" / "Containerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert removed is not None
    assert folders == {"archives/store", "env/wheels", "env/jdk"}
    assert folders - set(removed[1].split()) == set()
