"""Every new checkpoint of a run, scored as it appears, until the run has ended."""

import json
import pathlib
import time
from collections.abc import Callable

from alexnet_jax.runtime import json_files
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.tools.evaluate import report
from alexnet_jax.tools.evaluate.member import Choice, open_member, predict
from alexnet_jax.training import checkpoint

POLL_SECONDS = 5.0


def follow(
    workdir: pathlib.Path,
    choice: Choice,
    results_path: pathlib.Path | None,
    terminal: Terminal,
    wait: Callable[[float], None] = time.sleep,
) -> list[dict]:
    """Score each checkpoint of `workdir` once; returns the results, also kept in a list in a file.

    Ends when summary.json tells of the newest checkpoint. What the list already has of this run,
    split and views is not scored again. UserError for a folder that is none.
    """
    if not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is not a folder: expected that of a training run.")
    records = _stored(results_path)
    before = len(records)
    done = {
        record["members"][0]["step"]
        for record in records
        if (record["members"][0]["workdir"], record["split"], record["views"])
        == (str(workdir), choice.split, choice.views)
    }
    folder, member, waits = workdir / "checkpoints", None, False
    while True:
        ended = _last_step(workdir)
        steps = checkpoint.steps_in(folder)
        for step in (step for step in steps if step not in done):
            done.add(step)
            try:
                facts = checkpoint.facts_at(folder, step)
                member = member or open_member(workdir, facts, choice, terminal)
                prediction = predict(member, step, facts, terminal)
            except Exception:  # Orbax raises errors of many kinds
                if step in checkpoint.steps_in(folder):
                    raise
                terminal.info(f"The checkpoint of step {step:,} was deleted before it was read.")
                continue
            record = report.evaluation_record(
                [prediction], prediction.log_probabilities, [1.0], False, choice
            )
            terminal.info(report.checkpoint_line(record))
            records.append(record)
            if results_path is not None:
                json_files.write_json(results_path, records)
        if steps and ended == steps[-1]:
            new = len(records) - before
            terminal.info(f"The run has ended at step {ended:,}: {new} new, {before} known before.")
            return records
        if not waits:
            terminal.info(f"Waiting for checkpoints in {workdir}; Ctrl-C ends this.")
        waits = True
        wait(POLL_SECONDS)


def _stored(path: pathlib.Path | None) -> list[dict]:
    """The list in a file, empty if there is none; UserError if it holds something else."""
    if path is None or not path.exists():
        return []
    try:
        records = json.loads(path.read_text())
        if all(record["members"] and record["split"] and record["views"] for record in records):
            return records
    except (ValueError, TypeError, KeyError):
        pass
    raise UserError(
        f"--json={path} holds something else than the list of an earlier --follow: name another "
        "file."
    )


def _last_step(workdir: pathlib.Path) -> int | None:
    """The step with which the run ended, None while it goes on."""
    try:
        return json.loads((workdir / "summary.json").read_text())["steps"]
    except (OSError, ValueError, KeyError):
        return None
