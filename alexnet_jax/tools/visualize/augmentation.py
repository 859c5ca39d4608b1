"""How training draws views of an image: crops, mirror images, colours (the paper's section 4.1)."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.tools import load
from alexnet_jax.tools.visualize import figure
from alexnet_jax.training import checkpoint, pictures, plan, run_folder

COLOURS = ("#e6372e", "#2e8fe6", "#35b04a", "#e6a02e", "#a44be0", "#12b5b5", "#d6408f", "#8a8a1f")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run does to its images.

    `size` is that of stored images, `crop` that of views. `mean` as for Pixels.mean, of
    [size, size, channels] if `mean_at_crop`; `directions` and `divisor` as for
    training.step.Preprocessing, `noise` the strength of colour noise.
    """

    size: int
    crop: int
    channels: int
    warp: bool
    random_crop: bool
    flip: bool
    mean: np.ndarray
    mean_at_crop: bool
    directions: np.ndarray
    divisor: np.ndarray
    noise: float
    noise_divides: bool


@dataclasses.dataclass(frozen=True)
class Views:
    """Training views of one image, the same row in each array.

    `cropped` and `flipped` are uint8 [views, crop, crop, channels], `tinted` is float32 in grey
    levels with the mean put back, `inputs` float32 is what the network gets. `places` int
    [views, 3]: top, left and 1 if mirrored.
    """

    cropped: np.ndarray
    flipped: np.ndarray
    tinted: np.ndarray
    inputs: np.ndarray
    places: np.ndarray


def recipe_of(workdir: pathlib.Path, wanted: str | None) -> Recipe:
    """From the config and statistics of a run; errors as for load.find_checkpoint."""
    step, _ = load.find_checkpoint(workdir, wanted)
    config = run_folder.config_of(checkpoint.facts_at(workdir / "checkpoints", step))
    architecture, data = plan.architecture_of(config), config.data
    measured = run_folder.statistics_of(workdir, data.image_size, architecture.channels)
    crop, at_crop = architecture.input_size, data.mean_at == "crop"
    mean = augment.subtracted_mean(
        measured,
        data.mean,
        at_crop=at_crop,
        crop=crop,
        channel_mean=tuple(data.channel_mean),
    )
    return Recipe(
        size=data.image_size,
        crop=crop,
        channels=architecture.channels,
        warp=data.resize == "warp",
        random_crop=data.random_crop,
        flip=data.flip,
        mean=mean,
        mean_at_crop=data.mean == "image" and at_crop,
        directions=augment.scaled_directions(measured, data.colour_noise_by),
        divisor=augment.divisor(measured, data.units, data.scale),
        noise=data.colour_noise,
        noise_divides=data.colour_noise_divides,
    )


def views_of(recipe: Recipe, image: np.ndarray, count: int, seed: int) -> Views:
    """`count` views of an image uint8 [size, size, channels] by the functions of training.

    The draws are not those of a run, which depend on the image's step and row there.
    """
    key = jax.random.key(seed, impl="threefry2x32")
    crops, flips, colours = (
        jax.random.split(jax.random.fold_in(key, purpose), count) for purpose in range(3)
    )

    def drawn(stored: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Crops of an array [size, size, n], and the same mirrored where that is drawn."""
        whole = jnp.broadcast_to(jnp.asarray(stored), (count, *stored.shape))
        if recipe.random_crop:
            cropped = augment.random_crop(whole, crops, recipe.crop)
        else:
            cropped = augment.center_crop(whole, recipe.crop)
        return cropped, augment.random_flip(cropped, flips) if recipe.flip else cropped

    cropped, flipped = drawn(image)
    # The same draws for an image of coordinates tell where each view lies.
    cropped_at, flipped_at = (
        np.asarray(part) for part in drawn(np.moveaxis(np.indices(image.shape[:2]), 0, -1))
    )
    mirrored = flipped_at[:, 0, 0, 1] != cropped_at[:, 0, 0, 1]
    mean = drawn(recipe.mean)[1] if recipe.mean_at_crop else jnp.asarray(recipe.mean)
    centred = flipped.astype(jnp.float32) - mean
    noisy = augment.colour_noise(
        centred, colours, jnp.asarray(recipe.directions), recipe.noise, recipe.noise_divides
    )
    return Views(
        cropped=np.asarray(cropped),
        flipped=np.asarray(flipped),
        tinted=np.asarray(noisy + mean),
        inputs=np.asarray(noisy / recipe.divisor),
        places=np.column_stack([cropped_at[:, 0, 0], mirrored]).astype(int),
    )


def draw(recipe: Recipe, image: np.ndarray, views: Views):
    """The figure: where the views lie on the left, what becomes of each on the right."""
    drawn = figure.blank(13.3, 7.2 if recipe.flip and recipe.noise else 5.8)
    left, right = drawn.subfigures(1, 2, width_ratios=(1, 2.7))
    above, below = left.subplots(2, 1, height_ratios=(1.25, 1))
    _draw_crops(above, image, views, recipe)
    _draw_places(below, views, recipe)
    zero = pictures.GREY if recipe.mean.any() else 0
    seen = np.clip(np.round(views.inputs * recipe.divisor + zero), 0, 255).astype(np.uint8)
    tinted = np.clip(np.round(views.tinted), 0, 255).astype(np.uint8)
    rows = [("a random crop" if recipe.random_crop else "the central crop", views.cropped)]
    if recipe.flip:
        rows.append(("mirrored or not", views.flipped))
    if recipe.noise:
        rows.append((f"colours shifted\n(strength {recipe.noise:g})", tinted))
    rows.append(("minus the mean:\nthe network's view", seen))
    grid = right.subplots(len(rows), len(views.places), squeeze=False)
    for own, (label, shown) in zip(grid, rows, strict=True):
        for axes, view, colour in zip(own, shown, COLOURS, strict=False):
            figure.show(axes, view, "")
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=2)
        own[0].set_ylabel(label, fontsize=11)
    return drawn


def _draw_crops(axes, image: np.ndarray, views: Views, recipe: Recipe) -> None:
    from matplotlib.patches import Rectangle

    figure.show(axes, image, f"the image, {recipe.size} x {recipe.size} pixels")
    for (top, left, _), colour in zip(views.places, COLOURS, strict=False):
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), recipe.crop, recipe.crop, fill=False,
                                 edgecolor=colour, linewidth=1.6))  # fmt: skip
    axes.set(xlim=(-1, recipe.size), ylim=(recipe.size, -1))


def _draw_places(axes, views: Views, recipe: Recipe) -> None:
    """Where the corner of a view may lie, and those of the views."""
    last = recipe.size - recipe.crop
    places = (last + 1) ** 2
    for (top, left, mirrored), colour in zip(views.places, COLOURS, strict=False):
        axes.plot(left, top, "<" if mirrored else "o", color=colour, ms=9, clip_on=False)
    axes.set(xlim=(-0.5, last + 0.5), ylim=(last + 0.5, -0.5), aspect="equal")
    side = f"{recipe.size} - {recipe.crop} + 1"
    text = f"({side})² = {places:,} places of the corner"
    if recipe.flip:
        text = f"({side})² x 2 = {2 * places:,} views\n(its corner; ◁ mirrored)"
    axes.set_title(text, fontsize=11)
    axes.locator_params(integer=True)
    axes.set_xlabel("pixels from the left", fontsize=10)
    axes.set_ylabel("from the top", fontsize=10)
    axes.grid(alpha=0.3)
