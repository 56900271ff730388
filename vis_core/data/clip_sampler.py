"""The order of training clips: a pure function of the seed, whatever the number of processes, workers or restarts.

Clips are numbered over the whole run: clip ``k = iteration * batch_size + position``. Each source of clips has an
endless list of its items, one random permutation after the other. Which source clip k comes from is drawn by weight,
and it takes that source's next item. Every process walks through all clips and keeps its slice of each batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vis_core.data.seeding import clip_seed

DRAW_BLOCK = 4096  # draws of sources are made in blocks, so that jumping ahead is fast
_SOURCE_STREAM, _ORDER_STREAM = 0, 1


class ClipSampler:
    """Endless batches of (source, item, clip seed), one batch an iteration, for one process.

    Args:
        sizes: number of items of each source.
        weights: of the sources; None joins all items into one list, so that an epoch shows each once.
        batch_size: clips per iteration over all processes; a multiple of ``world_size``.
        seed: of the run, >= 0.
        start_iter: the iteration to begin with.
        whole_batches: every process fills a batch from one source. The sequence of sources then depends on the number
            of processes.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float] | None,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_iter: int = 0,
        whole_batches: bool = False,
    ):
        self.sizes = list(sizes)
        self.weights = None if weights is None else np.asarray(weights, dtype=float)
        self.batch_size = batch_size
        self.seed = seed
        self.local_size = batch_size // world_size
        self.first = rank * self.local_size
        self.start_iter = start_iter
        self.run = self.local_size if whole_batches else 1
        self._last_block, self._last_draws = -1, np.zeros(0, dtype=int)  # see _draws

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        lists = [_EndlessList(size, self.seed, i) for i, size in enumerate(self._list_sizes())]
        starts = np.cumsum([0] + self.sizes)
        taken = self._taken(self.start_iter * self.batch_size)
        iteration = self.start_iter
        while True:
            batch = []
            for position in range(self.batch_size):
                clip = iteration * self.batch_size + position
                source = self._source(clip)
                if self.first <= position < self.first + self.local_size:
                    item = lists[source][taken[source]]
                    if self.weights is None:
                        part = int(np.searchsorted(starts, item, side="right")) - 1
                        batch.append((part, item - int(starts[part]), clip_seed(self.seed, clip)))
                    else:
                        batch.append((source, item, clip_seed(self.seed, clip)))
                taken[source] += 1
            yield batch
            iteration += 1

    def _list_sizes(self) -> list[int]:
        return [sum(self.sizes)] if self.weights is None else self.sizes

    def _taken(self, clips: int) -> list[int]:
        """How many items the first ``clips`` clips took from each list."""
        if self.weights is None:
            return [clips]
        counts = np.zeros(len(self.sizes), dtype=int)
        for block in range(-(-clips // (DRAW_BLOCK * self.run))):
            drawn = np.repeat(self._draws(block), self.run)[: clips - block * DRAW_BLOCK * self.run]
            counts += np.bincount(drawn, minlength=len(self.sizes))
        return counts.tolist()

    def _source(self, clip: int) -> int:
        if self.weights is None:
            return 0
        block, offset = divmod(clip // self.run, DRAW_BLOCK)
        return int(self._draws(block)[offset])

    def _draws(self, block: int) -> np.ndarray:
        """Sources of the draws number block * DRAW_BLOCK and following, int (DRAW_BLOCK,)."""
        if self._last_block != block:
            generator = np.random.default_rng((self.seed, _SOURCE_STREAM, block))
            shares = np.cumsum(self.weights / self.weights.sum())
            drawn = np.searchsorted(shares, generator.random(DRAW_BLOCK), side="right")
            self._last_draws = np.minimum(drawn, len(shares) - 1)  # the shares may add up to a little less than 1
            self._last_block = block
        return self._last_draws


class _EndlessList:
    """Permutations of range(size), one after the other; element n is known without the ones before."""

    def __init__(self, size: int, seed: int, number: int):
        self.size = size
        self.key = (seed, _ORDER_STREAM, number)
        self._epoch, self._order = -1, np.zeros(0, dtype=int)

    def __getitem__(self, n: int) -> int:
        epoch, position = divmod(n, self.size)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((*self.key, epoch)).permutation(self.size)
        return int(self._order[position])
