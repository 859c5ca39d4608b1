"""Show the networks: python -m alexnet_jax model [NAME] [--compare NAME] [--plot FILE].

Without a name all networks are listed with the error that their authors report; with one its layers
are shown as a table; `--compare` sets another network beside it; `--plot` draws it in the manner of
the paper's Figure 2.
"""

import argparse
import pathlib
import sys

from alexnet_jax.runtime.errors import EXIT_USER_ERROR, UserError


def main() -> None:
    """Parse flags first: --help answers before jax is imported."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_jax model", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("name", nargs="?", help="a network's name")
    parser.add_argument("--compare", metavar="NAME", help="another network, side by side")
    parser.add_argument("--classes", type=int, help="by default as many as its authors had")
    parser.add_argument("--plot", metavar="FILE", help="draw it: a .png, .svg or .pdf")
    given = parser.parse_args()
    try:
        show(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def show(given: argparse.Namespace) -> None:
    """Print or draw what was asked for."""
    from alexnet_jax.model import summary
    from alexnet_jax.model.networks import NETWORKS, named
    from alexnet_jax.tools.model import drawing

    if given.name is None:
        if given.compare or given.plot:
            raise UserError("Name the network to show: python -m alexnet_jax model NAME.")
        print(listing(NETWORKS.values()))
        return
    network = named(given.name)
    classes = given.classes or network.num_classes
    if given.compare:
        print(summary.comparison(network, named(given.compare)))
    if given.plot:
        drawing.draw(network, classes, pathlib.Path(given.plot))
        print(f"Drawn: {given.plot}")
    if not (given.compare or given.plot):
        print(summary.full_table(network, classes))


def listing(networks) -> str:
    """A line for each network: name, parameters, reported error and its source."""
    from alexnet_jax.model import summary

    rows = [("network", "parameters", "reported error", "source")]
    for network in networks:
        count = summary.total(summary.summarize(network, network.num_classes)).parameters
        rows.append((network.name, f"{count:,}", network.reported, network.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  {count:>{widths[1]}}  {error:<{widths[2]}}  {source}".rstrip()
        for name, count, error, source in rows
    )


if __name__ == "__main__":
    main()
