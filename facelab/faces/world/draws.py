"""Counter-based random numbers: what is drawn for face i depends on the seed, the purpose and i, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtri


class Draws:
    """Columns of uniform numbers, one row a face, used up from left to right by named distributions.

    ``Draws(seed, stream, counters, columns)``: row i is the Philox stream with key (seed, stream) and counter ``counters[i]``
    (Salmon et al. 2011), so rows do not depend on which other rows are asked for.
    """

    def __init__(self, seed: int, stream: int, counters: Iterable[int], columns: int):
        key = np.array([seed % 2**64, stream], np.uint64)
        rows = [np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, int(c) % 2**64])).random(columns) for c in counters]
        self._numbers = np.array(rows).reshape(-1, columns)
        self._next = 0

    def uniform(self, low=0.0, high=1.0) -> np.ndarray:
        """(N,) uniform between low and high, numbers or (N,)."""
        column = self._numbers[:, self._next]  # IndexError: ask for more columns
        self._next += 1
        return low + (high - low) * column

    def normal(self, mean=0.0, deviation=1.0, limit: float = 2.5) -> np.ndarray:
        """(N,) Gaussian, cut at ``limit`` deviations; mean and deviation are numbers or (N,)."""
        edge = ndtri(np.clip(self.uniform(), 1e-12, 1 - 1e-12))
        return mean + deviation * np.clip(edge, -limit, limit)

    def normals(self, count: int, limit: float = 2.5) -> np.ndarray:
        """(N, count) standard Gaussians."""
        return np.stack([self.normal(limit=limit) for _ in range(count)], 1)

    def chance(self, probability) -> np.ndarray:
        """(N,) bool, True with the given probability, a number or (N,)."""
        return self.uniform() < probability

    def choice(self, weights) -> np.ndarray:
        """(N,) index into the last axis of weights, (K,) or (N,K), drawn in proportion to them."""
        edges = np.cumsum(np.asarray(weights, float), -1)
        edges = edges / edges[..., -1:]
        return np.minimum((self.uniform()[:, None] > edges).sum(1), edges.shape[-1] - 1)
