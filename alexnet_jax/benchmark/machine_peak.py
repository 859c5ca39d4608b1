"""What the machine reaches at best: a large matrix product and a large copy."""

import jax
import jax.numpy as jnp

from alexnet_jax.benchmark.turns import Contestant

PRODUCT, COPY = "matrix product", "copy"
# Sides of the square matrices and bytes of the array; what a device's caches can't hold.
SIDES = {"cpu": 3072, "gpu": 8192, "tpu": 8192}
COPIED = {"cpu": 2**28, "gpu": 2**30, "tpu": 2**30}


def peak_contestants(
    dtype: str, tiny: bool = False
) -> tuple[dict[str, Contestant], dict[str, float]]:
    """(contestants, work of each: floating-point operations of the product, bytes of the copy).

    Operands are of the type and random, and the product's result is of that type too. The copy
    reads and writes. `tiny` arrays are for trying the command and say nothing of the machine.
    """
    platform = jax.default_backend()
    side, copied = (
        (256, 2**20) if tiny else (SIDES.get(platform, 4096), COPIED.get(platform, 2**28))
    )
    keys = jax.random.split(jax.random.key(0), 2)
    left, right = (jax.random.normal(key, (side, side), jnp.dtype(dtype)) for key in keys)
    source = jax.random.bits(keys[0], (copied // 4,), jnp.uint32)
    product = repeat(jax.jit(jnp.matmul), left, right)
    # Adding keeps XLA from giving back the array itself.
    copy = repeat(jax.jit(lambda x: x + 1), source)
    return {PRODUCT: product, COPY: copy}, {PRODUCT: 2.0 * side**3, COPY: 2.0 * copied}


def repeat(function, *arguments) -> Contestant:
    """Calls a function on the same arrays over and over."""

    def work(repetitions: int) -> None:
        result = None
        for _ in range(repetitions):
            result = function(*arguments)
        jax.block_until_ready(result)

    return work
