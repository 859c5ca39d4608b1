"""The preprocessing of images in the programs that trained the published networks."""

import dataclasses

import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import MaxPool, ResponseNorm
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.mean_image import read_mean
from alexnet_jax.weights.trained import Pixels
from alexnet_jax.weights.user_hints import UserHints

# Sides of stored images in pixels, where no mean image has them.
IMAGENET = 256
SMALL = 32  # of CIFAR-10 and smaller images

# Red, green, blue in grey levels. Caffe: the means of its imagenet_mean.binaryproto, which its
# prototxts offer rounded to 123, 117 and 104. torchvision: its documented mean and deviations of
# pixels from 0 to 1.
CAFFE_MEANS = np.array([122.67891434, 116.66876762, 104.00698793], np.float32)
TORCHVISION_MEANS = np.array([0.485 * 255, 0.456 * 255, 0.406 * 255], np.float32)
TORCHVISION_DEVIATIONS = np.array([0.229 * 255, 0.224 * 255, 0.225 * 255], np.float32)
TORCHVISION = "one_weird_trick"  # what torchvision calls AlexNet


def default_pixels(architecture: Architecture, hints: UserHints, file: str) -> Pixels:
    """The preprocessing that belongs to a network: torchvision's, Caffe's or cuda-convnet's.

    Raises UserError where the user has to give the mean, for the file `file`, or where the given
    one has another shape than the network's images.
    """
    if architecture.name == TORCHVISION:
        return torchvision_pixels(architecture, hints)
    if norm_before_pooling(architecture) is not None:
        return caffe_pixels(architecture, hints)
    return cuda_convnet_pixels(architecture, hints, file)


def torchvision_pixels(architecture: Architecture, hints: UserHints) -> Pixels:
    """Shorter side to 256, center crop, minus the channels' means, divided by their deviations.

    torchvision shrinks images bilinearly with smoothing, this project by area: pixels differ by a
    few grey levels.
    """
    mean = TORCHVISION_MEANS if hints.mean is None else read_mean(hints.mean, bgr=False)
    pixels = _subtract_mean(architecture, mean, str(hints.mean))
    return dataclasses.replace(pixels, divisor=TORCHVISION_DEVIATIONS)


def caffe_pixels(architecture: Architecture, hints: UserHints) -> Pixels:
    """Resized to 256 x 256, minus CAFFE_MEANS or the given mean image at the crop's position.

    Source: Caffe's ImageNet example. OpenCV, with which it resizes, does not smooth when it
    shrinks.
    """
    mean = CAFFE_MEANS if hints.mean is None else read_mean(hints.mean, bgr=True)
    return _subtract_mean(architecture, mean, str(hints.mean), at_crop=True, warp=True)


def cuda_convnet_pixels(architecture: Architecture, hints: UserHints, file: str) -> Pixels:
    """Shorter side to 256, center crop, minus the center of the mean image for every crop.

    Raises UserError without a mean in `hints`: the checkpoints of 2012 do not hold it.
    """
    if hints.mean is None:
        raise UserError(
            f"{file} does not hold the mean image that {architecture.name} subtracts: give it with "
            "--mean=FILE, cuda-convnet's batches.meta, Caffe's binaryproto or an array of NumPy."
        )
    mean = read_mean(hints.mean, bgr=False)
    return _subtract_mean(architecture, mean, str(hints.mean))


def norm_before_pooling(architecture: Architecture) -> bool | None:
    """Whether a network of Caffe has its first norm before its first pooling; None for others.

    bvlc_alexnet and CaffeNet differ in nothing else. Caffe's networks are those whose norm windows
    reach across towers.
    """
    layers = architecture.layers
    if not any(getattr(layer, "across_towers", False) for layer in layers):
        return None
    first = next(layer for layer in layers if isinstance(layer, ResponseNorm | MaxPool))
    return isinstance(first, ResponseNorm)


def _subtract_mean(
    architecture: Architecture,
    mean: np.ndarray,
    file: str,
    *,
    at_crop: bool = False,
    warp: bool = False,
) -> Pixels:
    """Pixels of 0 to 255 minus a mean, [channels] or [size, size, channels].

    A mean image is subtracted at the crop's position with `at_crop`, otherwise its center is.
    `file` names its file in messages. Raises UserError where the network's images have another
    shape.
    """
    channels, crop = architecture.channels, architecture.input_size
    size = IMAGENET if crop > SMALL else SMALL
    if mean.ndim == 3:
        size = len(mean)
    if mean.shape[-1] != channels or size < crop:
        raise UserError(
            f"--mean={file} is of the shape {list(mean.shape)}, but {architecture.name} sees "
            f"{crop} x {crop} pixels of {channels} channel(s): give the mean of its training "
            "images."
        )
    if mean.ndim == 3 and not at_crop:
        mean = augment.center_crop(mean, crop)
    return Pixels(
        size=size,
        mean=mean,
        divisor=np.array(1, np.float32),
        mean_at_crop=at_crop and mean.ndim == 3,
        warp=warp,
    )
