"""Say what images show: python -m alexnet_jax predict --workdir=DIR | --weights=FILE IMAGE...

IMAGE is a file, a folder (with all images below it) or a pattern such as 'cats/*.jpg'. Prints the
five likeliest classes of each with their probabilities. Where an image lies in a folder that has
the name of a class, that is taken for its true class, and the errors are counted. TensorFlow is
not needed.
"""

import os
import pathlib
import sys
from collections.abc import Iterator

from absl import flags

from alexnet_jax.runtime import cli
from alexnet_jax.runtime.errors import UserError

MOST_DRAWN = 24
BAR = 20  # characters


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    images = cli.parse(sys.argv, __doc__, _define_flags, arguments=True)
    if not images:
        raise UserError("No image was named: add files, folders or patterns after the flags.")
    given = flags.FLAGS
    cli.check_output("json", given.json)
    cli.check_output("plot", given.plot)
    cli.alone(lambda: _run(images))


def _define_flags() -> None:
    cli.define_trained_flags()
    flags.DEFINE_enum(
        "views", "center", ["center", "ten", "all"],
        "center; ten: corners, centre and their mirror images; all: every place of the crop.",
    )  # fmt: skip
    flags.DEFINE_integer("top", 5, "How many classes to name.", lower_bound=1)
    flags.DEFINE_integer("batch", 32, "Images at a time.", lower_bound=1)
    flags.DEFINE_string("json", None, "File for what was found, of every image.")
    flags.DEFINE_string(
        "plot", None, f"PNG or SVG of up to {MOST_DRAWN} images with bars, as in Figure 4."
    )
    flags.adopt_module_key_flags(cli)


def _run(arguments: list[str]) -> None:
    from alexnet_jax.data import image_files
    from alexnet_jax.tools import load as tools_load
    from alexnet_jax.tools.visualize import figure

    given = flags.FLAGS
    files = image_files.find(arguments)
    if given.plot:
        figure.check_path(pathlib.Path(given.plot))
        if len(files) > MOST_DRAWN:
            raise UserError(
                f"--plot draws up to {MOST_DRAWN} images, and these are {len(files):,}: name fewer."
            )
    trained = tools_load.from_flags(given.workdir, given.step, given.weights)
    found, drawn, bad = [], [], []
    for result, image in _predictions(trained, files, bad):
        found.append(result)
        print(_block(result), flush=True)
        if given.plot:
            drawn.append(_shown(result, image))
    summary = _summary(found, bad)
    print(_told(summary, trained, given.views))
    if given.json:
        _write_json(pathlib.Path(given.json), trained, given.views, found, summary)
    if drawn:
        from alexnet_jax.tools.visualize import predictions

        predictions.draw(pathlib.Path(given.plot), drawn)
        print(f"Drawn in {given.plot}.")
    if bad:
        raise UserError(f"{len(bad):,} of {len(files):,} images can't be read: {bad[0]}")


def _predictions(trained, files: list[str], bad: list[str]) -> Iterator[tuple[dict, object]]:
    """What the network says of each file that can be read, and the image; the others go to `bad`.

    A batch is padded to full size, so that the network is compiled once.
    """
    import jax
    import numpy as np

    from alexnet_jax.data import image_files, synsets
    from alexnet_jax.tools import inference

    given = flags.FLAGS
    batch = min(given.batch, len(files))
    top = min(given.top, len(trained.classes))
    predict = inference.log_probabilities(trained, given.views)
    parameters = jax.device_put(trained.parameters)
    names = [synsets.words(name) for name in trained.classes]
    channels = trained.architecture.channels
    workers = os.cpu_count() or 1
    folders = [pathlib.Path(file).parent.name for file in files]
    known = {name: synsets.find_class(trained.classes, name) for name in set(folders)}
    load = image_files.loader(files, trained.pixels.size, channels, trained.pixels.warp)
    for ids, images, unusable in image_files.batches(load, range(len(files)), batch, workers):
        for _, error in unusable:
            print(f"warning: {error}", file=sys.stderr, flush=True)
            bad.append(str(error))
        if not len(ids):
            continue
        padded = np.zeros((batch, *images.shape[1:]), np.uint8)
        padded[: len(images)] = images
        probabilities = np.exp(np.asarray(predict(parameters, padded))[: len(images)])
        for record, image, row in zip(ids, images, probabilities, strict=True):
            order = np.argsort(-row, kind="stable")[:top]
            label = known[folders[record]]
            yield (
                {
                    "image": files[record],
                    "label": label,
                    "name": None if label is None else names[label],
                    "predictions": [
                        {
                            "label": int(guess),
                            "name": names[guess],
                            "probability": float(row[guess]),
                        }
                        for guess in order
                    ],
                },
                image,
            )


def _block(result: dict) -> str:
    """An image's guesses as lines for the terminal."""
    truth = "" if result["name"] is None else f"  ({result['name']})"
    lines = [f"{result['image']}{truth}"]
    for guess in result["predictions"]:
        bar = "█" * round(BAR * guess["probability"])
        mark = " <-" if guess["label"] == result["label"] else ""
        lines.append(f"  {guess['probability']:6.1%}  {bar:<{BAR}}  {guess['name']}{mark}")
    return "\n".join(lines)


def _summary(found: list[dict], bad: list[str]) -> dict:
    """Counts, and errors over the images whose class is known."""
    known = [one for one in found if one["label"] is not None]
    summary = {"images": len(found), "unreadable": len(bad), "labelled": len(known)}
    if known:
        guesses = [[guess["label"] for guess in one["predictions"]] for one in known]
        for top in (1, 5):
            wrong = sum(
                one["label"] not in own[:top] for one, own in zip(known, guesses, strict=True)
            )
            if top <= max(map(len, guesses)):
                summary[f"top{top}_error"] = wrong / len(known)
    return summary


def _told(summary: dict, trained, views: str) -> str:
    text = f"{summary['images']:,} images, {views} view(s), {trained.name}"
    if summary["labelled"]:
        errors = [f"top-{key[3]} error {value:.1%}" for key, value in summary.items()
                  if key.endswith("error")]  # fmt: skip
        text += f"; of {summary['labelled']:,} in a class folder: {', '.join(errors)}"
    return text + "."


def _shown(result: dict, image):
    from alexnet_jax.tools.visualize import predictions

    return predictions.Shown(
        image=image,
        title=pathlib.Path(result["image"]).name,
        truth=result["name"] or "",
        names=tuple(guess["name"] for guess in result["predictions"]),
        probabilities=tuple(guess["probability"] for guess in result["predictions"]),
    )


def _write_json(path: pathlib.Path, trained, views: str, found: list[dict], summary: dict) -> None:
    from alexnet_jax.runtime import json_files

    record = {
        "network": trained.variant.network, "weights": trained.name, "views": views,
        **summary, "found": found,
    }  # fmt: skip
    json_files.write_json(path, record)


if __name__ == "__main__":
    main()
