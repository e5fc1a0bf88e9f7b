"""The model that is measured: its shape, and how many floating-point operations a text takes in it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Shape:
    """A BERT encoder: layers, size of a hidden vector, attention heads; the inner size is four times the hidden one."""

    layers: int
    hidden: int
    heads: int

    def flops(self, tokens: int) -> float:
        """Floating-point operations of one text's forward pass, a multiplication and its addition counted as two.

        A layer multiplies each token with four hidden × hidden matrices (query, key, value, output) and two of
        hidden × 4 hidden: 8 h² + 16 h² = 24 h² a token. Attention multiplies queries with keys and weights with values:
        4 L h a token. So a text of L tokens takes layers × (24 L h² + 4 L² h): the forward part of the count in
        "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM" (Narayanan et al. 2021,
        appendix "Floating-point operations"), without its vocabulary projection, which an encoder has not. Look-ups,
        norms, softmax and activations are left out, as there: utilisation is told too low rather than too high.
        """
        h = self.hidden
        return float(self.layers * (24 * tokens * h * h + 4 * tokens * tokens * h))

    def mean_flops(self, lengths: Sequence[int]) -> float:
        """Of texts of these lengths, in tokens."""
        return fmean(map(self.flops, lengths))


# BAAI/bge-large-zh: 326 million parameters, 1.3 GB in float32; 335 GFLOP for a text of 512 tokens.
FULL = Shape(layers=24, hidden=1024, heads=16)
SMALL = Shape(layers=2, hidden=64, heads=4)
POSITIONS = 512


def utilisation(texts_per_s: float, flops_per_text: float, product_flops_per_s: float) -> float:
    """Model FLOPs utilisation: the part of a measured matrix product's rate that serving reaches."""
    return texts_per_s * flops_per_text / product_flops_per_s
