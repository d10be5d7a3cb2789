"""Ranks compare their jobs before they depend on each other: whatever differs is named, and nobody waits for ever."""

import re
from dataclasses import asdict

import programs
import pytest
import small_data

from lenet_mp.errors import PeerError
from lenet_mp.parallel import agreement
from lenet_mp.training import checkpoint
from lenet_mp.training.config import Config

OPTIONS = asdict(Config())


class OtherRank:
    """The communicator of rank 1 of 2, whose rank 0 tells ``view``."""

    def __init__(self, view):
        self.view = view

    def gather(self, value):
        """Return what both ranks tell."""
        return [self.view, value]


def view(monkeypatch, options, **constants):
    """Return what a rank with these options tells; ``constants`` are of the module."""
    told = []

    def tell(_, fingerprint):
        told.append(fingerprint)

    with monkeypatch.context() as patch:
        patch.setattr(agreement, "check_job", tell)
        for name, value in constants.items():
            patch.setattr(agreement, name, value)
        agreement.check_options(None, options)
    return told[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_that_differs_is_named(monkeypatch, name):
    rank_0 = view(monkeypatch, OPTIONS | {name: "something else"})
    with pytest.raises(PeerError, match=re.escape(f"option {name} is {OPTIONS[name]}, not something else;")):
        agreement.check_options(OtherRank(rank_0), OPTIONS)


@pytest.mark.parametrize(
    ("constants", "name"),
    [
        ({"LIBRARIES": agreement.LIBRARIES | {"NumPy": "1.0"}}, "version of NumPy"),
        ({"LIBRARIES": agreement.LIBRARIES | {"Pillow": "1.0"}}, "version of Pillow"),
        ({"_code": lambda: "other"}, "code"),
    ],
)
def test_another_program_is_named(monkeypatch, constants, name):
    rank_0 = view(monkeypatch, OPTIONS, **constants)
    with pytest.raises(PeerError, match=f"rank 1 runs another job than rank 0: {name} is "):
        agreement.check_options(OtherRank(rank_0), OPTIONS)


@pytest.mark.parametrize(("extra_on", "told"), [(0, "missing, not 3"), (1, "3, not missing")])
def test_what_one_rank_alone_has_is_named(monkeypatch, extra_on, told):
    """Whichever of the ranks it is."""
    options = [OPTIONS, OPTIONS]
    options[extra_on] = OPTIONS | {"new": 3}
    with pytest.raises(PeerError, match=f"option new is {told}"):
        agreement.check_options(OtherRank(view(monkeypatch, options[0])), options[1])


def test_equal_ranks_agree(monkeypatch):
    agreement.check_options(OtherRank(view(monkeypatch, OPTIONS)), OPTIONS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with data, a model, and a checkpoint to start from."""
    return programs.trained_place(tmp_path_factory.mktemp("agreement"))


DIFFERING = """
import os, sys
from lenet_mp.train import main
mine = sys.argv[1:]
if os.environ.get("PMIX_RANK", os.environ.get("PMI_RANK")) == {rank!r}:
    {change}
raise SystemExit(main(mine))
"""


@programs.needs_mpi
@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("at = mine.index('--data'); del mine[at : at + 2]", "option data"),
        ("mine += ['--init-from', {start!r}]", "option init_from"),
        ("mine += ['--class-weights', '1,2,3,4']", "option class_weights"),
        ("import lenet_mp; lenet_mp.__version__ = '0'", "version"),
        ("sys.byteorder = 'middle'", "byte order"),
    ],
    ids=["no data", "other start", "class weights", "version", "byte order"],
)
def test_ranks_that_would_wait_for_each_other_end(place, tmp_path, rank, change, name):
    """Options that decide what the ranks say to each other are compared before; a hang would be a time-out here."""
    script = tmp_path / "differ.py"
    script.write_text(DIFFERING.format(rank=rank, change=change.format(start=str(place / "run" / "last.ckpt"))))
    done = programs.run(script, *small_data.options(place, tmp_path / "out", epochs=1), ranks=2)
    assert done.returncode == 75, done.stderr
    assert f"rank 1 runs another job than rank 0: {name} is " in done.stderr
    assert not (tmp_path / "out").exists()


@programs.needs_mpi
def test_each_rank_may_have_its_own_copy_of_the_data(place, tmp_path):
    """The same data set in another folder is no difference."""
    copy = small_data.write_shards(tmp_path / "copy")
    script = tmp_path / "differ.py"
    script.write_text(DIFFERING.format(rank="1", change=f"mine += ['--data', {str(copy)!r}]"))
    done = programs.run(script, *small_data.options(place, tmp_path / "out", epochs=1), ranks=2)
    assert done.returncode == 0, done.stderr
    ours, alone = (checkpoint.load(folder / "last.ckpt") for folder in (tmp_path / "out", place / "run"))
    assert ours.parameters.tobytes() == alone.parameters.tobytes()
