"""The one chooser of a lock, on made-up machines."""

from pathlib import Path

import pytest

from env.chooser import ENV_DIR, FLAVOURS, ChoiceError, choose, driver_version, load_pins, lock_path
from env.errors import PinError

PINS = load_pins()


@pytest.mark.parametrize(
    ("driver", "flavour"),
    [
        (None, "cpu"),
        ("580.65.06", "cuda13"),
        ("615.43", "cuda13"),
        ("579.99", "cuda12"),
        ("525.60.13", "cuda12"),
        ("470.256.02", "cpu"),
    ],
)
def test_the_driver_decides(driver: str | None, flavour: str) -> None:
    """No driver takes cpu, 580 and newer cuda13, 525 to 579 cuda12, and older ones cpu; the reason names the driver."""
    choice = choose(driver, None, PINS)
    assert flavour == choice.flavour
    assert (driver or "no NVIDIA driver") in choice.reason


def test_a_too_old_driver_is_told_to_be_updated() -> None:
    """A GPU that falls back to the CPU for its driver's age is said to, with the version that is needed."""
    assert "too old" in choose("470.256.02", None, PINS).reason
    assert "525" in choose("470.256.02", None, PINS).reason


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_torch_overrides_the_driver(flavour: str) -> None:
    """TORCH=… wins over what the driver says, and the reason says so."""
    choice = choose("580.65.06", flavour, PINS)
    assert flavour == choice.flavour
    assert f"TORCH={flavour}" in choice.reason


def test_an_unknown_override_names_what_is_allowed() -> None:
    """TORCH=cuda11 is refused by name, with the three that exist."""
    with pytest.raises(ChoiceError, match=r"TORCH='cuda11'.*cpu, cuda12, cuda13"):
        choose(None, "cuda11", PINS)


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:11:57 UTC 2025\nGCC version: 12.2\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)  Thu Jul 17\n",
    ],
)
def test_the_version_is_read_from_both_kernel_modules(text: str, tmp_path: Path) -> None:
    """Both the proprietary and the open kernel module's /proc text give the version."""
    proc = tmp_path / "version"
    proc.write_text(text)
    assert driver_version(proc) == "580.65.06"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version = "3.11"', 'version = "3.11', r"env/pins\.toml: .*line 5"),
        ("wanted = 11\n", "", r"env/pins\.toml: jdk\.wanted is missing: write one of type int there"),
        ("driver = 525", 'driver = "525"', r"env/pins\.toml: torch\.cuda12\.driver is '525': write one of type int"),
        ("[tools]", "[tool]", r"env/pins\.toml: tools\.prometheus is missing"),
    ],
)
def test_a_slip_in_the_pins_is_named(
    old: str, new: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hand can do to env/pins.toml is said by file, and by line or key."""
    text = (ENV_DIR / "pins.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pins.toml").write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr("env.chooser.ENV_DIR", tmp_path / "env")
    with pytest.raises(PinError, match=said):
        load_pins()


@pytest.mark.parametrize("flavour", [*FLAVOURS, "dev"])
def test_every_choice_has_its_lock(flavour: str) -> None:
    """Each flavour that can be chosen has a lock in the checkout."""
    assert lock_path(flavour).is_file()
