"""Find the images nearest to others in what a layer says of them, as in the paper's Figure 4:
python -m alexnet_jax neighbours --features=FILE --queries=FILE
python -m alexnet_jax neighbours --features=FILE --workdir=DIR | --weights=FILE IMAGE...

Files are those of python -m alexnet_jax features. The distance is Euclidean and exact; of images at
the same one the first comes first. A query whose nearest images have its class tells that the layer
knows the class.
"""

import os
import pathlib
import sys

from absl import flags

from alexnet_jax.runtime import cli
from alexnet_jax.runtime.errors import UserError


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    images = cli.parse(sys.argv, __doc__, _define_flags, arguments=True)
    given = flags.FLAGS
    if not given.features:
        raise UserError(
            "Among which images? Add --features=FILE, written by python -m alexnet_jax features."
        )
    if bool(images) == bool(given.queries):
        raise UserError(
            "Whose neighbours? Add --queries=FILE with their features, or images after the flags, "
            "one of the two."
        )
    named = [name for name in ("workdir", "step", "weights") if given[name].value]
    if named and not images:
        raise UserError(f"--{named[0]} is for images, and --queries has features: leave it out.")
    for name in ("json", "plot"):
        cli.check_output(name, given[name].value)
    cli.alone(lambda: _run(images))


def _define_flags() -> None:
    cli.define_trained_flags()
    flags.DEFINE_string("features", None, "Features of the images to search, .npz or .parquet.")
    flags.DEFINE_string("queries", None, "Features of the queries.")
    flags.DEFINE_integer("k", 6, "How many neighbours.", lower_bound=1)
    flags.DEFINE_bool(
        "leave_out_self", None,
        "A query is no neighbour of its own; unset: where both files are the same.",
    )  # fmt: skip
    flags.DEFINE_integer("rows", 8, "Queries in table and picture, evenly spread.", lower_bound=1)
    flags.DEFINE_integer("batch", 64, "Images at a time.", lower_bound=1)
    flags.DEFINE_string("json", None, "File for what was found, of every query.")
    flags.DEFINE_string("plot", None, "PNG or SVG as the right half of Figure 4.")


def _run(arguments: list[str]) -> None:
    from alexnet_jax.runtime import json_files
    from alexnet_jax.runtime.terminal import Terminal
    from alexnet_jax.tools.features import files
    from alexnet_jax.tools.neighbours import report
    from alexnet_jax.tools.visualize import figure

    given = flags.FLAGS
    if given.plot:
        figure.check_path(pathlib.Path(given.plot))
    features = files.read(pathlib.Path(given.features))
    with Terminal() as terminal:
        queries = _queries(arguments, features, terminal)
        distances, numbers, left_out = _search(features, queries, terminal)
        record = report.content(features, queries, distances, numbers, left_out)
        chosen = report.spread(len(queries), given.rows)
        terminal.info(report.table(record, chosen))
        if given.json:
            json_files.write_json(pathlib.Path(given.json), record)
            terminal.info(f"In {given.json}: all of this, of every query.")
        if given.plot:
            _draw(pathlib.Path(given.plot), features, queries, numbers, chosen)
            terminal.info(f"Drawn in {given.plot}.")


def _queries(arguments: list[str], features, terminal):
    from alexnet_jax.tools.features import files
    from alexnet_jax.tools.neighbours import queries

    given = flags.FLAGS
    if arguments:
        from alexnet_jax.tools import load as tools_load

        trained = tools_load.from_flags(given.workdir, given.step, given.weights)
        return queries.of_images(trained, features, arguments, given.batch, terminal)
    found = files.read(pathlib.Path(given.queries))
    queries.check_comparable(features, found.about, found.path)
    return found


def _search(features, wanted, terminal):
    """(distances, numbers of rows, whether queries were left out of their own neighbours)."""
    import numpy as np

    from alexnet_jax.runtime.terminal import ProgressLine
    from alexnet_jax.tools.neighbours import queries, search

    given = flags.FLAGS
    own = np.full(len(wanted), search.NOBODY, np.int64)
    left_out = given.leave_out_self
    if left_out is None:
        left_out = bool(given.queries) and os.path.samefile(given.queries, given.features)
    if left_out:
        own = queries.rows_of(wanted, features)
    most = len(features) - bool((own != search.NOBODY).any())
    if given.k > most:
        raise UserError(
            f"--k={given.k} neighbours are more than the {most:,} that {features.path} has."
        )
    progress = ProgressLine("queries", terminal)
    found = search.search(wanted.blocks, own, features.blocks, features.width, given.k, progress)
    return *found, left_out


def _draw(path: pathlib.Path, features, queries, numbers, chosen: list[int]) -> None:
    from alexnet_jax.tools.features import collection
    from alexnet_jax.tools.neighbours import report
    from alexnet_jax.tools.visualize import neighbours

    def shown(of, load, classes, number):
        kind = classes[number]
        name = pathlib.PurePath(of.names[number]).stem if kind is None else kind
        return neighbours.Image(load(number), name, kind)

    theirs, ours = (
        (of, collection.open_again(of.about["images"], of.names, of.stored), report.class_names(of))
        for of in (features, queries)
    )
    rows = [
        (shown(*ours, query), [shown(*theirs, int(other)) for other in numbers[query]])
        for query in chosen
    ]
    neighbours.draw(path, rows, features.about["layer"])


if __name__ == "__main__":
    main()
