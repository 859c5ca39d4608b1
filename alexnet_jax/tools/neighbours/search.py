"""The nearest rows of a set by Euclidean distance, exactly and with bounded memory."""

from collections.abc import Callable, Iterator

import numpy as np

from alexnet_jax.runtime.errors import UserError

Blocks = Callable[[int], Iterator[np.ndarray]]
NOBODY = -1
QUERY_BYTES, BLOCK_BYTES, PAIR_BYTES = 2**28, 2**24, 2**24


def search(
    queries: Blocks,
    own: np.ndarray,
    rows: Blocks,
    width: int,
    k: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """(distances float64 [queries, k], numbers of rows int64 [queries, k]), nearest first.

    Of rows at the same distance the first comes first. `own` int64 [queries] is the row that a
    query is left out of, or NOBODY. `queries(n)` and `rows(n)` give all in order, up to n at a
    time. There have to be k rows, and k + 1 where one is left out. UserError for numbers that are
    not finite.
    """
    distances = np.empty((len(own), k))
    numbers = np.empty((len(own), k), np.int64)
    done = 0
    for block in queries(max(1, QUERY_BYTES // (8 * width))):
        part = slice(done, done + len(block))
        distances[part], numbers[part] = _nearest(
            _finite(block), own[part], rows(max(k, BLOCK_BYTES // (8 * width))), k
        )
        done += len(block)
        progress(done, len(own))
    return distances, numbers


def _nearest(
    queries: np.ndarray, own: np.ndarray, blocks: Iterator[np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `search` for queries float64 [n, width] that are held together.

    Matrix products give squared distances that cancellation may have spoilt a little. Those that
    may be among the nearest within the bound of that error are computed anew from differences.
    """
    count, width = queries.shape
    best = np.full((count, k), np.inf)
    numbers = np.full((count, k), np.iinfo(np.int64).max)
    lengths = np.einsum("ij,ij->i", queries, queries)
    start = 0
    for block in blocks:
        block = _finite(block)
        others = np.einsum("ij,ij->i", block, block)
        squares = queries @ block.T
        squares *= -2
        squares += lengths[:, None]
        squares += others
        mine = np.flatnonzero((own >= start) & (own < start + len(block)))
        squares[mine, own[mine] - start] = np.inf
        slack = 8 * (width + 4) * np.finfo(np.float64).eps * (lengths + others.max())
        bound = best[:, -1]
        if len(block) >= k:
            bound = np.minimum(bound, np.partition(squares, k - 1, axis=1)[:, k - 1] + slack)
        near = squares <= np.minimum(bound + slack, np.finfo(np.float64).max)[:, None]
        query, row = np.nonzero(near)
        exact = _squared_distances(queries, block, query, row)
        best, numbers = _merged(best, numbers, query, row + start, exact)
        start += len(block)
    return np.sqrt(best), numbers


def _squared_distances(
    queries: np.ndarray, block: np.ndarray, query: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """Of pairs, from their differences: the same for equal rows, and 0 for the query itself."""
    found = np.empty(len(query))
    step = max(1, PAIR_BYTES // (8 * queries.shape[1]))
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        differences = queries[query[part]] - block[row[part]]
        found[part] = np.sum(differences * differences, axis=1)
    return found


def _merged(
    best: np.ndarray, numbers: np.ndarray, query: np.ndarray, row: np.ndarray, exact: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of those so far and of new pairs."""
    count, k = best.shape
    whose = np.concatenate([np.repeat(np.arange(count), k), query])
    squares, which = np.concatenate([best.ravel(), exact]), np.concatenate([numbers.ravel(), row])
    order = np.lexsort((which, squares, whose))
    place = np.arange(len(order)) - np.searchsorted(whose[order], np.arange(count))[whose[order]]
    chosen = order[place < k]
    return squares[chosen].reshape(count, k), which[chosen].reshape(count, k)


def _finite(block: np.ndarray) -> np.ndarray:
    if not np.isfinite(block).all():
        raise UserError("Some features are not finite numbers: the network has diverged.")
    return block.astype(np.float64)
