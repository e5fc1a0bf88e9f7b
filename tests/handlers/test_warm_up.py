"""What a worker has computed before it says that it is ready."""

from collections.abc import Sequence

import numpy as np
import pytest

from handlers.card import ServingCard
from handlers.deadline import NEVER, Deadline
from handlers.encoding import Vectors
from handlers.engine import Engine
from handlers.outline import load_outline
from handlers.shapes import shapes_for
from tests.model_folders import minilm_folder


class Recorder:
    """A backend that computes nothing and remembers what it was asked for."""

    dimensions = 2

    shapes = shapes_for("torch", "cpu", token_budget=2048, longest=256, packs=False, batch_invariant=False)

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.computed_tokens = 0

    def embed(self, ids: Sequence[Sequence[int]], deadline: Deadline = NEVER) -> Vectors:
        self.passes.append([len(each) for each in ids])
        return np.ones((len(ids), 2), dtype=np.float32)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_on_a_gpu_short_texts_and_the_largest_pass_are_computed_first(on_gpu: bool) -> None:
    """Every short width alone, since kernels are loaded when they are first used, and as many of the longest texts as
    the budget allows, since a model that does not fit is to fail now. torch on the CPU needs neither.
    """
    card = ServingCard(model="m", version="1", revision="r", kit="k", token_budget=2048)
    backend = Recorder()
    Engine(load_outline(minilm_folder()), backend, card, on_gpu=on_gpu).warm_up()
    alone = {lengths[0] for lengths in backend.passes if len(lengths) == 1}
    assert ({8, 16, 32, 64} <= alone) == on_gpu
    assert ([256] * 8 in backend.passes) == on_gpu
