"""`embedkit env update`: a pin is carried to every place, or nothing is changed. uv and the package index are real."""

from pathlib import Path

import pytest

from env.changes import Change
from env.errors import PinError
from env.pins import read_pins
from env.places import GENERATED, check
from env.repeats import GPU_SITE
from env.update import update
from tests.env.checkout import contents, copy_to, edit


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_to(tmp_path)


def test_a_package_is_carried_everywhere(checkout: Path) -> None:
    """One command: pyproject.toml with its comments, uv.lock, the three locks and both tables; what another command
    makes is said."""
    before = contents(checkout)
    done = update(checkout, [Change.parse("supervisor==4.2.5")])
    locks = [f"env/locks/{flavour}.txt" for flavour in ("cpu", "cuda12", "cuda13")]
    assert ["README.md", "README.zh.md", *locks, "pyproject.toml", "uv.lock"] == done.files
    assert {"python -m ops.bench.gpu.lock"} == {each.mend for each in done.left}
    after = contents(checkout)
    assert before["pyproject.toml"].replace("supervisor==4.3.0", "supervisor==4.2.5") == after["pyproject.toml"]
    for file in (*locks, "pyproject.toml"):
        assert "supervisor==4.2.5" in after[file], file
    for table in ("README.md", "README.zh.md"):
        assert "| supervisor | `4.2.5` |" in after[table]


@pytest.mark.slow
def test_the_other_torch_moves_alone(checkout: Path) -> None:
    """--flavour cuda12 leaves cpu and cuda13 as they are; torchvision and the tables follow."""
    update(checkout, [Change.parse("torch==2.9.1", "cuda12")])
    assert read_pins(checkout).torch == {"cpu": "2.13.0+cpu", "cuda12": "2.9.1", "cuda13": "2.13.0"}
    after = contents(checkout)
    assert "\ntorch==2.9.1 " in after["env/locks/cuda12.txt"]
    assert "\ntorch==2.13.0 " in after["env/locks/cuda13.txt"]
    assert "| `cuda12` | `2.9.1` | 12.8 |" in after["docs/environment.md"]
    assert [each for each in check(checkout) if "peers" not in each.file] == []


@pytest.mark.slow
def test_cpu_and_cuda13_move_together(checkout: Path) -> None:
    """torch without a flavour is both builds of one release; the +cpu build needs its own hash, which is asked for.
    The setuptools that this release needs goes with it, as a dependency and as the build backend."""
    with pytest.raises(PinError, match=r"\+cpu build of torch 2\.12\.1 .* --sha256"):
        update(checkout, [Change.parse("torch==2.12.1")])
    sha256 = "0123456789abcdef" * 4
    done = update(checkout, [Change.parse("torch==2.12.1"), Change.parse("setuptools==81.0.0")], sha256)
    assert read_pins(checkout).torch == {"cpu": "2.12.1+cpu", "cuda12": "2.10.0", "cuda13": "2.12.1"}
    assert f"torch==2.12.1+cpu \\\n    --hash=sha256:{sha256}\n" in contents(checkout)["env/locks/cpu.txt"]
    assert 'requires = ["setuptools==81.0.0"]' in contents(checkout)["pyproject.toml"]
    assert "python -m ops.bench.peers_lock" in {each.mend for each in done.left}


def test_what_pins_toml_decides_is_carried(checkout: Path) -> None:
    """The JDK, and a driver edited by hand, reach the conda files, both tables and the page; comments stay. An image,
    with its digest, is left for a person to name.
    """
    edit(checkout, "env/pins.toml", "driver = 580", "driver = 590")
    left = update(checkout, [Change.parse("jdk==17")]).left
    assert [(one.file, one.what) for one in left] == [("env/Containerfile", "JDK_BASE")]
    after = contents(checkout)
    assert "wanted = 17" in after["env/pins.toml"]
    assert "# TorchServe's jar is Java 8 bytecode" in after["env/pins.toml"]
    assert "  - openjdk=17\n" in after["env/environment-cpu.yml"]
    assert "| JDK | `17` |" in after["README.zh.md"]
    assert "NVIDIA 驱动 590" in after["README.zh.md"]
    assert "| `cuda13` | `2.13.0` | 13.0 | 590 or newer |" in after["docs/environment.md"]


