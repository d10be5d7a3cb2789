"""The scale command: what it measures, what it says of it, what it refuses to say."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import small_data
from PIL import Image
from programs import needs_mpi

from lenet_mp import scale
from lenet_mp.errors import UsageError
from lenet_mp.parallel import threads
from lenet_mp.parallel.launch import MPICH, Launcher
from lenet_mp.scalability.prediction import Cluster
from lenet_mp.scalability.scale_plot import draw
from lenet_mp.scalability.scale_report import Report
from lenet_mp.scalability.scale_runs import Course, Measured
from lenet_mp.scalability.scale_verdict import verdict
from lenet_mp.scalability.scaling import ALLREDUCE, COMPUTE, PARTS, REST, UPDATE, WAITING, Result, Setup

PARTS_OF_ONE = {COMPUTE: 0.95, WAITING: 0.0, ALLREDUCE: 0.0, UPDATE: 0.02, REST: 0.03}


def pairs(setups):
    return [(setup.ranks, setup.threads) for setup in setups]


def test_setups_fill_the_cores(tmp_path):
    """By default all totals are powers of two up to the cores, each as ranks, as threads and mixed; weak runs too."""
    launcher = Launcher(tmp_path, MPICH, "")
    strong = [s for s in scale.choose_setups(6, 100, launcher) if s.batch_size == 100]
    assert pairs(strong) == [(1, 1), (2, 1), (1, 2), (4, 1), (2, 2), (1, 4), (6, 1), (2, 3), (1, 6)]
    weak = [s for s in scale.choose_setups(2, 100, launcher) if s.batch_size > 100]
    assert [(s.ranks, s.threads, s.batch_size) for s in weak] == [(2, 1, 200), (1, 2, 200)]


def test_without_mpi_there_are_only_threads():
    """Without a launcher one rank is measured; asking for more is an error that tells the remedy."""
    assert pairs(scale.choose_setups(2, 100, None)) == [(1, 1), (1, 2), (1, 2)]
    with pytest.raises(UsageError, match="--ranks needs an mpirun: pip install"):
        scale.choose_setups(2, 100, None, ranks=[1, 2])


def result(ranks, threads, seconds, batch_size=500, **parts):
    """Return a result of quiet steps; parts that are not given take nothing, computing the rest."""
    named = {"waiting": WAITING, "allreduce": ALLREDUCE, "update": UPDATE, "rest": REST}
    shares = {named[name]: value for name, value in parts.items()}
    shares[COMPUTE] = seconds - sum(shares.values())
    steps = seconds * np.array([0.99, 1.0, 1.0, 1.0, 1.01])
    return Result(Setup(ranks, threads, batch_size), steps, {part: shares.get(part, 0.0) for part in PARTS})


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"allreduce": 0.1}, "is the allreduce itself"),
        ({"waiting": 0.1}, "is waiting for the slowest rank"),
        ({"update": 0.1}, "is the update"),
        ({"rest": 0.1}, "is loader and Python"),
        ({}, "is the computing itself"),
    ],
)
def test_the_bottleneck_is_named(parts, reason):
    """What takes most of the lost core time is named, whatever it is; two cores at 0.6 s cost 20 % more than one."""
    text = " ".join(verdict([result(1, 1, 1.0), result(2, 1, 0.6, **parts)], cores=2).split())
    assert "1.67 times one core, efficiency 83%, serial fraction 0.200" in text
    assert "A step costs 20% more core time" in text
    assert reason in text


def test_good_scaling_is_said_to_be_good():
    """A loss below 2 % has no bottleneck."""
    text = verdict([result(1, 1, 1.0), result(1, 2, 0.505)], cores=2)
    assert "Nothing worth mentioning is lost" in text


def test_nothing_is_concluded_from_shared_cores():
    """Four ranks on two cores are named as showing nothing, and neither best nor bottleneck comes from them."""
    strong = [result(1, 1, 1.0), result(2, 1, 0.6), result(4, 1, 0.3, allreduce=0.2)]
    text = " ".join(verdict(strong, cores=2).split())
    assert "No conclusion from 4 x 1" in text
    assert "fastest on 2 cores is 2 x 1" in text
    assert "allreduce" not in text
    assert "Nothing to conclude" in verdict([strong[0], strong[2]], cores=2)


def test_noise_is_admitted():
    """Steps that spread over half of their median are told; setups within each other's spread are not ranked."""
    noisy = Result(Setup(2, 1, 500), np.array([0.4, 0.5, 0.6, 0.7, 0.8]), dict.fromkeys(PARTS, 0.0))
    text = " ".join(verdict([result(1, 1, 1.0), result(1, 2, 0.55), noisy], cores=2).split())
    assert "2 x 1 is as fast within the spread" in text
    assert "spreads over up to 33% of their median" in text
    assert "costs 10% more core time than on one core, less than the noise: no bottleneck is named" in text


def test_other_programs_are_told_from_overhead():
    """Where the threads ran for 70 % of the time only, others are named instead of a bottleneck."""
    disturbed = replace(result(2, 1, 0.8), granted=0.7)
    text = " ".join(verdict([result(1, 1, 1.0), disturbed], cores=2).split())
    assert "Other programs took up to 30% of the cores" in text
    assert "no bottleneck is named" in text
    assert "the bottleneck," not in text


def make_report(tmp_path, results, messages):
    course = Course("1", tmp_path, 5, 1, None)
    measured = Measured({r.setup: r for r in results}, messages, 2, 490_000, 187_500, "avx2")
    return Report(course, 500, 2, measured, Cluster(25e-6, 1.25e9, 0))


