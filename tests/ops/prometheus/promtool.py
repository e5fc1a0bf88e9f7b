"""The real promtool, which judges rules and metrics as Prometheus would."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from ops.prometheus.rules import FOLDER
from tests.programs import path

RULES = sorted(FOLDER.glob("*.yml"))


def promtool(*words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path("promtool"), *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_rule_tests(folder: Path, tests: list[dict[str, Any]], evaluation_interval: str = "1m") -> None:
    """`promtool test rules` on the committed rule files; a failure shows what promtool says."""
    file = folder / "rules.test.yml"
    content = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": evaluation_interval,
        "group_eval_order": ["embedkit-recording", "embedkit-alerts"],  # else by chance
        "tests": tests,
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def series(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": one} for name, one in values.items()]
