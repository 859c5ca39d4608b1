"""Results of runs in one file, a line each."""

import json

import pytest

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.run_records import read_records, write_record


def test_a_line_is_replaced_and_the_others_stay(tmp_path):
    file = tmp_path / "docs" / "runs.jsonl"
    assert read_records(file) == {}
    write_record(file, "b", {"error": 0.1 + 0.2, "name": "b"})
    write_record(file, "a", {"error": float("nan"), "curve": [[1.0, 0.5]]})
    before = file.read_text().splitlines()
    assert before[0] == '{"run": "a", "error": null, "curve": [[1.0, 0.5]]}'
    assert [json.loads(line)["run"] for line in before] == ["a", "b"]
    write_record(file, "a", {"error": 0.2})
    assert file.read_text().splitlines() == ['{"run": "a", "error": 0.2}', before[1]]
    assert read_records(file) == {"a": {"error": 0.2}, "b": {"error": 0.1 + 0.2, "name": "b"}}
    assert [path.name for path in file.parent.iterdir()] == ["runs.jsonl"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "line 1 is not the JSON of a run"),
        ('{"run": "a"}\n{"error": 0.1}', "line 2 is not the JSON of a run"),
        ("[1]", "line 1 is not the JSON of a run"),
        ('{"run": "a"}\n{"run": "a"}', "two lines of the run a"),
    ],
)
def test_other_content_is_refused_and_kept(tmp_path, text, sentence):
    file = tmp_path / "runs.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        write_record(file, "b", {})
    assert file.read_text() == text


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(UserError, match=r"folder/runs.jsonl can't be written"):
        write_record(tmp_path / "folder" / "runs.jsonl", "a", {})
