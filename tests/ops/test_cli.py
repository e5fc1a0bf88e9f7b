"""What the command line prints for people to paste."""

import shlex
from pathlib import Path

from ops.cli import _next_commands
from ops.settings import Settings
from ops.supervisor.config import config_file


def test_what_is_to_be_tried_next_can_be_pasted(tmp_path: Path) -> None:
    """A folder with a blank in its name is one word of the command."""
    settings = Settings(var=tmp_path / "my models" / "var")
    last = _next_commands(settings, "minilm")[-1]
    assert shlex.split(last) == ["supervisorctl", "-c", str(config_file(settings)), "status"]
