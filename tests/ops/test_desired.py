"""The desired state on disk."""

from pathlib import Path

import pytest

from ops.desired import Served, read_models, write_models
from ops.errors import OpsError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The state survives a round trip; none written yet reads as empty."""
    file = tmp_path / "state" / "desired.json"
    assert read_models(file) == {}
    models = {"minilm": Served("minilm", "1.0", "minilm-1.0.mar", "aa")}
    write_models(file, models)
    assert read_models(file) == models
    assert [entry.name for entry in file.parent.iterdir()] == ["desired.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"models":[{"model":"x"}]}',
        '{"models":7}',
        '{"models":[{"model":"x","version":"1","archive":5,"sha256":"0"}]}',
    ],
)
def test_a_damaged_file_says_what_to_do(tmp_path: Path, content: str) -> None:
    """A file cut short or edited is named with the next step, never a traceback."""
    file = tmp_path / "desired.json"
    file.write_text(content)
    with pytest.raises(OpsError, match=r"is damaged .* remove it"):
        read_models(file)
