"""Files of results, one compact JSON object a line, each with the name of its run as "run"."""

import json
import pathlib

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.json_files import as_json, replace_file


def read_records(file: pathlib.Path) -> dict[str, dict]:
    """{name of a run: its object, without "run"}; empty where there is no file.

    UserError where a line is not the JSON object of a run, or two lines have one name.
    """
    records: dict[str, dict] = {}
    if not file.exists():
        return records
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        try:
            record = json.loads(line)
            name = record.pop("run")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{file}, line {number} is not the JSON of a run: expected one object a line with "
                'its name as "run"; repair the line or name another file.'
            ) from error
        if name in records:
            raise UserError(f"{file} has two lines of the run {name}: take one of them away.")
        records[name] = record
    return records


def write_record(file: pathlib.Path, name: str, content: dict) -> None:
    """Put the line of a run in the place of the one before; lines are in the order of names.

    The file is always whole: a new one takes its place. Numbers that are not finite become null.
    UserError as for `read_records`, or if the file can't be written.
    """
    records = read_records(file) | {name: content}
    lines = [as_json({"run": run} | records[run]) + "\n" for run in sorted(records)]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, "".join(lines).encode())
    except OSError as error:
        raise UserError(f"{file} can't be written ({error.strerror}).") from error