@pytest.mark.slow
def test_what_only_uv_lock_pins_can_be_set(checkout: Path) -> None:
    """A package that the pins merely need moves in uv.lock and the locks."""
    done = update(checkout, [Change.parse("certifi==2026.6.17")])
    assert "uv.lock" in done.files
    assert "pyproject.toml" not in done.files
    assert "\ncertifi==2026.6.17 " in contents(checkout)["env/locks/cpu.txt"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("transformers==9", "No solution found"),
        ("transfomers==4.48.3", "pinned nowhere: did you mean transformers"),
        ("jdk==eleven", "a whole number belongs there, such as 11"),
        ("cuda13-driver==590", "CUDA and drivers are edited in env/pins.toml; then `embedkit env update` carries them"),
        ("nixpkgs==abc", r"rev, narHash and lastModified of \[nixpkgs\]"),
    ],
)
def test_what_cannot_be_carried_changes_nothing(checkout: Path, change: str, said: str) -> None:
    """Versions that no resolution has, unknown names and half a pin: an error that says so, every file as it was."""
    before = contents(checkout)
    with pytest.raises(PinError, match=said):
        update(checkout, [Change.parse("prometheus-client==0.25.0"), Change.parse(change)])
    assert before == contents(checkout)
    assert [each.name for each in checkout.rglob("*.embedkit-new")] == []


@pytest.mark.parametrize("sha256", ["0123456789abcdef", "0123456789ABCDEF" * 4, f"sha256:{'0' * 57}"])
def test_a_hash_is_64_digits(checkout: Path, sha256: str) -> None:
    """Anything else is refused by its text before it comes into a lock, and nothing is changed."""
    before = contents(checkout)
    with pytest.raises(PinError, match=rf"--sha256 {sha256} is no SHA-256"):
        update(checkout, [Change.parse("torch==2.12.1")], sha256)
    assert before == contents(checkout)


def test_generated_files_that_are_gone_come_back(checkout: Path) -> None:
    """Without any of them `check` names each, and `update` makes them as they were."""
    before = contents(checkout)
    for file in GENERATED:
        (checkout / file).unlink()
    assert set(GENERATED) <= {each.file for each in check(checkout)}
    assert update(checkout, []).left == []
    assert before == contents(checkout)


def test_what_no_pin_makes_and_is_gone_is_named(checkout: Path) -> None:
    """A file that only repeats pins is left to a person, or to the command that makes it."""
    for file in ("flake.lock", GPU_SITE):
        (checkout / file).unlink()
    left = {(each.file, each.line, each.mend) for each in update(checkout, []).left}
    assert left == {("flake.lock", 1, "write it there"), (GPU_SITE, 1, "python -m ops.bench.gpu.lock")}


def test_a_file_that_is_not_generated_is_not_overwritten(checkout: Path) -> None:
    """A person's own file under a generated name is refused by name."""
    (checkout / "env" / "environment.yml").write_text("name: mine\n")
    with pytest.raises(PinError, match=r"env/environment\.yml was not generated: move it away"):
        update(checkout, [])
    assert (checkout / "env" / "environment.yml").read_text() == "name: mine\n"


@pytest.mark.parametrize("text", ["transformers", "==4.48.3", "transformers==", "transformers=4.48.3"])
def test_a_pin_is_name_and_version(text: str) -> None:
    """Anything else is answered with an example."""
    with pytest.raises(PinError, match="write NAME==VERSION, for example transformers==4"):
        Change.parse(text)
