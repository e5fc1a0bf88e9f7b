"""Which shapes of a forward pass a backend likes, and which keep a text's vector free of its company.

docs/batching.md has the measurements behind every value here.
"""

from dataclasses import dataclass

# Lengths are told apart in this many steps an octave: planning takes the square of the number of steps.
_STEPS_AN_OCTAVE = 8

# A pass of this many tokens is as good as any larger one on a CPU, and its activations stay in the cache.
_CPU_BUDGET = 1024
_CPU_PASS = {"openvino": 14, "torch": 40}
_GPU_PASS = 512
# OpenVINO keeps what it prepared for a shape (some 0.5 MB) and takes 10 ms for a new one, so there are few.
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_FIXED_ROWS = (8,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a backend asks of its passes.

    `budget` is the most padded tokens of a pass; `pass_cost` what a pass costs beside them, told in tokens.
    `longest` is the most tokens a text can have: no pass is wider.
    `step` is the finest step of lengths; with `exact` it only guides the plan, and a pass is as wide as its longest
    text, otherwise widths are rounded up to steps. `rows` are the numbers of texts a pass may have (ascending, the
    rest filled with dummies), any number where it is empty. `uniform`: only texts of the same rounded length share a
    pass, so that a text's width depends on nothing but the text.
    """

    budget: int
    pass_cost: int
    longest: int
    step: int
    exact: bool
    rows: tuple[int, ...] = ()
    uniform: bool = False

    def rounded(self, length: int) -> int:
        """The least width on the grid that holds a text of this length."""
        step = self.step
        while length > 2 * _STEPS_AN_OCTAVE * step:
            step *= 2
        return min(-(-length // step) * step, max(self.longest, length))

    def passes(self, texts: int, width: int) -> list[tuple[int, int]]:
        """(texts, rows) of each pass that computes so many texts in this width."""
        most = max(1, self.budget // width)
        if not self.rows:
            count = -(-texts // most)
            each, more = divmod(texts, count)
            return [(each + (number < more), each + (number < more)) for number in range(count)]
        allowed = [rows for rows in self.rows if rows <= most] or [self.rows[0]]
        made = []
        while texts:
            above = next((rows for rows in allowed if rows >= texts), None)
            below = max((rows for rows in allowed if rows <= texts), default=None)
            if below is None or (above is not None and (above - texts) * width <= self.pass_cost):
                assert above is not None
                made.append((texts, above))
                break
            made.append((below, below))
            texts -= below
        return made

    def cost(self, texts: int, width: int) -> int:
        """What computing so many texts in this width costs, in tokens."""
        if not self.rows:
            return texts * width + -(-texts // max(1, self.budget // width)) * self.pass_cost
        return sum(rows * width + self.pass_cost for _, rows in self.passes(texts, width))


def shapes_for(
    backend: str, device: str, *, threads: int, token_budget: int, longest: int, batch_invariant: bool
) -> Shapes:
    """The shapes for a backend on a device ("cpu", "cuda:0"), `threads` on the CPU, within the card's budget.

    With `batch_invariant` a text's width depends on its own length alone. The number of rows changes no bit where
    one thread computes and with OpenVINO; torch shares rows out among threads, and a GPU chooses kernels by them,
    so there it is fixed.
    """
    on_gpu = device.startswith("cuda")
    free_rows = backend == "openvino" or (not on_gpu and threads == 1)
    rows = _ROWS if backend == "openvino" else ()
    return Shapes(
        budget=token_budget if on_gpu else min(token_budget, _CPU_BUDGET),
        pass_cost=_GPU_PASS if on_gpu else _CPU_PASS[backend],
        longest=longest,
        step=8 if batch_invariant else 2,
        exact=backend == "torch" and not batch_invariant,
        rows=rows if free_rows or not batch_invariant else _FIXED_ROWS,
        uniform=batch_invariant,
    )
