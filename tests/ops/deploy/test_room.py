"""Whether two versions fit, before anything is loaded."""

from pathlib import Path

import pytest

from archives.placement import Need
from env.hardware import Gpu, Hardware
from ops.deploy.command import check_room
from ops.desired import Served
from ops.errors import OpsError
from ops.settings import Settings

TARGET = Served("m", "1.0", "m-1.0-a.mar", "a" * 64)
GIB = 1 << 30


@pytest.mark.parametrize(
    ("need", "figures"),
    [
        (Need("m", 3, 2 * GIB, on_gpu=False), "3 workers of about 2048 MB need 6144 MB, 5120 MB are free"),
        (Need("m", 2, 3 * GIB, on_gpu=True), "need 2048 MB more than the 4096 MB free"),
    ],
)
def test_no_room_is_refused_with_figures_and_ways_out(tmp_path: Path, need: Need, figures: str) -> None:
    """What is needed, what is free, and both ways out; no server has to answer for it."""
    hardware = Hardware(2, 5 * GIB, (Gpu(0, "GPU-0", "a card", 8 * GIB, 4 * GIB),))
    with pytest.raises(OpsError) as refused:
        check_room(Settings(var=tmp_path, management_port=1), TARGET, need, hardware)
    for part in (figures, "set fewer `workers`", "`embedkit down m`, then `embedkit up m`"):
        assert part in str(refused.value)


def test_what_fits_passes(tmp_path: Path) -> None:
    """Room for the second version is all that is asked for: the first has taken its own."""
    need = Need("m", 2, 2 * GIB, on_gpu=False)
    check_room(Settings(var=tmp_path, management_port=1), TARGET, need, Hardware(2, 5 * GIB))
