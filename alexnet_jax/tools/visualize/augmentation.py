"""How training augments an image: crops, mirror images, colours (the paper's section 4.1)."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools import load
from alexnet_jax.tools.visualize import figure
from alexnet_jax.training import checkpoint, pictures, plan, run_folder

COLOURS = ("#e6372e", "#2e8fe6", "#35b04a", "#e6a02e", "#a44be0", "#12b5b5", "#d6408f", "#8a8a1f")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run does to its images.

    `size` is the side of stored images, `crop` that of crops. `mean` as for Pixels.mean, of
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
class AugmentedCrops:
    """Augmented crops of one image, one index for a crop in each array.

    `cropped` and `flipped` are uint8 [crops, crop, crop, channels], `tinted` is float32 in grey
    levels with the mean put back, `inputs` float32 is what the network gets. `positions` int
    [crops, 3]: top, left and 1 if mirrored.
    """

    cropped: np.ndarray
    flipped: np.ndarray
    tinted: np.ndarray
    inputs: np.ndarray
    positions: np.ndarray


def recipe_of(workdir: pathlib.Path, choice: str | None) -> Recipe:
    """From the config and statistics of a run; errors as for load.find_checkpoint."""
    step, _ = load.find_checkpoint(workdir, choice)
    config = run_folder.config_of(checkpoint.facts_at(workdir / "checkpoints", step))
    architecture, data = plan.architecture_of(config), config.data
    if data.random_resized_crop:
        raise UserError(
            f"{workdir} was trained with data.random_resized_crop="
            f"{tuple(data.random_resized_crop)}, but this picture is of the paper's crops, which "
            "have one size: name a run that has those."
        )
    statistics = run_folder.statistics_of(workdir, data.image_size, architecture.channels)
    crop, at_crop = architecture.input_size, data.mean_at == "crop"
    mean = augment.subtracted_mean(
        statistics,
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
        directions=augment.scaled_directions(statistics, data.colour_noise_by),
        divisor=augment.divisor(statistics, data.units, data.scale),
        noise=data.colour_noise,
        noise_divides=data.colour_noise_divides,
    )


def augmented_crops(recipe: Recipe, image: np.ndarray, count: int, seed: int) -> AugmentedCrops:
    """`count` crops of an image uint8 [size, size, channels], augmented as in training.

    The random numbers are not those of a run, which depend on step and position in the batch.
    """
    key = jax.random.key(seed, impl="threefry2x32")
    crop_keys, flip_keys, colour_keys = (
        jax.random.split(jax.random.fold_in(key, purpose), count) for purpose in range(3)
    )

    def augmented(stored: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Crops of an array [size, size, n], and the same with the random mirror images."""
        copies = jnp.broadcast_to(jnp.asarray(stored), (count, *stored.shape))
        if recipe.random_crop:
            cropped = augment.random_crop(copies, crop_keys, recipe.crop)
        else:
            cropped = augment.center_crop(copies, recipe.crop)
        return cropped, augment.random_flip(cropped, flip_keys) if recipe.flip else cropped

    cropped, flipped = augmented(image)
    # The same crops of an image of coordinates give the position of each crop.
    cropped_at, flipped_at = (
        np.asarray(part) for part in augmented(np.moveaxis(np.indices(image.shape[:2]), 0, -1))
    )
    mirrored = flipped_at[:, 0, 0, 1] != cropped_at[:, 0, 0, 1]
    mean = augmented(recipe.mean)[1] if recipe.mean_at_crop else jnp.asarray(recipe.mean)
    centred = flipped.astype(jnp.float32) - mean
    noisy = augment.colour_noise(
        centred, colour_keys, jnp.asarray(recipe.directions), recipe.noise, recipe.noise_divides
    )
    return AugmentedCrops(
        cropped=np.asarray(cropped),
        flipped=np.asarray(flipped),
        tinted=np.asarray(noisy + mean),
        inputs=np.asarray(noisy / recipe.divisor),
        positions=np.column_stack([cropped_at[:, 0, 0], mirrored]).astype(int),
    )


def draw_augmentation(recipe: Recipe, image: np.ndarray, crops: AugmentedCrops):
    """The figure: positions of the crops on the left, each step of each crop on the right."""
    drawn = figure.blank(13.3, 7.2 if recipe.flip and recipe.noise else 5.8)
    left, right = drawn.subfigures(1, 2, width_ratios=(1, 2.7))
    above, below = left.subplots(2, 1, height_ratios=(1.25, 1))
    _draw_crops(above, image, crops, recipe)
    _draw_positions(below, crops, recipe)
    zero = pictures.GREY if recipe.mean.any() else 0
    network_inputs = np.clip(np.round(crops.inputs * recipe.divisor + zero), 0, 255).astype(
        np.uint8
    )
    tinted = np.clip(np.round(crops.tinted), 0, 255).astype(np.uint8)
    panels = [("a random crop" if recipe.random_crop else "the central crop", crops.cropped)]
    if recipe.flip:
        panels.append(("mirrored or not", crops.flipped))
    if recipe.noise:
        panels.append((f"colours shifted\n(strength {recipe.noise:g})", tinted))
    panels.append(("minus the mean:\nthe network's view", network_inputs))
    grid = right.subplots(len(panels), len(crops.positions), squeeze=False)
    for axes_row, (label, images) in zip(grid, panels, strict=True):
        for axes, image_crop, colour in zip(axes_row, images, COLOURS, strict=False):
            figure.show_image(axes, image_crop, "")
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=2)
        axes_row[0].set_ylabel(label, fontsize=11)
    return drawn


def _draw_crops(axes, image: np.ndarray, crops: AugmentedCrops, recipe: Recipe) -> None:
    from matplotlib.patches import Rectangle

    figure.show_image(axes, image, f"the image, {recipe.size} x {recipe.size} pixels")
    for (top, left, _), colour in zip(crops.positions, COLOURS, strict=False):
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), recipe.crop, recipe.crop, fill=False,
                                 edgecolor=colour, linewidth=1.6))  # fmt: skip
    axes.set(xlim=(-1, recipe.size), ylim=(recipe.size, -1))


def _draw_positions(axes, crops: AugmentedCrops, recipe: Recipe) -> None:
    """Possible positions of a crop's corner, and those of the crops."""
    last = recipe.size - recipe.crop
    positions = (last + 1) ** 2
    for (top, left, mirrored), colour in zip(crops.positions, COLOURS, strict=False):
        axes.plot(left, top, "<" if mirrored else "o", color=colour, ms=9, clip_on=False)
    axes.set(xlim=(-0.5, last + 0.5), ylim=(last + 0.5, -0.5), aspect="equal")
    side = f"{recipe.size} - {recipe.crop} + 1"
    text = f"({side})² = {positions:,} places of the corner"
    if recipe.flip:
        text = f"({side})² x 2 = {2 * positions:,} views\n(its corner; ◁ mirrored)"
    axes.set_title(text, fontsize=11)
    axes.locator_params(integer=True)
    axes.set_xlabel("pixels from the left", fontsize=10)
    axes.set_ylabel("from the top", fontsize=10)
    axes.grid(alpha=0.3)
