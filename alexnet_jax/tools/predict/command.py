"""Name what images show: python -m alexnet_jax predict --workdir=DIR | --weights=FILE IMAGE...

IMAGE is a file, a folder (with all images below it) or a pattern such as 'cats/*.jpg'. Prints the
five likeliest classes of each with their probabilities. Where an image lies in a folder that has
the name of a class, that is taken for its true class, and the errors are counted. TensorFlow is
not needed.
"""

import argparse
import pathlib
import sys

from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError

MOST_DRAWN = 24
BAR = 20  # characters


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    args, images = command_flags.parse(sys.argv, __doc__, _define_flags, arguments=True)
    if not images:
        raise UserError("No image was named: add files, folders or patterns after the flags.")
    cli.check_output("json", args.json)
    cli.check_output("plot", args.plot)
    cli.alone(lambda: _run(args, images))


def _define_flags(flags: command_flags.Flags) -> None:
    flags.trained_network()
    flags.views()
    flags.integer("top", 5, "How many classes to name.", at_least=1)
    flags.integer("batch_size", 32, "Images at a time.", at_least=1)
    flags.string("json", None, "File for the results of every image.")
    flags.string(
        "plot", None, f"PNG or SVG of up to {MOST_DRAWN} images with bars, as in Figure 4."
    )


def _run(args: argparse.Namespace, images: list[str]) -> None:
    from alexnet_jax.data import image_files
    from alexnet_jax.tools import load
    from alexnet_jax.tools.predict import classify
    from alexnet_jax.tools.visualize import figure

    files = image_files.find(images)
    if args.plot:
        figure.check_figure_path(pathlib.Path(args.plot))
        if len(files) > MOST_DRAWN:
            raise UserError(
                f"--plot draws up to {MOST_DRAWN} images, and these are {len(files):,}: name fewer."
            )
    trained = load.from_flags(args.workdir, args.step, args.weights)
    errors: list[str] = []

    def warn(error: Exception) -> None:
        print(f"warning: {error}", file=sys.stderr, flush=True)
        errors.append(str(error))

    results, panels = [], []
    for result, pixels in classify.classify(
        trained, files, views=args.views, top=args.top, batch_size=args.batch_size, unreadable=warn
    ):
        results.append(result)
        print(_block(result), flush=True)
        if args.plot:
            panels.append(_panel(result, pixels))
    summary = classify.summarize(results, len(errors))
    print(_summary_line(summary, trained.name, args.views))
    if args.json:
        _write_json(pathlib.Path(args.json), trained, args.views, results, summary)
    if panels:
        from alexnet_jax.tools.visualize import predictions

        predictions.draw_predictions(pathlib.Path(args.plot), panels)
        print(f"Drawn in {args.plot}.")
    if errors:
        raise UserError(f"{len(errors):,} of {len(files):,} images can't be read: {errors[0]}")


def _block(result) -> str:
    """An image's likeliest classes as lines for the terminal."""
    truth = "" if result.name is None else f"  ({result.name})"
    lines = [f"{result.image}{truth}"]
    for guess in result.predictions:
        bar = "█" * round(BAR * guess.probability)
        mark = " <-" if guess.label == result.label else ""
        lines.append(f"  {guess.probability:6.1%}  {bar:<{BAR}}  {guess.name}{mark}")
    return "\n".join(lines)


def _summary_line(summary: dict[str, float], weights: str, views: str) -> str:
    text = f"{summary['images']:,} images, {views} view(s), {weights}"
    if summary["labelled"]:
        errors = [f"top-{key[3]} error {value:.1%}" for key, value in summary.items()
                  if key.endswith("error")]  # fmt: skip
        text += f"; of {summary['labelled']:,} in a class folder: {', '.join(errors)}"
    return text + "."


def _panel(result, pixels):
    from alexnet_jax.tools.visualize import predictions

    return predictions.PredictionPanel(
        image=pixels,
        title=pathlib.Path(result.image).name,
        truth=result.name or "",
        names=tuple(guess.name for guess in result.predictions),
        probabilities=tuple(guess.probability for guess in result.predictions),
    )


def _write_json(path: pathlib.Path, trained, views: str, results, summary: dict) -> None:
    from alexnet_jax.runtime import json_files

    record = {
        "network": trained.variant.network, "weights": trained.name, "views": views,
        **summary, "found": [result.record() for result in results],
    }  # fmt: skip
    json_files.write_json(path, record)


if __name__ == "__main__":
    main()
