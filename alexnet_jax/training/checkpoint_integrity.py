"""Which checkpoints are whole, by the SHA-256 of their files; Orbax restores flipped bytes.

Besides the folders CHECKPOINTS/STEP there may be STEP.damaged, which was set aside, and STEP.before
while that step is saved again.
"""

import contextlib
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Collection

from alexnet_jax.parallel import processes
from alexnet_jax.runtime.errors import UserError

NAME = "manifest.json"
DAMAGED, BEFORE = ".damaged", ".before"
TEMPORARY = ".orbax-checkpoint-tmp"


def write(folder: pathlib.Path, left_out: Collection[str] = ()) -> None:
    """Write FOLDER/manifest.json with size and SHA-256 of all files in it but those `left_out`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    entries = {
        name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for name, path in names.items()
        if name != NAME and name not in left_out
    }
    (folder / NAME).write_text(json.dumps(entries, indent=1))


def damage(folder: pathlib.Path, part: str = "") -> str:
    """What is wrong with the first file that is not as its manifest says; empty if all are.

    With `part` only the files in that folder of it count.
    """
    try:
        entries = json.loads((folder / NAME).read_text())
        expected = {
            name: (entry["bytes"], entry["sha256"])
            for name, entry in entries.items()
            if not part or name.startswith(f"{part}/")
        }
    except FileNotFoundError:
        return f"{NAME} is missing"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{NAME} can't be read"
    for name, (size, digest) in expected.items():
        path = folder / name
        try:
            found = path.stat().st_size
            if found != size:
                return f"{name} has {found:,} bytes instead of {size:,}"
            if _sha256(path) != digest:
                return f"{name} holds other bytes than were saved"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} can't be read ({error.strerror})"
    return "" if expected else f"{NAME} names no file"


def check_whole(folder: pathlib.Path, step: int, part: str) -> None:
    """Refuse a damaged checkpoint, or one whose `part` is, with a UserError."""
    reason = damage(folder / str(step), part)
    if reason:
        raise UserError(
            f"The checkpoint {folder / str(step)} is damaged: {reason}. Name another step, "
            "or bring back a copy."
        )


def cleanup(folder: pathlib.Path, warn: Callable[[str], None]) -> None:
    """Before a run goes on: take away what a kill left, and set damaged checkpoints aside.

    Each damaged one that is newer than the newest whole one is named through `warn` and gets the
    name STEP.damaged. UserError where none is whole. All processes of a run call it.
    """
    if processes.is_lead() and folder.is_dir():
        tidy(folder)
        steps, reasons = _steps(folder), {}
        for step in reversed(steps):
            reason = damage(folder / str(step))
            if not reason:
                break
            reasons[step] = reason
        if steps and len(reasons) == len(steps):
            raise UserError(
                f"No checkpoint in {folder} is whole: in that of step {steps[-1]:,} "
                f"{reasons[steps[-1]]}. Bring back a copy, or begin anew with another --workdir."
            )
        for step, reason in reasons.items():
            there = set_aside(folder / str(step), DAMAGED)
            warn(
                f"the checkpoint of step {step:,} is damaged: {reason}. It is now called {there} "
                "and the one before is used"
            )
    processes.wait_for_all()


def tidy(folder: pathlib.Path) -> bool:
    """Take away half-written checkpoints; one that was to be replaced gets its name back.

    Returns whether there was none.
    """
    found = list(folder.glob(f"*{TEMPORARY}*"))
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"*{BEFORE}"):
        with contextlib.suppress(OSError):  # the newer one is whole
            path.rename(path.with_suffix(""))
        shutil.rmtree(path, ignore_errors=True)
    return not found


def set_aside(path: pathlib.Path, ending: str) -> pathlib.Path:
    """Give a checkpoint's folder another name, which no step has."""
    there = path.with_name(path.name + ending)
    try:
        shutil.rmtree(there, ignore_errors=True)
        path.rename(there)
    except OSError as error:
        raise UserError(
            f"The checkpoint {path} can't be set aside ({error.strerror}): make its folder "
            "writable."
        ) from error
    return there


def _steps(folder: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
