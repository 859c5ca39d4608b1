"""The nearest feature vectors of a set by Euclidean distance, exactly and with bounded memory."""

from collections.abc import Callable, Iterator

import numpy as np

from alexnet_jax.runtime.errors import UserError

Blocks = Callable[[int], Iterator[np.ndarray]]
NOBODY = -1
QUERY_BYTES, BLOCK_BYTES, PAIR_BYTES = 2**28, 2**24, 2**24


def nearest_neighbours(
    queries: Blocks,
    excluded: np.ndarray,
    candidates: Blocks,
    *,
    width: int,
    k: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray]:
    """(distances float64 [queries, k], indices of candidates int64 [queries, k]), nearest first.

    Of candidates at the same distance the first comes first. `excluded` int64 [queries] is the
    candidate that is left out for a query, or NOBODY. `queries(n)` and `candidates(n)` yield all
    vectors in order, up to n at a time. At least k candidates are needed, k + 1 where one is left
    out. UserError for features that are not finite.
    """
    distances = np.empty((len(excluded), k))
    indices = np.empty((len(excluded), k), np.int64)
    done = 0
    for block in queries(max(1, QUERY_BYTES // (8 * width))):
        part = slice(done, done + len(block))
        distances[part], indices[part] = _nearest(
            _finite(block), excluded[part], candidates(max(k, BLOCK_BYTES // (8 * width))), k
        )
        done += len(block)
        progress(done, len(excluded))
    return distances, indices


def _nearest(
    queries: np.ndarray, excluded: np.ndarray, blocks: Iterator[np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest_neighbours`, for queries float64 [n, width] in memory.

    Matrix products give squared distances that cancellation may have spoilt a little. Those that
    may be among the nearest within the bound of that error are computed anew from differences.
    """
    count, width = queries.shape
    best = np.full((count, k), np.inf)
    indices = np.full((count, k), np.iinfo(np.int64).max)
    query_lengths = np.einsum("ij,ij->i", queries, queries)
    start = 0
    for block in blocks:
        block = _finite(block)
        block_lengths = np.einsum("ij,ij->i", block, block)
        squares = queries @ block.T
        squares *= -2
        squares += query_lengths[:, None]
        squares += block_lengths
        excluding = np.flatnonzero((excluded >= start) & (excluded < start + len(block)))
        squares[excluding, excluded[excluding] - start] = np.inf
        slack = 8 * (width + 4) * np.finfo(np.float64).eps * (query_lengths + block_lengths.max())
        bound = best[:, -1]
        if len(block) >= k:
            bound = np.minimum(bound, np.partition(squares, k - 1, axis=1)[:, k - 1] + slack)
        near = squares <= np.minimum(bound + slack, np.finfo(np.float64).max)[:, None]
        query, candidate = np.nonzero(near)
        exact = _squared_distances(queries, block, query=query, candidate=candidate)
        best, indices = _merged(
            best, indices, query=query, candidate=candidate + start, exact=exact
        )
        start += len(block)
    return np.sqrt(best), indices


def _squared_distances(
    queries: np.ndarray, block: np.ndarray, *, query: np.ndarray, candidate: np.ndarray
) -> np.ndarray:
    """Squared distances of pairs (query, candidate) from their differences: 0 for equal vectors."""
    distances = np.empty(len(query))
    step = max(1, PAIR_BYTES // (8 * queries.shape[1]))
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        differences = queries[query[part]] - block[candidate[part]]
        distances[part] = np.sum(differences * differences, axis=1)
    return distances


def _merged(
    best: np.ndarray,
    indices: np.ndarray,
    *,
    query: np.ndarray,
    candidate: np.ndarray,
    exact: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest candidates of each query, from those so far and new pairs with `exact`."""
    count, k = best.shape
    queries = np.concatenate([np.repeat(np.arange(count), k), query])
    squares, candidates = (
        np.concatenate([best.ravel(), exact]),
        np.concatenate([indices.ravel(), candidate]),
    )
    order = np.lexsort((candidates, squares, queries))
    rank = np.arange(len(order)) - np.searchsorted(queries[order], np.arange(count))[queries[order]]
    chosen = order[rank < k]
    return squares[chosen].reshape(count, k), candidates[chosen].reshape(count, k)


def _finite(block: np.ndarray) -> np.ndarray:
    if not np.isfinite(block).all():
        raise UserError("Some features are not finite numbers: the network has diverged.")
    return block.astype(np.float64)
