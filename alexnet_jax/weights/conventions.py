"""What the programs that others trained these networks with make of an image."""

import dataclasses

import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import MaxPool, ResponseNorm
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights.mean_image import read_mean
from alexnet_jax.weights.trained import Pixels
from alexnet_jax.weights.user_hints import UserHints

# Sides of stored images in pixels, where no mean image tells them.
IMAGENET = 256
SMALL = 32  # of CIFAR-10's and smaller networks

# Red, green, blue in grey levels. Caffe: the means of its imagenet_mean.binaryproto, which its
# prototxts offer rounded to 123, 117 and 104. torchvision: its documented mean and deviations of
# pixels from 0 to 1.
CAFFE_MEANS = np.float32([122.67891434, 116.66876762, 104.00698793])
TORCHVISION_MEANS = np.float32([0.485 * 255, 0.456 * 255, 0.406 * 255])
TORCHVISION_DEVIATIONS = np.float32([0.229 * 255, 0.224 * 255, 0.225 * 255])
TORCHVISION = "one_weird_trick"  # what torchvision calls AlexNet


def default_pixels(architecture: Architecture, hints: UserHints, name: str) -> Pixels:
    """By the network: torchvision's, Caffe's, or those of 2012; see the functions below.

    UserError where the mean has to be given, for the file `name`, or is no mean of such images.
    """
    if architecture.name == TORCHVISION:
        return torchvision_pixels(architecture, hints)
    if norm_before_pooling(architecture) is not None:
        return caffe_pixels(architecture, hints)
    return cuda_convnet_pixels(architecture, hints, name)


def torchvision_pixels(architecture: Architecture, hints: UserHints) -> Pixels:
    """Shorter side to 256, the centre cut out, minus means and divided by deviations of colours.

    torchvision shrinks images bilinearly with smoothing, this project by area: pixels differ by a
    few grey levels.
    """
    mean = TORCHVISION_MEANS if hints.mean is None else read_mean(hints.mean, bgr=False)
    plain = _subtracting(architecture, mean, str(hints.mean))
    return dataclasses.replace(plain, divisor=TORCHVISION_DEVIATIONS)


def caffe_pixels(architecture: Architecture, hints: UserHints) -> Pixels:
    """Warped to 256 x 256, minus CAFFE_MEANS or the mean image given, at the crop's own place.

    So does its ImageNet example. OpenCV, which it warps with, does not smooth when it shrinks.
    """
    mean = CAFFE_MEANS if hints.mean is None else read_mean(hints.mean, bgr=True)
    return _subtracting(architecture, mean, str(hints.mean), at_crop=True, warp=True)


def cuda_convnet_pixels(architecture: Architecture, hints: UserHints, name: str) -> Pixels:
    """Shorter side to 256, the centre cut out, minus the centre of the mean image for any crop.

    UserError without a mean in `hints`: the checkpoints of 2012 do not hold it.
    """
    if hints.mean is None:
        raise UserError(
            f"{name} does not hold the mean image that {architecture.name} subtracts: give it with "
            "--mean=FILE, cuda-convnet's batches.meta, Caffe's binaryproto or an array of NumPy."
        )
    mean = read_mean(hints.mean, bgr=False)
    return _subtracting(architecture, mean, str(hints.mean))


def norm_before_pooling(architecture: Architecture) -> bool | None:
    """Whether the first norm of a network of Caffe comes before its first pooling; None of others.

    It is all that tells bvlc_alexnet from CaffeNet.
    """
    layers = architecture.layers
    if not any(getattr(layer, "across_towers", False) for layer in layers):
        return None
    first = next(layer for layer in layers if isinstance(layer, ResponseNorm | MaxPool))
    return isinstance(first, ResponseNorm)


def _subtracting(
    architecture: Architecture,
    mean: np.ndarray,
    name: str,
    at_crop: bool = False,
    warp: bool = False,
) -> Pixels:
    """Pixels of 0 to 255 minus a mean; UserError where this network sees no such images.

    A mean image counts at the crop's place if `at_crop`, else its centre; `name` is its file's.
    """
    channels, crop = architecture.channels, architecture.input_size
    size = IMAGENET if crop > SMALL else SMALL
    if mean.ndim == 3:
        size = len(mean)
    if mean.shape[-1] != channels or size < crop:
        raise UserError(
            f"--mean={name} is of the shape {list(mean.shape)}, but {architecture.name} sees "
            f"{crop} x {crop} pixels of {channels} channel(s): give the mean of its training "
            "images."
        )
    if mean.ndim == 3 and not at_crop:
        mean = augment.center_crop(mean, crop)
    return Pixels(size, mean, np.float32(1), at_crop and mean.ndim == 3, warp)
