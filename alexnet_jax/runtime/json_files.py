"""JSON that any program reads, in files that appear whole or not at all."""

import json
import math
import os
import pathlib


def flatten(record: dict, prefix: str = "", separator: str = "/") -> list[tuple[str, object]]:
    """Leaves of nested dicts with their names joined."""
    leaves = []
    for name, value in record.items():
        if isinstance(value, dict):
            leaves += flatten(value, f"{prefix}{name}{separator}", separator)
        else:
            leaves.append((prefix + name, value))
    return leaves


def as_json(content: dict, indent: int | None = None) -> str:
    """JSON text, with null for numbers that are not finite: JSON has none."""
    return json.dumps(finite(content), indent=indent, allow_nan=False)


def finite(content: object) -> object:
    """The same with None for numbers in dicts and sequences that are not finite."""
    match content:
        case dict():
            return {name: finite(value) for name, value in content.items()}
        case list() | tuple():
            return [finite(value) for value in content]
        case float() if not math.isfinite(content):
            return None
    return content


def write_json(path: pathlib.Path, content: dict) -> None:
    """Write a JSON file that appears whole or not at all."""
    replace_file(path, (as_json(content, indent=2) + "\n").encode())


def replace_file(path: pathlib.Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
