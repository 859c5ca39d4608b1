"""Small prepared sets for tests."""

from alexnet_jax.data import prepare, prepared, shards
from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime import terminal

SIZE = 64


def settings(**changed):
    fields = {"name": "mini", "size": SIZE, "channels": 3, "resize": "crop", "format": "jpeg",
              "seed": 0}  # fmt: skip
    return shards.Settings(**fields | changed)


def make(source, output, **changed):
    """Prepare, and give the report and the source for each split."""
    silent = terminal.Terminal(speaks=False)
    report = prepare.prepare(open_origin(source), settings(**changed), output, 1, silent)
    shape = (changed.get("size", SIZE), changed.get("channels", 3), "resize" in changed)
    splits = {name: prepared.Prepared(output, name, *shape) for name in report["splits"]}
    return report, splits
