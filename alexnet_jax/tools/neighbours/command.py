"""Find the images nearest to others in what a layer says of them, as in the paper's Figure 4:
python -m alexnet_jax neighbours --features=FILE --queries=FILE
python -m alexnet_jax neighbours --features=FILE --workdir=DIR | --weights=FILE IMAGE...

Files are those of python -m alexnet_jax features. The distance is Euclidean and exact; of images at
the same one the first comes first. A query whose nearest images have its class tells that the layer
knows the class.
"""

import argparse
import os
import pathlib
import sys

from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    args, images = command_flags.parse(sys.argv, __doc__, _define_flags, arguments=True)
    if not args.features:
        raise UserError(
            "Among which images? Add --features=FILE, written by python -m alexnet_jax features."
        )
    if bool(images) == bool(args.queries):
        raise UserError(
            "Whose neighbours? Add --queries=FILE with their features, or images after the flags, "
            "one of the two."
        )
    named = [name for name in ("workdir", "step", "weights") if getattr(args, name)]
    if named and not images:
        raise UserError(f"--{named[0]} is for images, and --queries has features: leave it out.")
    for name in ("json", "plot"):
        cli.check_output(name, getattr(args, name))
    cli.alone(lambda: _run(args, images))


def _define_flags(flags: command_flags.Flags) -> None:
    flags.trained_network()
    flags.string("features", None, "Features of the images to search, .npz or .parquet.")
    flags.string("queries", None, "Features of the queries.")
    flags.integer("k", 6, "How many neighbours.", at_least=1)
    flags.switch(
        "leave_out_self", None,
        "A query is no neighbour of its own; unset: where both files are the same.",
    )  # fmt: skip
    flags.integer("rows", 8, "Queries in table and picture, evenly spread.", at_least=1)
    flags.integer("batch_size", 64, "Images at a time.", at_least=1)
    flags.string("json", None, "File for the neighbours of every query.")
    flags.string("plot", None, "PNG or SVG as the right half of Figure 4.")


def _run(args: argparse.Namespace, images: list[str]) -> None:
    from alexnet_jax.runtime import json_files
    from alexnet_jax.runtime.terminal import Terminal
    from alexnet_jax.tools.features import files
    from alexnet_jax.tools.neighbours import report
    from alexnet_jax.tools.visualize import figure

    if args.plot:
        figure.check_figure_path(pathlib.Path(args.plot))
    features = files.read_features(pathlib.Path(args.features))
    with Terminal() as terminal:
        queries = _queries(args, images, features, terminal)
        distances, indices, left_out = _search(args, features, queries, terminal)
        record = report.neighbours_record(features, queries, distances, indices, left_out)
        chosen = report.evenly_spaced(len(queries), args.rows)
        terminal.info(report.neighbours_table(record, chosen))
        if args.json:
            json_files.write_json(pathlib.Path(args.json), record)
            terminal.info(f"In {args.json}: all of this, of every query.")
        if args.plot:
            _draw(pathlib.Path(args.plot), features, queries, indices, chosen)
            terminal.info(f"Drawn in {args.plot}.")


def _queries(args: argparse.Namespace, images: list[str], features, terminal):
    from alexnet_jax.tools.features import files
    from alexnet_jax.tools.neighbours import queries

    if images:
        from alexnet_jax.tools.load import from_flags

        trained = from_flags(args.workdir, args.step, args.weights)
        return queries.of_images(trained, features, images, args.batch_size, terminal)
    query_features = files.read_features(pathlib.Path(args.queries))
    queries.check_comparable(features, query_features.metadata, query_features.path)
    return query_features


def _search(args: argparse.Namespace, features, query_features, terminal):
    """(distances, indices, whether queries were left out of their own neighbours)."""
    import numpy as np

    from alexnet_jax.runtime.terminal import ProgressLine
    from alexnet_jax.tools.neighbours import queries, search

    excluded = np.full(len(query_features), search.NOBODY, np.int64)
    left_out = args.leave_out_self
    if left_out is None:
        left_out = bool(args.queries) and os.path.samefile(args.queries, args.features)
    if left_out:
        excluded = queries.self_indices(query_features, features)
    most = len(features) - bool((excluded != search.NOBODY).any())
    if args.k > most:
        raise UserError(
            f"--k={args.k} neighbours are more than the {most:,} that {features.path} has."
        )
    progress = ProgressLine("queries", terminal)
    distances, indices = search.nearest_neighbours(
        query_features.blocks,
        excluded,
        features.blocks,
        width=features.width,
        k=args.k,
        progress=progress,
    )
    return distances, indices, left_out


def _draw(path: pathlib.Path, features, queries, indices, chosen: list[int]) -> None:
    from alexnet_jax.tools.features import collection
    from alexnet_jax.tools.neighbours import report
    from alexnet_jax.tools.visualize import neighbours

    def panel(features_of_set, load, classes, index):
        class_name = classes[index]
        name = (
            pathlib.PurePath(features_of_set.names[index]).stem
            if class_name is None
            else class_name
        )
        return neighbours.Image(load(index), name, class_name)

    candidate_set, query_set = (
        (
            features_of_set,
            collection.open_again(
                features_of_set.metadata["images"], features_of_set.names, features_of_set.stored
            ),
            report.image_classes(features_of_set),
        )
        for features_of_set in (features, queries)
    )
    rows = [
        (
            panel(*query_set, query),
            [panel(*candidate_set, int(neighbour)) for neighbour in indices[query]],
        )
        for query in chosen
    ]
    neighbours.draw_neighbours(path, rows, features.metadata["layer"])


if __name__ == "__main__":
    main()