MESSAGES = {8 * 4**k: [5e-6 + 8 * 4**k / 2e9] * 3 for k in range(8)}


def test_a_report_tells_all_figures(tmp_path):
    """Tables, line of the allreduce, prediction and its assumptions are in the text; shared cores get no efficiency."""
    results = [result(1, 1, 1.0), result(1, 2, 0.52), result(2, 1, 0.6), result(4, 1, 0.5), result(2, 1, 1.1, 1000)]
    text = make_report(tmp_path, results, MESSAGES).text()
    assert "5.0 us + n / 2.00 GB/s" in text
    assert "a step reduces 490,000 bytes: 0.25 ms" in text
    shared = next(line for line in text.splitlines() if "cores shared" in line)
    assert shared.startswith("4 x 1")
    assert shared.count("%") == 1  # the share of the cores that it got
    assert "25 us a message and 10 Gbit/s" in text
    assert "takes at most 32,768 samples a step: rows with more tell" in " ".join(text.split())
    assert "4,096" in text


def test_no_prediction_from_a_part_of_the_machine(tmp_path):
    """Without a rank on all cores nothing is predicted, in text and picture."""
    report = make_report(tmp_path, [result(1, 1, 1.0), result(2, 1, 0.6)], MESSAGES)
    assert "no prediction" in report.text()
    assert report.predictions() == []
    draw(report, tmp_path / "scale.png")


@pytest.mark.parametrize(("messages", "results"), [({}, 1), ({}, 3), (MESSAGES, 3)])
def test_the_picture_is_drawn(tmp_path, messages, results):
    """The plot is a PNG of some size, with and without MPI, even of one core alone."""
    all_results = [result(1, 1, 1.0), result(1, 2, 0.52), result(4, 1, 0.5)]
    report = make_report(tmp_path, all_results[:results], messages)
    draw(report, tmp_path / "scale.png")
    with Image.open(tmp_path / "scale.png") as image:
        assert image.size[0] > 1000
        assert len(image.getcolors(1 << 20)) > 20


def test_a_real_measurement(tmp_path, monkeypatch, capsys):
    """A short run on noise ends with all files, the report on stdout and one row for every setup and series."""
    monkeypatch.chdir(tmp_path)
    model = small_data.write_model(tmp_path / "small.toml")
    options = ["--model", str(model), "--batch-size", "32", "--steps", "2", "--rounds", "1", "--out", "scaling"]
    threads = ["--threads", "1,2"]
    assert scale.main([*options, *threads]) == 0
    out = tmp_path / "scaling"
    assert {f.name for f in out.iterdir()} == {
        "steps.csv", "allreduce.csv", "prediction.csv", "scale.png", "report.txt"
    }  # fmt: skip
    assert capsys.readouterr().out.startswith((out / "report.txt").read_text())
    with (out / "steps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["scaling"], row["threads"]) for row in rows} >= {("strong", "1"), ("strong", "2"), ("weak", "1")}
    for row in rows:
        assert int(row["steps"]) == 2
        parts = [float(row[f"{part}_s"]) for part in PARTS]
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(float(row["median_s"]))  # two steps: a median of two is their mean
        # CPU time over wall time, from two clocks that are read one after the other: rough for steps this short.
        assert 0 < float(row["cores_got"]) < 2
    assert scale.main(options) == 2
    assert "scaling exists already: choose another --out" in capsys.readouterr().err


@needs_mpi
def test_a_real_measurement_of_ranks(tmp_path, monkeypatch):
    """With two ranks allreduces of ten sizes are timed, and a step's parts include waiting for each other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    model = small_data.write_model(tmp_path / "small.toml")
    options = ["--model", str(model), "--batch-size", "64", "--steps", "3", "--rounds", "1", "--out", "scaling"]
    assert scale.main([*options, "--ranks", "1,2", "--threads", "1"]) == 0
    with (tmp_path / "scaling" / "allreduce.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["bytes"] for row in rows}) == 10
    assert all(float(row["seconds"]) > 0 for row in rows)
    with (tmp_path / "scaling" / "steps.csv").open() as file:
        two = [row for row in csv.DictReader(file) if row["ranks"] == "2"]
    assert {(row["scaling"], row["batch_size"]) for row in two} == {("strong", "64"), ("weak", "128")}
    assert all(float(row["allreduce_s"]) > 0 and float(row["waiting_s"]) >= 0 for row in two)


def test_a_failing_run_is_one_line(tmp_path, monkeypatch, capsys):
    """Too little data for a step of this size ends with the worker's reason, not with its traceback."""
    monkeypatch.chdir(tmp_path)
    small_data.write_shards(tmp_path / "data")
    model = small_data.write_model(tmp_path / "small.toml")
    assert scale.main(["--model", str(model), "--data", "data", "--batch-size", "500", "--threads", "1"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert "too few for timing steps of 500: choose a smaller --batch-size" in errors[0]


@pytest.mark.parametrize("option", ["--batch-size=0", "--ranks=1,x", "--latency=-1", "--disk=nan", "--data=nowhere"])
def test_bad_options_are_refused(tmp_path, monkeypatch, capsys, option):
    """A bad number or folder ends with exit code 2 before anything is written."""
    monkeypatch.chdir(tmp_path)
    assert scale.main([option]) == 2
    assert "error:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
