"""Matrix products of many shapes as XLA computes them, against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

TYPES = ("float32", "bfloat16", "float64")
# Around the sizes of vectors, blocks and caches, and where wrong results are known: jax#39103.
SIZES = (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 96, 127, 128, 129, 192, 255, 256,
         257, 384, 1000, 2048, 4096, 9216, 16385, 32767, 32768, 32769, 65537)  # fmt: skip
MOST_VALUES, MOST_OPERATIONS = 4e6, 3e7


def drawn_size(random, most):
    """One of SIZES, or any."""
    if random.random() < 0.3:
        return int(random.integers(1, max(2, min(most, 600))))
    return int(random.choice([size for size in SIZES if size <= max(1, most)]))


def drawn_case(random):
    """(rows, length, columns, batch), at most as large as is worth the time, in any order."""
    first = drawn_size(random, SIZES[-1])
    second = drawn_size(random, MOST_VALUES / first)
    largest = min(MOST_OPERATIONS / (first * second), MOST_VALUES / max(first, second))
    sides = random.permutation([first, second, drawn_size(random, largest)]).tolist()
    batch = int(random.choice([0, 0, 1, 3])) if np.prod(sides) < MOST_OPERATIONS / 8 else 0
    return (*sides, batch)


def product(xp, a, b, turned, form):
    """What a network does with a product: after a ReLU, with a bias, mapped, squared and summed."""
    if form == "fused":
        a = xp.maximum(a, 0) * 2
    a, b = (
        xp.swapaxes(side, -1, -2) if turn else side
        for side, turn in zip((a, b), turned, strict=True)
    )
    y = jax.vmap(jnp.matmul)(a, b) if form == "mapped" and a.ndim == 3 and xp is jnp else a @ b
    if form == "fused":
        return xp.maximum(y + 1, 0)
    return (y**2).sum(-1) if form == "squares" else y


def errors(seed, count):
    """{type: largest error} of `count` random products.

    It is relative to the largest value, and to the root of the sums' length in thousands.
    """
    compiled = jax.jit(functools.partial(product, jnp), static_argnums=(2, 3))
    random, found = np.random.default_rng(seed), dict.fromkeys(TYPES, 0.0)
    for _ in range(count):
        dtype = random.choice(TYPES, p=[0.6, 0.2, 0.2])
        form = random.choice(["plain", "fused", "mapped", "squares"])
        if dtype == "bfloat16" and form == "squares":
            form = "plain"  # its squares overflow no bound that would tell anything
        rows, length, columns, batch = drawn_case(random)
        turned = tuple(random.random(2) < 0.5)
        sides = [(rows, length), (length, columns)]
        sides = [side[::-1] if turn else side for side, turn in zip(sides, turned, strict=True)]
        many = (batch,) if batch else ()
        a, b = (jnp.asarray(random.normal(size=(*many, *side)), dtype) for side in sides)
        ours = np.asarray(compiled(a, b, turned, form), np.float64)
        theirs = product(np, np.asarray(a, np.float64), np.asarray(b, np.float64), turned, form)
        scale = np.abs(theirs).max() * max(1.0, length / 1000) ** 0.5
        error = np.abs(ours - theirs).max() / scale if scale else np.abs(ours).max()
        found[dtype] = max(found[dtype], float(error))
    return found


def known_error(dtype, count):
    """Of the program of jax#39103, in whose rows XLA's default fusion adds up something else."""
    random = np.random.default_rng(0)
    matrix, rows = random.normal(size=(3, 3)), random.normal(size=(count, 3))
    ours = jax.jit(jax.vmap(lambda row, matrix: ((matrix @ row) ** 2).sum(), (0, None)))(
        jnp.asarray(rows, dtype), jnp.asarray(matrix, dtype)
    )
    theirs = ((rows @ matrix.T) ** 2).sum(-1)
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max() / theirs.max())


def report(seed, count):
    """A line for each type, and for the known case in two: the name and the largest error."""
    for name, error in errors(seed, count).items():
        print(name, error)
    for name, rows in (("float32", 32_769), ("float64", 16_385)):
        print(f"known_{name}", known_error(name, rows))
