"""A damaged checkpoint is never used: bytes are flipped in every kind of file of a real one."""

import contextlib
import json
import resource
import shutil

import pytest

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import checkpoint, checkpoint_integrity, warm_start
from alexnet_jax.training.checkpoint import Checkpoints
from tests.support import miniature


@pytest.fixture(scope="module")
def steps():
    return miniature.make_steps("tiny", 1, 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, steps):
    """A folder with the checkpoints 4 and 8."""
    folder, state = tmp_path_factory.mktemp("saved"), steps.initial_state()
    with Checkpoints(folder, keep=5) as checkpoints:
        for step in (4, 8):
            checkpoints.save(step, state, {"step": step}, error=0.5)
    return folder


def copied(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


def restored(folder, steps):
    """What a run goes on from: the newest step after settling, its facts, and the warnings."""
    warnings = []
    checkpoint_integrity.cleanup(folder, warnings.append)
    with Checkpoints(folder, keep=5) as checkpoints:
        step = checkpoints.latest()
        _, facts = checkpoints.restore(step, steps.state_shapes())
    assert facts["step"] == step
    return step, warnings


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b" ")


def test_a_bit_in_any_file_is_noticed(saved, tmp_path, steps):
    names = files_of(saved / "8")
    kinds = {"facts/facts.json", "manifest.json", "parameters/_METADATA", "rest/manifest.ocdbt"}
    assert kinds <= {str(name) for name in names}
    assert any("ocdbt.process_0/d" in str(name) for name in names)
    folder = copied(saved, tmp_path)
    for change in (flip, truncate, lengthen, lambda path: path.unlink()):
        for name in names:
            if change is lengthen and str(name) == checkpoint_integrity.NAME:
                continue  # a space after JSON is none of its content
            path = folder / "8" / name
            content = path.read_bytes()
            change(path)
            if str(name) in checkpoint.LATER:  # what nothing is read from
                assert restored(folder, steps) == (8, [])
            else:
                reason = checkpoint_integrity.damage(folder / "8")
                assert reason, name
                assert str(name) in reason or str(name) == checkpoint_integrity.NAME, reason
                assert change is not lengthen or "bytes instead of" in reason
            path.write_bytes(content)
    assert checkpoint_integrity.damage(folder / "8") == ""


@pytest.mark.parametrize("name", ["parameters/_METADATA", "rest/manifest.ocdbt"])
def test_the_one_before_a_damaged_one_is_used(saved, tmp_path, steps, name):
    folder = copied(saved, tmp_path)
    flip(folder / "8" / name)
    step, (warning,) = restored(folder, steps)
    assert step == 4
    assert warning == (
        f"the checkpoint of step 8 is damaged: {name} holds other bytes than were saved. It is "
        f"now called {folder}/8.damaged and the one before is used"
    )
    with Checkpoints(folder, keep=5) as checkpoints:
        checkpoints.save(8, steps.initial_state(), {"step": 8})
    assert restored(folder, steps) == (8, [])
    flip(folder / "8" / name)
    assert restored(folder, steps)[0] == 4


def test_where_none_is_whole_nothing_is_touched(saved, tmp_path):
    folder = copied(saved, tmp_path)
    for step in (4, 8):
        flip(folder / str(step) / "facts/facts.json")
    with pytest.raises(UserError, match=r"No checkpoint in .* is whole: in that of step 8 facts/f"):
        checkpoint_integrity.cleanup(folder, pytest.fail)
    assert {path.name for path in folder.iterdir()} == {"4", "8"}


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", '{"facts/facts.json": 3}', '{"/etc/hostname": {"bytes": 1}}']
)
def test_a_manifest_that_is_none_is_damage(saved, tmp_path, content):
    folder = copied(saved, tmp_path)
    (folder / "8" / checkpoint_integrity.NAME).write_text(content)
    assert checkpoint_integrity.NAME in checkpoint_integrity.damage(folder / "8")


