"""Which shapes of a forward pass a backend likes, and which keep a text's vector free of its company.

docs/batching.md has the measurements behind every value here.
"""

from dataclasses import dataclass

# Lengths are told apart in this many steps an octave: planning takes the square of the number of steps.
_STEPS_AN_OCTAVE = 8

# A pass of this many tokens is as good as any larger one on a CPU.
_CPU_BUDGET = {"openvino": 1536, "torch": 1024}
# Beside its tokens a pass costs the change of shape and the weights, which the pass before drove out of the cache.
_CPU_PASS = {"openvino": 96, "torch": 40}
_GPU_PASS = 512
# Matrix units (AMX) take 16 tokens at a time: other widths cost up to a third more a token.
_CPU_STEP = 16
_SHARED_ROWS = (64, 96)
# OpenVINO keeps what it prepared for a shape (some 0.5 MB) and takes 10 ms for a new one, so there are few.
_ROWS = (*range(1, 13), 14, 16, 18, 20, 22, 24, 32, 48, 64)
_FIXED_ROWS = (8,)
# On a CPU as many of them as make so many tokens, and one at least: more are mostly dummies, fewer are computed badly.
_FIXED_BUDGET = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a backend asks of its passes.

    `budget` is the most padded tokens of a pass; `pass_cost` what a pass costs beside them, told in tokens.
    `longest` is the most tokens a text can have: no pass is wider.
    `step` is the finest step of lengths; with `exact` it only guides the plan, and a pass is as wide as its longest
    text, otherwise widths are rounded up to steps. `rows` are the numbers of texts a pass may have (ascending, the
    rest filled with dummies), any number where it is empty. `uniform`: only texts of the same rounded length share a
    pass, so that a text's width depends on nothing but the text. `shared_rows` (ascending) are the tokens of rows
    that texts share; none where each has its own.
    """

    budget: int
    pass_cost: int
    longest: int
    step: int
    exact: bool
    rows: tuple[int, ...] = ()
    uniform: bool = False
    shared_rows: tuple[int, ...] = ()

    def shared_row(self, longest: int) -> int:
        """The tokens up to which the texts of a batch with this longest one share a row: shorter where all fit, since
        attention looks at the whole row.
        """
        return next((tokens for tokens in self.shared_rows if tokens >= longest), self.shared_rows[-1])

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
        allowed = [rows for rows in self.rows if rows <= most] or [min(self.rows[0], most)]
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
    backend: str,
    device: str,
    *,
    token_budget: int,
    longest: int,
    packs: bool,
    batch_invariant: bool,
) -> Shapes:
    """The shapes for a backend on a device ("cpu", "cuda:0"), within the card's budget; with `packs`, texts may share
    rows.

    With `batch_invariant` a text's width depends on its own length alone, and it has its row to itself. The number of
    rows changes no bit with OpenVINO; torch's libraries choose kernels by them, so there it is fixed (for each width).
    """
    on_gpu = device.startswith("cuda")
    openvino = backend == "openvino"
    if batch_invariant:
        most = _CPU_BUDGET[backend] if openvino else _FIXED_BUDGET
        return Shapes(
            budget=token_budget if on_gpu else min(token_budget, most),
            pass_cost=_GPU_PASS if on_gpu else _CPU_PASS[backend],
            longest=longest,
            step=8,
            exact=False,
            rows=_ROWS if openvino else _FIXED_ROWS,
            uniform=True,
        )
    if on_gpu:
        return Shapes(budget=token_budget, pass_cost=_GPU_PASS, longest=longest, step=2, exact=True)
    budget = min(token_budget, _CPU_BUDGET[backend])
    return Shapes(
        budget=budget,
        pass_cost=_CPU_PASS[backend],
        longest=longest,
        step=_CPU_STEP,
        exact=False,
        rows=_ROWS if openvino else (),
        shared_rows=tuple(min(tokens, longest, budget) for tokens in _SHARED_ROWS) if packs else (),
    )
