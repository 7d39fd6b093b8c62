"""Random numbers and functions that come out the same, bit for bit, on every machine.

NumPy's normal and exponential draws and its ``exp`` may differ in the last bit
between CPUs (vector units, fused multiply-add), C libraries and releases, and
one different bit is another data set. Everything here is made of PCG64's
uniform doubles and of single IEEE 754 operations, which leave no choice.
"""

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # 32 bits: k * _LN2_HIGH is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_TAYLOR_DEGREE = 13  # |r| <= ln(2) / 2: the next term is below 1e-17


class Draws:
    """A stream of random numbers named by a key; equal keys, equal streams."""

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def uniform(self, *shape: int) -> Float64:
        """Uniform in [0, 1)."""
        return self._generator.random(shape)

    def normal(self, *shape: int) -> Float64:
        """Mean 0, variance 1, within [-6, 6]: twelve uniforms added up (Irwin-Hall)."""
        total = self.uniform(*shape)
        for _ in range(11):
            total = total + self.uniform(*shape)
        return total - 6.0

    def below(self, end: int, *shape: int) -> Int64:
        """Integers from 0 to ``end - 1``, all as likely."""
        return np.floor(self.uniform(*shape) * end).astype(np.int64)

    def pick(self, weights: Float64, *shape: int) -> Int64:
        """Positions in ``weights``, as likely as their weight."""
        bounds = np.cumsum(weights)
        at = np.searchsorted(bounds, self.uniform(*shape) * bounds[-1], side="right")
        picked: Int64 = np.minimum(at, len(weights) - 1)
        return picked

    def permutation(self, length: int) -> Int64:
        """0 to ``length - 1`` in random order."""
        return np.argsort(self.uniform(length), kind="stable").astype(np.int64)


def exp(x: Float64) -> Float64:
    """e to the power of x to about one unit in the last place, for x in [-700, 700]."""
    halvings = np.rint(x * (1.0 / (_LN2_HIGH + _LN2_LOW)))
    r = (x - halvings * _LN2_HIGH) - halvings * _LN2_LOW
    total = np.ones_like(r)
    for degree in range(_TAYLOR_DEGREE, 0, -1):
        total = total * r
        total = total / degree
        total = total + 1.0
    result: Float64 = np.ldexp(total, halvings.astype(np.int32))
    return result


def sigmoid(x: Float64) -> Float64:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp(-x))


def zipf(ranks: Int64, flatten: float) -> Float64:
    """Zipf-Mandelbrot weights with exponent 1: ``1 / (rank + flatten)``, rank 1 the heaviest."""
    return 1.0 / (ranks.astype(np.float64) + flatten)
