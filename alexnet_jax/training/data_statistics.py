"""The mean image and the colours of a training set, measured once by all processes of a run."""

import dataclasses
import pathlib

import jax
import numpy as np

from alexnet_jax.data.sources import Source
from alexnet_jax.data.statistics import Statistics, Sums, from_sums, sum_images
from alexnet_jax.parallel import processes
from alexnet_jax.runtime.terminal import ProgressLine, Terminal


def measure_statistics(
    source: Source, path: pathlib.Path, num_workers: int, leave_out_bad: bool, terminal: Terminal
) -> Statistics:
    """Mean image and colours of the training set, from `path` if they were measured before.

    A prepared set brings its own. Otherwise the processes of a run share the work.
    """
    stored = Statistics.load(path) if path.exists() else None
    shape = (source.size, source.size, source.channels)
    usable = (
        stored is not None
        and stored.fingerprint == source.fingerprint
        and stored.mean_image.shape == shape
    )
    everywhere = processes.sum_over_processes(np.asarray(usable, np.int64)) == jax.process_count()
    if stored is not None and everywhere:
        return stored
    if source.statistics_file is not None:
        measured = Statistics.load_for(source.statistics_file, source.size, source.channels)
        return save_on_lead(measured, path)
    local_ids = np.arange(jax.process_index(), len(source), jax.process_count())
    progress = ProgressLine("mean image and colours", terminal)
    local_sums = sum_images(
        source, local_ids, num_workers=num_workers, progress=progress, skip_bad=leave_out_bad
    )
    sums = Sums(*map(processes.sum_over_processes, dataclasses.astuple(local_sums)))
    if sums.images < len(source):
        terminal.info(
            f"warning: {len(source) - sums.images:,} of {len(source):,} training images can't be "
            "read and are left out of the mean; each is named when its turn comes."
        )
    return save_on_lead(from_sums(sums, source.fingerprint), path)


def save_on_lead(measured: Statistics, path: pathlib.Path) -> Statistics:
    """The same statistics, which the lead process has written to `path`."""
    if processes.is_lead():
        measured.save(path)
    return measured
