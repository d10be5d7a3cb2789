"""lenet-mp prepare under mpirun."""

from tests.pictures import write_lists
from tests.programs import needs_mpi, run
from tests.test_prepare import FAST, contents, prepare

pytestmark = needs_mpi


def prepare_on(ranks, folder, lists, *options, out="data"):
    return run("-m", "lenet_mp.prepare", "--lists", *lists, "--out", folder / out, *FAST, *options, ranks=ranks)


def test_any_number_of_ranks_writes_the_same(tmp_path):
    """Two and three ranks write the bytes that one process writes, and only rank 0 speaks."""
    lists = write_lists(tmp_path, counts=(30, 6, 6))
    assert prepare(tmp_path, lists, out="alone") == 0
    for ranks in (2, 3):
        done = prepare_on(ranks, tmp_path, lists, out=str(ranks))
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / str(ranks)) == contents(tmp_path / "alone")
        assert done.stdout.count("30 train") == 1
    again = prepare_on(2, tmp_path, lists, out="2")
    assert again.returncode == 0
    assert "complete already" in again.stdout


def test_bad_images_are_gathered_from_all_ranks(tmp_path):
    """Bad images of every rank's share are told by rank 0, the job ends with code 3, and one process can go on."""
    lists = write_lists(tmp_path, counts=(30, 6, 6))
    whole = {}
    for number in (0, 8, 16, 24):
        path = tmp_path / "train" / f"picture {number}.png"
        whole[path] = path.read_bytes()
        path.write_bytes(b"bad")
    done = prepare_on(3, tmp_path, lists)
    assert done.returncode == 3, done.stderr
    for number in (0, 8, 16, 24):
        assert f"prepare: train.txt:{number + 1}: " in done.stderr
    assert "4 of 42 samples cannot be used" in done.stderr
    for path, data in whole.items():
        path.write_bytes(data)
    assert prepare(tmp_path, lists) == 0
    assert prepare(tmp_path, lists, out="clean") == 0
    assert contents(tmp_path / "data") == contents(tmp_path / "clean")


def test_wrong_options_end_all_ranks(tmp_path):
    """What is wrong before the work begins ends the job with its code, not in a hang."""
    lists = write_lists(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.h5").write_bytes(b"precious")
    done = prepare_on(2, tmp_path, lists)
    assert done.returncode == 2, done.stderr
    assert "give --overwrite" in done.stderr