def test_readers_refuse_what_is_damaged_and_only_that(saved, tmp_path, steps):
    folder, shapes = copied(saved, tmp_path), steps.state_shapes().parameters
    flip(folder / "8/facts/facts.json")
    with pytest.raises(UserError, match=r"checkpoint .*/8 is damaged: facts/facts.json holds"):
        checkpoint.facts_at(folder, 8)
    assert set(checkpoint.parameters_at(folder, 8, shapes)) == set(shapes)
    truncate(folder / "8/parameters/manifest.ocdbt")
    for read in (
        lambda: checkpoint.parameters_at(folder, 8, shapes),
        lambda: warm_start.load_parameters(folder / "8", shapes, layers=()),
    ):
        with pytest.raises(UserError, match=r"/8 is damaged: parameters/manifest.ocdbt has"):
            read()
    assert checkpoint.facts_at(folder, 4) == {"step": 4}


def test_what_a_kill_leaves_is_taken_away(saved, tmp_path, steps):
    """A half-written checkpoint, and one that was about to be replaced, before and after that."""
    folder = copied(saved, tmp_path)
    (folder / f"12{checkpoint_integrity.TEMPORARY}/parameters").mkdir(parents=True)
    (folder / "8").rename(folder / f"8{checkpoint_integrity.BEFORE}")
    shutil.copytree(folder / "4", folder / f"4{checkpoint_integrity.BEFORE}")
    assert restored(folder, steps) == (8, [])
    assert {path.name for path in folder.iterdir()} == {"4", "8"}


def test_a_step_is_saved_again_and_the_first_one_stays_until_then(saved, tmp_path, steps):
    folder = copied(saved, tmp_path)
    with Checkpoints(folder, keep=5) as checkpoints:
        checkpoints.save(8, steps.initial_state(), {"step": 8, "again": True})
        assert {"8", f"8{checkpoint_integrity.BEFORE}"} & {path.name for path in folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == {"4", "8"}
    assert checkpoint.facts_at(folder, 8)["again"]


def test_another_network_is_refused_in_a_sentence(saved, tmp_path):
    other = miniature.make_steps(
        "tiny", 1, 1, architecture=miniature.NARROW["tiny"].with_width(1 / 2)
    )
    with (
        Checkpoints(copied(saved, tmp_path), keep=5) as checkpoints,
        pytest.raises(UserError, match=r"checkpoint .*/8 can't be restored \(.*shape.*\): exp"),
    ):
        checkpoints.restore(8, other.state_shapes())


@contextlib.contextmanager
def full_disk():
    """No file may grow beyond a fraction of this network's parameters, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def two_whole(saved, tmp_path):
    return copied(saved, tmp_path)


@pytest.mark.parametrize("noticed", ["at the next check", "at the next save", "at the end"])
def test_a_full_disk_is_told_and_the_last_good_one_stays(two_whole, steps, noticed):
    state = steps.initial_state()

    def run():
        with full_disk(), Checkpoints(two_whole, keep=5) as checkpoints:
            checkpoints.save(12, state, {"step": 12})
            while noticed == "at the next check":
                checkpoints.check()
            if noticed == "at the next save":
                checkpoints.save(16, state, {"step": 16})

    with pytest.raises(UserError, match=r"can't be written to .* \(File too large\): mend"):
        run()
    assert {path.name for path in two_whole.iterdir()} == {"4", "8"}
    assert restored(two_whole, steps) == (8, [])


def test_a_folder_that_can_not_be_written_is_told(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match=r"Checkpoints can't be written to .* \(.*\): mend that"):
        Checkpoints(tmp_path / "checkpoints", keep=5)


def test_the_manifest_is_there_before_the_checkpoint_counts(tmp_path, steps, monkeypatch):
    """Killed in between, nothing is lost but that step."""
    seen = []
    whole = checkpoint_integrity.write

    def write(folder, left_out):
        seen.append((folder.name, checkpoint.steps_in(tmp_path)))
        whole(folder, left_out)

    monkeypatch.setattr(checkpoint_integrity, "write", write)
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        checkpoints.save(4, steps.initial_state(), {})
    assert seen == [(f"4{checkpoint_integrity.TEMPORARY}", [])]
    listed = json.loads((tmp_path / "4" / checkpoint_integrity.NAME).read_text())
    others = {*checkpoint.LATER, checkpoint_integrity.NAME}
    assert set(listed) == {str(name) for name in files_of(tmp_path / "4")} - others
