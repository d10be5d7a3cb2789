"""``from lenet_mp import ...``: training, runs and data sets from Python."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import programs
import pytest
import small_data

import lenet_mp
from lenet_mp import fit, load_run, open_dataset, save_dataset, train
from lenet_mp.data.arrays import as_images
from lenet_mp.errors import ArrayError, CheckpointError, DataError, UsageError
from lenet_mp.networks.models import activation, average_pool, conv, dense
from lenet_mp.training import checkpoint

DOCS = Path(__file__).parent.parent / "docs"
SMALL = lenet_mp.Model(
    "small", (conv("C1", 3, kernel=3, stride=2), activation("squash"), average_pool("S1", 3), dense("F2"))
)


def arrays(count, seed):
    images, labels = small_data.samples(count, seed)
    return images, labels


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("interface")


@pytest.fixture(scope="module")
def run(place):
    """Train on arrays; every test of results shares it."""
    return fit(arrays(600, 0), validation=arrays(45, 1), test=arrays(30, 2), model=SMALL, out=place / "run",
               batch_size=60, lr="0.002", epochs=3, quiet=True)  # fmt: skip


def test_importing_the_package_is_cheap():
    """The package's import loads neither NumPy nor anything of its own; a name that is not there is told."""
    code = (
        "import lenet_mp, sys\n"
        "print([m for m in sys.modules if m.startswith(('numpy', 'lenet_mp.', 'h5py'))], 'fit' in dir(lenet_mp))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[] True\n"
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        lenet_mp.fitt  # noqa: B018


def test_every_public_name_is_there():
    """What __all__ promises can be imported, and is what its module defines."""
    for name in lenet_mp.__all__:
        assert getattr(lenet_mp, name).__module__.startswith("lenet_mp.") if name != "MODELS" else lenet_mp.MODELS


@pytest.mark.usefixtures("run")
def test_arrays_train_as_a_prepared_folder_does(place):
    """A run on arrays is a run on the data set that is written beside it: the command gives the same weights."""
    out = place / "by-command"
    options = ["--data", str(place / "run-data"), "--model", str(place / "run-model.toml"), "--batch-size", "60"]
    options += ["--lr", "0.002", "--epochs", "3", "--out", str(out), "--progress", "off"]
    assert train.main(options) == 0
    ours, theirs = (checkpoint.load(folder / "last.ckpt") for folder in (place / "run", out))
    assert ours.parameters.tobytes() == theirs.parameters.tobytes()


def test_the_run_answers_on_arrays(run):
    """Predictions, probabilities, scores and history agree with each other and with the run's own figures."""
    images, labels = arrays(45, 1)
    chances = run.probabilities(images)
    assert chances.shape == (45, 4)
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(run.predict(images), chances.argmax(axis=1))
    scores = run.evaluate(images, labels)
    assert scores.top1 == np.mean(run.predict(images) == labels)
    assert scores.top1 == max(row["val_top1"] for row in run.history)
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert run.feature_maps(images[0])["C1"].shape == (9, 9, 3)


def test_a_run_is_loaded_from_folder_or_file(place, run):
    """Both ways give the same answers; what is no run is refused."""
    images, _ = arrays(5, 9)
    for path in (place / "run", str(place / "run" / "best.ckpt")):
        np.testing.assert_array_equal(load_run(path).probabilities(images), run.probabilities(images))
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        load_run("nowhere")


def test_a_data_set_keeps_every_sample(tmp_path):
    """All training images come back once, shuffled, with their labels; the other splits in their order."""
    images, labels = arrays(1100, 3)
    folder = save_dataset(tmp_path / "data", (images, labels), test=arrays(7, 4), class_names=["a", "b", "c", "d"])
    dataset = open_dataset(folder)
    assert [split.count for split in dataset.train] == [500, 500, 100]
    assert dataset.class_names == ("a", "b", "c", "d")
    assert dataset.validation is None
    found = {(image.tobytes(), label) for split in dataset.train
             for image, label in zip(split.images, split.labels.tolist(), strict=True)}  # fmt: skip
    assert found == {(image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)}
    assert not np.array_equal(dataset.train[0].images, images[:500])
    np.testing.assert_array_equal(dataset.test.images, arrays(7, 4)[0])
    with pytest.raises(DataError, match="holds a data set already"):
        save_dataset(folder, (images, labels))


def test_one_channel_needs_no_axis():
    """(N, H, W) is one channel; other types and forms are refused with what was expected."""
    assert as_images(np.zeros((2, 5, 6), np.uint8)).shape == (2, 5, 6, 1)
    for wrong in (np.zeros((2, 5, 6, 3)), np.zeros((2, 5, 6, 4), np.uint8), np.zeros((5, 6), np.uint8)):
        with pytest.raises(ArrayError, match=r"images: expected uint8 \(N, H, W, C\)"):
            as_images(wrong)


@pytest.mark.parametrize(
    ("given", "labels", "complaint"),
    [(arrays(3, 0)[0][:, 1:], [0, 1, 2], r"expected uint8 \(N, 20, 20, 3\)"), (arrays(3, 0)[0], [0, 1], "one an image"),
     (arrays(3, 0)[0], [0, 1, 4], "from 0 to 3"), (arrays(3, 0)[0], [0, 1, -1], "classes from 0"),
     (arrays(3, 0)[0], [0.0, 1.0, 2.0], "expected integers")],
)  # fmt: skip
def test_wrong_arrays_are_refused(run, given, labels, complaint):
    """Each mistake is named before anything is computed."""
    with pytest.raises(ArrayError, match=complaint):
        run.evaluate(given, labels)


def test_wrong_options_are_refused(tmp_path):
    """An unknown option is told with those that exist; an existing run is not overwritten."""
    with pytest.raises(UsageError, match="fit: unknown option 'epoch'"):
        fit(arrays(20, 0), epoch=3)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").touch()
    with pytest.raises(UsageError, match="exists already"):
        fit(arrays(20, 0), model=SMALL, out=tmp_path / "run", quiet=True)


INTERRUPTED = """
import sys; sys.path.insert(0, {here!r})
import test_python_interface as here
from lenet_mp import fit
run = fit(here.arrays(600, 0), model=here.SMALL, out="run", batch_size=60, lr="1e-5", epochs=100000)
print("saved after", run.checkpoint.epoch, "epochs")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_while_fit_trains_loses_nothing(tmp_path, number, code):
    """After Ctrl-C fit returns what was reached and the script goes on; told to terminate, it ends, saved as well."""
    command = [sys.executable, "-c", INTERRUPTED.format(here=str(Path(__file__).parent))]
    with subprocess.Popen(
        command, cwd=tmp_path, env=programs.environment(), stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        while "epoch 2/" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        output = process.communicate(timeout=programs.TIME_LIMIT)[0]
    assert process.returncode == code
    assert "go on with: --resume run" in output
    assert checkpoint.load(tmp_path / "run" / "last.ckpt").epoch >= 2
    assert ("saved after" in output) == (code == 0)


def test_the_documentation_runs(tmp_path, monkeypatch, capsys):
    """The examples of docs/python.md run one after the other, and learn."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(code, "docs/python.md", "exec"), names)  # noqa: S102 - our own text
    assert names["run"].network.model.name == "small"
    accuracy = float(re.search(r"^0\.\d+$", capsys.readouterr().out, re.MULTILINE)[0])
    assert accuracy > 0.7
    assert (tmp_path / "runs" / "fashion" / "report.html").is_file()


@programs.needs_mpi
@pytest.mark.usefixtures("run")
def test_a_script_runs_under_mpirun(tmp_path, place):
    """Two ranks that call fit give the weights of one process, and one run folder."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import small_data, test_python_interface as here\nfrom lenet_mp import fit\n"
        "fit(here.arrays(600, 0), validation=here.arrays(45, 1), test=here.arrays(30, 2), model=here.SMALL,\n"
        "    out='run', batch_size=60, lr='0.002', epochs=3)\n"
    )
    done = programs.run(script, ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 3/3") == 1
    theirs = checkpoint.load(tmp_path / "run" / "last.ckpt").parameters
    assert theirs.tobytes() == checkpoint.load(place / "run" / "last.ckpt").parameters.tobytes()
