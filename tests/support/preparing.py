"""Small prepared sets for tests."""

from alexnet_jax.data import prepare, prepared, shards, sources
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
    report = prepare.prepare_dataset(
        open_origin(source), settings(**changed), output, num_workers=1, terminal=silent
    )
    shape = (changed.get("size", SIZE), changed.get("channels", 3))
    warp = "resize" in changed
    splits = {name: prepared.Prepared(output, name, *shape, warp=warp) for name in report["splits"]}
    return report, splits


def open_splits(kind, size, **changed):
    """sources.open_splits with 3 channels and no path, unless `changed` has others."""
    options = {"path": None, "name": "none", "validation": "val", "image_size": size,
               "channels": 3, "num_records": 0, "num_classes": None}  # fmt: skip
    return sources.open_splits(kind, **options | changed)


def open_folder(path, size, **changed):
    """Both splits of the folder `path`, or of the prepared set `name` for None."""
    return open_splits("folder", size, path=None if path is None else str(path), **changed)
