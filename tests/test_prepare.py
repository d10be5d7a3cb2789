"""lenet-mp prepare, from lists and folders to a data set; stopped, killed and run again."""

import csv
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from lenet_mp.data import shards
from lenet_mp.data.jobs import Options
from lenet_mp.prepare import main
from tests.pictures import encoded, pixels, write_lists, write_picture

FAST = ["--size", "10x12", "--shard-size", "4", "--workers", "1"]


def prepare(folder, lists, *options, out="data"):
    return main(["--lists", *map(str, lists), "--out", str(folder / out), *FAST, *options])


def contents(folder):
    """Digest of every file of a data set."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.suffix in {".h5", ".json", ".txt"}
    }


def stored(folder):
    """Return {(split, label): sorted digests of images} of a data set."""
    dataset = shards.open_dataset(folder)
    found = {}
    for name, splits in (("train", dataset.train), ("val", [dataset.validation]), ("test", [dataset.test])):
        for split in splits:
            for image, label in zip(split.images, split.labels, strict=True):
                found.setdefault((name, int(label)), []).append(hashlib.sha256(image.tobytes()).hexdigest())
    return {key: sorted(digests) for key, digests in found.items()}


def test_lists_become_a_data_set(tmp_path, capsys):
    """Every listed image is stored once, with its class and Pillow's pixels, in shards of the wanted size."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists) == 0
    dataset = shards.open_dataset(tmp_path / "data")
    assert [split.count for split in dataset.train] == [4, 4, 3]
    assert dataset.image_shape == (10, 12, 3)
    assert dataset.channel_order == "RGB"
    expected = {}
    for path in lists:
        for line in path.read_text().splitlines():
            name, label = line.rsplit(" ", 1)
            image = Image.open(tmp_path / name).convert("RGB").resize((12, 10), Image.Resampling.BILINEAR)
            digest = hashlib.sha256(np.asarray(image).tobytes()).hexdigest()
            expected.setdefault((path.stem, int(label)), []).append(digest)
    assert stored(tmp_path / "data") == {key: sorted(digests) for key, digests in expected.items()}
    assert "11 train, 4 validation, 3 test images of 10 x 12 x 3 in 3 classes" in capsys.readouterr().out


def test_the_order_is_shuffled_by_the_seed(tmp_path):
    """The same seed gives the same files, another one another order of the same images; held-out images keep theirs."""
    lists = write_lists(tmp_path)
    for out, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert prepare(tmp_path, lists, "--seed", seed, out=out) == 0
    first, second, third = (contents(tmp_path / out) for out in "abc")
    assert first == second
    assert first["0.h5"] != third["0.h5"]
    assert first["data.h5"] == third["data.h5"]
    assert stored(tmp_path / "a") == stored(tmp_path / "c")


def test_the_number_of_workers_does_not_show(tmp_path):
    """One and three decoding processes write the same bytes."""
    lists = write_lists(tmp_path, counts=(40, 6, 5))
    for workers in ("1", "3"):
        assert prepare(tmp_path, lists, "--workers", workers, out=workers) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_passport(tmp_path):
    """The manifest's class counts, mean, deviation, hashes and duplicates are those of the stored images."""
    lists = write_lists(tmp_path)
    with lists[0].open("a") as file:
        write_picture(tmp_path / "twin.png", seed=0)  # the same bytes as the first training image
        file.write("twin.png 0\n")
    assert prepare(tmp_path, lists, "--shard-size", "5") == 0
    dataset = shards.open_dataset(tmp_path / "data")
    images = np.concatenate([split.images for split in dataset.train]).astype(np.float64)
    extra = dataset.manifest.extra
    assert np.allclose(extra["mean"], images.mean(axis=(0, 1, 2)), atol=1e-6)  # rounded to six digits
    assert np.allclose(extra["std"], images.std(axis=(0, 1, 2)), atol=1e-6)
    assert extra["class_counts"] == {"train": [5, 4, 3], "validation": [2, 1, 1], "test": [1, 1, 1]}
    assert extra["duplicates"]["kinds"] == {"within train": 1}
    for entry in dataset.manifest.shards:
        path = tmp_path / "data" / entry.name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
    assert (tmp_path / "data" / "classes.txt").read_text() == "0 0\n1 1\n2 2\n"


def test_a_changed_source_changes_the_manifest(tmp_path):
    """A source image with other bytes but the same pixels shows in the manifest's digest of sources."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists, out="a") == 0
    first = tmp_path / "train" / "picture 0.png"
    Image.open(first).save(first, compress_level=0)
    assert prepare(tmp_path, lists, out="b") == 0
    one, other = (shards.open_dataset(tmp_path / out).manifest for out in "ab")
    assert one.shards == other.shards
    assert one.extra["sources"] != other.extra["sources"]


def test_class_folders_become_a_data_set(tmp_path):
    """Class folders are prepared too; names with blanks and accents come back from the data set."""
    for name in ("big dog", "Café 2", "café 10"):
        for number in range(10):
            write_picture(tmp_path / "in" / name / f"{number}.png", seed=number)
    arguments = ["--folder", str(tmp_path / "in"), "--split", "60,20,20", "--out", str(tmp_path / "data"), *FAST]
    assert main(arguments) == 0
    dataset = shards.open_dataset(tmp_path / "data")
    assert dataset.class_names == ("big dog", "Café 2", "café 10")
    assert [dataset.validation.count, dataset.test.count] == [6, 6]
    assert sum(split.count for split in dataset.train) == 18


def test_greyscale(tmp_path):
    """--channels 1 stores luma."""
    assert prepare(tmp_path, write_lists(tmp_path), "--channels", "1") == 0
    dataset = shards.open_dataset(tmp_path / "data")
    assert dataset.image_shape == (10, 12, 1)
    assert dataset.channel_order == "L"


def spoil(tmp_path):
    """Break three images and add two bad lines; return what must be reported."""
    (tmp_path / "train" / "picture 0.png").write_bytes(b"not an image")
    whole = tmp_path / "train" / "picture 1.jpg"
    whole.write_bytes(whole.read_bytes()[:-40])
    (tmp_path / "val" / "picture 0.png").write_bytes((tmp_path / "val" / "picture 0.png").read_bytes()[:60])
    return {"train.txt:1": "not an image of", "train.txt:2": "truncated", "val.txt:1": "cannot be decoded"}


def test_bad_images_stop_the_run_and_are_all_told(tmp_path, capsys):
    """Without --skip-bad bad images end in code 3, all of them told with line and reason, and nothing usable."""
    lists = write_lists(tmp_path)
    expected = spoil(tmp_path)
    assert prepare(tmp_path, lists, "--report", str(tmp_path / "report.csv")) == 3
    err = capsys.readouterr().err
    assert "error: 3 of 18 samples cannot be used" in err
    with (tmp_path / "report.csv").open() as file:
        rows = {row["where"]: row["reason"] for row in csv.DictReader(file)}
    assert rows.keys() == expected.keys()
    for where, reason in expected.items():
        assert reason in rows[where]
        assert f"{where}: " in err
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_bad_lines_and_bad_images_in_one_pass(tmp_path, capsys):
    """With bad lines the images are looked at as well, so that one run tells everything; nothing is written."""
    lists = write_lists(tmp_path)
    expected = spoil(tmp_path)
    with lists[0].open("a") as file:
        file.write("missing.png 1\nno-class\n")
    assert prepare(tmp_path, lists) == 3
    err = capsys.readouterr().err
    for where in [*expected, "train.txt:12", "train.txt:13"]:
        assert f"prepare: {where}: " in err
    assert not (tmp_path / "data").exists()


def test_bad_images_can_be_skipped(tmp_path, capsys):
    """With --skip-bad the rest is prepared, and the manifest says what was left out."""
    lists = write_lists(tmp_path)
    expected = spoil(tmp_path)
    assert prepare(tmp_path, lists, "--skip-bad") == 0
    dataset = shards.open_dataset(tmp_path / "data")
    assert sum(split.count for split in dataset.train) == 9
    assert dataset.validation.count == 3
    assert {entry["where"] for entry in dataset.manifest.rejected} == expected.keys()
    assert "left out: 3" in capsys.readouterr().out


def test_skipping_has_a_limit(tmp_path, capsys):
    """More than the allowed share of bad images is an error even with --skip-bad, since the root is probably wrong."""
    lists = write_lists(tmp_path, counts=(40, 4, 4))
    for number in range(0, 30, 2):
        (tmp_path / "train" / f"picture {number}.png").write_bytes(b"x")
    assert prepare(tmp_path, lists, "--skip-bad") == 3
    assert "15 of 48 samples cannot be used (all are listed above), more than 5 %" in capsys.readouterr().err
    assert prepare(tmp_path, lists, "--skip-bad", "40") == 0


def test_repaired_images_are_taken_on_the_next_run(tmp_path):
    """After a run that stopped, repairing the images and running again gives what a clean run gives."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists, out="clean") == 0
    kept = {path: path.read_bytes() for path in (tmp_path / "train").iterdir()}
    kept |= {path: path.read_bytes() for path in (tmp_path / "val").iterdir()}
    spoil(tmp_path)
    assert prepare(tmp_path, lists) == 3
    for path, data in kept.items():
        path.write_bytes(data)
    assert prepare(tmp_path, lists) == 0
    assert contents(tmp_path / "data") == contents(tmp_path / "clean")


@pytest.mark.parametrize("texts", [("", "a 0\n"), ("# nothing\n", ""), ("train/picture\\ 0.png 0\n",)])
def test_empty_lists(tmp_path, texts, capsys):
    """An empty list, or one without a usable line, is code 3 before anything is written."""
    write_lists(tmp_path)
    lists = []
    for number, text in enumerate(texts):
        lists.append(tmp_path / f"list{number}.txt")
        lists[-1].write_text(text)
    assert prepare(tmp_path, lists) == 3
    assert "no usable image at all" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_report_that_cannot_be_written(tmp_path, capsys):
    """A report in a folder that does not exist is told before the work, not after it."""
    assert prepare(tmp_path, write_lists(tmp_path), "--report", str(tmp_path / "nowhere" / "report.csv")) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_output_is_not_overwritten(tmp_path, capsys):
    """Another data set, or shards from elsewhere, stay untouched without --overwrite and are replaced with it."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists) == 0
    before = contents(tmp_path / "data")
    assert prepare(tmp_path, lists, "--seed", "5") == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert contents(tmp_path / "data") == before
    (tmp_path / "data" / "contact_sheet.png").write_bytes(b"of the old images")
    assert prepare(tmp_path, lists, "--seed", "5", "--shard-size", "6", "--overwrite") == 0
    assert not (tmp_path / "data" / "contact_sheet.png").exists()
    assert [split.count for split in shards.open_dataset(tmp_path / "data").train] == [6, 5]
    assert not (tmp_path / "data" / "2.h5").exists()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "0.h5").write_bytes(b"precious")
    assert prepare(tmp_path, lists, out="foreign") == 2
    assert (tmp_path / "foreign" / "0.h5").read_bytes() == b"precious"


def test_the_same_job_again_does_nothing(tmp_path, capsys):
    """A complete data set of the same job is left as it is, with success."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists) == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("*.h5")}
    assert prepare(tmp_path, lists) == 0
    assert "complete already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_killed_after_its_last_file(tmp_path):
    """A journal that a run could not take away any more is taken away by the next one."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists) == 0
    left = tmp_path / "data" / ".prepare.0.jsonl"
    left.write_text("{}\n")
    assert prepare(tmp_path, lists) == 0
    assert not left.exists()


def test_killed_before_its_manifest(tmp_path, capsys):
    """Killed with all shards made and no manifest, the next run ends with the bytes of a clean one, and says so."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists, out="clean") == 0
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, sys\nfrom lenet_mp.data import preparation\nfrom lenet_mp.prepare import main\n"
        "preparation._manifest = lambda *_: os._exit(9)\nmain(sys.argv[1:])\n"
    )
    command = [sys.executable, script, "--lists", *lists, "--out", tmp_path / "data", *FAST]
    assert subprocess.run(command, check=False).returncode == 9
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("*.h5")}
    assert not (tmp_path / "data" / "manifest.json").exists()
    capsys.readouterr()
    assert prepare(tmp_path, lists) == 0
    told = capsys.readouterr().out
    assert f"all {len(made)} files were there already, of a run that was interrupted; the manifest is new" in told
    assert "complete already" not in told
    assert contents(tmp_path / "data") == contents(tmp_path / "clean")
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_complete_data_set_that_was_damaged(tmp_path, capsys):
    """A shard or manifest that was lost or cut since is told, not passed over as complete; --overwrite mends it."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists, out="clean") == 0
    for name, data in (("1.h5", None), ("1.h5", b"cut"), ("manifest.json", b"{")):
        assert prepare(tmp_path, lists, "--overwrite") == 0
        path = tmp_path / "data" / name
        path.unlink()
        if data is not None:
            path.write_bytes(data)
        capsys.readouterr()
        assert prepare(tmp_path, lists) == 2
        err = capsys.readouterr().err
        assert name in err
        assert "--overwrite" in err
        assert prepare(tmp_path, lists, "--overwrite") == 0
        assert contents(tmp_path / "data") == contents(tmp_path / "clean")


def start(tmp_path, lists, out="data"):
    arguments = ["--lists", *map(str, lists), "--out", str(tmp_path / out), *FAST]
    command = [sys.executable, "-m", "lenet_mp.prepare", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def wait_for(condition, process):
    """Wait until `condition` holds or the process ends."""
    limit = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.001)


def test_killed_anywhere_it_goes_on(tmp_path):
    """Killed again and again at random moments, it ends with the bytes of an undisturbed run, nothing beside."""
    lists = write_lists(tmp_path, counts=(60, 6, 6))
    assert prepare(tmp_path, lists, out="clean") == 0
    choose = random.Random(7)
    kills = 0
    for aim in (0, 2, 5, 9, 14):
        process = start(tmp_path, lists)
        wait_for(lambda aim=aim: len(list((tmp_path / "data").glob("*.h5"))) >= aim, process)
        time.sleep(choose.uniform(0, 0.01))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        assert not (tmp_path / "data" / "manifest.json").exists() or contents(tmp_path / "data") == contents(
            tmp_path / "clean"
        )
    assert kills > 0
    assert prepare(tmp_path, lists) == 0
    assert contents(tmp_path / "data") == contents(tmp_path / "clean")
    assert not [path for path in (tmp_path / "data").iterdir() if "tmp" in path.name or "jsonl" in path.name]


def test_what_is_finished_is_not_done_again(tmp_path):
    """A run that goes on leaves the finished shards as they are."""
    lists = write_lists(tmp_path)
    (tmp_path / "val" / "picture 0.png").rename(tmp_path / "elsewhere.png")
    (tmp_path / "val" / "picture 0.png").write_bytes(b"bad")
    assert prepare(tmp_path, lists) == 3
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("[0-9].h5")}
    assert len(times) == 3
    (tmp_path / "elsewhere.png").replace(tmp_path / "val" / "picture 0.png")
    assert prepare(tmp_path, lists) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_two_runs_in_one_folder(tmp_path):
    """While one run works in a folder, a second one stops at once with code 2; after its death a third may go on."""
    lists = write_lists(tmp_path, counts=(60, 6, 6))
    first = start(tmp_path, lists)
    wait_for((tmp_path / "data" / ".prepare.0.jsonl").exists, first)
    os.kill(first.pid, signal.SIGSTOP)
    second = start(tmp_path, lists)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2
    assert b"in use by process" in err
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert prepare(tmp_path, lists) == 0


def test_not_enough_space_is_told_before_it_begins(tmp_path, monkeypatch, capsys):
    """Too little free space is code 74 before an image is decoded."""
    lists = write_lists(tmp_path)
    real = os.statvfs
    free = real(tmp_path).f_frsize

    class Full:
        f_bavail, f_frsize = 1, free

    monkeypatch.setattr("lenet_mp.data.jobs.os.statvfs", lambda _: Full)
    assert prepare(tmp_path, lists) == 74
    assert "are free; choose another --out" in capsys.readouterr().err
    assert not list((tmp_path / "data").glob("*.h5"))


def test_nothing_is_cleared_away_for_what_does_not_fit(tmp_path, monkeypatch):
    """--overwrite without room leaves the old data set whole; the room that it takes counts as free."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists) == 0
    before = contents(tmp_path / "data")
    size = sum(path.stat().st_size for path in (tmp_path / "data").glob("*.h5"))
    free = os.statvfs(tmp_path)

    class Full:
        f_bavail, f_frsize = 0, free.f_frsize

    monkeypatch.setattr("lenet_mp.data.jobs.os.statvfs", lambda _: Full)
    assert prepare(tmp_path, lists, "--overwrite", "--size", "400") == 74
    assert contents(tmp_path / "data") == before
    Full.f_bavail = -(-(18 * 10 * 12 * 3 + 4 * 65_536) * 102 // 100 // Full.f_frsize) - size // Full.f_frsize + 2
    assert prepare(tmp_path, lists, "--overwrite", "--seed", "1") == 0


def test_a_disk_that_fills_up(tmp_path):
    """A disk that refuses while shards are written ends in code 74, no torn file, and the next run ends well."""
    lists = write_lists(tmp_path, counts=(30, 4, 4))
    limited = (
        "import resource, signal, sys; from lenet_mp.prepare import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000)); sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["--lists", *map(str, lists), "--out", str(tmp_path / "data"), "--size", "10x12", "--shard-size", "20"]
    done = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 74, done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "data").glob("*.h5"))
    assert main([*arguments, "--workers", "1"]) == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--split", "50,40"], ["--split", "0,50,50"], ["--split", "a,b"], ["--split", "120,-10,-10"], ["--size", "0"],
        ["--size", "1x2x3"], ["--size", "-5"], ["--shard-size", "0"], ["--workers", "x"], ["--skip-bad", "101"],
        ["--channels", "2"], ["--filter", "magic"], ["--store", "zip"], ["--quality", "96"],
    ],
)  # fmt: skip
def test_bad_options(options, capsys):
    """Options that make no sense are refused with code 2 and one line."""
    assert main(["--folder", "x", "--out", "y", *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--lists", "a", "--split", "80,20"], "--split belongs to --folder, not to --lists"),
        (["--folder", "a", "--classes", "names.txt"], "--classes belongs to --lists or --idx, not to --folder"),
        (["--folder", "a", "--root", "b"], "--root belongs to --lists, not to --folder"),
        (["--lists", "a", "--hold-out", "0"], "--hold-out belongs to --idx, not to --lists"),
        (["--idx", "a", "--skip-bad"], "--skip-bad belongs to --lists or --folder, not to --idx"),
        (["--lists", "a", "--quality", "80"], "--quality belongs to --store jpeg"),
        (["--lists", "a", "--out", ""], "argument -o/--out: it is empty: name a file or folder"),
    ],
)
def test_options_without_meaning(options, reason, tmp_path, capsys):
    """An option that would be passed over for these images is refused, and so is an empty one."""
    assert main(["--out", str(tmp_path / "data"), *options]) == 2
    assert reason in capsys.readouterr().err


def test_manifest_is_plain_json_with_the_options(tmp_path):
    """The manifest states the options and nothing of this machine's folders."""
    lists = write_lists(tmp_path)
    assert prepare(tmp_path, lists, "--seed", "3", "--filter", "lanczos") == 0
    text = (tmp_path / "data" / "manifest.json").read_text()
    assert str(tmp_path) not in text
    options = json.loads(text)["options"]
    assert options["seed"] == 3
    assert options["size"] == [10, 12]
    assert options["resampling"] == "lanczos"
    assert Options().size == (250, 250)


def test_class_with_many_kinds_of_images(tmp_path):
    """Images of any size and kind end in the same shape."""
    for name, size in (("a", (3, 500)), ("b", (700, 2)), ("c", (1, 1))):
        for number in range(3):
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(pixels(number, *size)).convert(["RGB", "L", "P"][number])
            image.save(tmp_path / "in" / name / f"{number}.png")
    assert main(["--folder", str(tmp_path / "in"), "--split", "100", "--out", str(tmp_path / "data"), *FAST]) == 0
    dataset = shards.open_dataset(tmp_path / "data")
    assert sum(split.count for split in dataset.train) == 9
    assert dataset.validation is None


def plant(folder):
    """Write one bad file of every kind; return {path: part of the reason}."""
    folder.mkdir()
    photo = encoded(pixels(0, 60, 60), "JPEG")
    picture = encoded(pixels(0, 60, 60))
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = picture[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + picture[33:]
    files = {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"<html>404 Not Found</html>", "not an image"),
        "cut.jpg": (photo[: len(photo) // 2], "truncated"),
        "cut.png": (picture[: len(picture) // 2], "cannot be decoded"),
        "flipped.png": (picture[:200] + b"\xff" * 40 + picture[240:], "cannot be decoded"),
        "vector.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
        "photo.tif": (encoded(pixels(0), "TIFF"), "not an image"),
        "bomb.png": (bomb, "claims"),
        "archive.jpg": (b"PK\x03\x04" + bytes(100), "not an image"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "out.png").symlink_to("/etc/passwd")
    reasons = {name: reason for name, (_, reason) in files.items()}
    return reasons | {"pipe.png": "regular file", "folder.png": "folder", "out.png": "outside", "gone.png": "no such"}


def test_every_kind_of_bad_file_is_found_and_nothing_else(tmp_path):
    """Among good images, the report holds exactly the planted bad ones, each with its own reason."""
    lists = write_lists(tmp_path, counts=(120, 6, 6))
    planted = plant(tmp_path / "bad")
    lines = lists[0].read_text().splitlines()
    choose = random.Random(3)
    for name in planted:
        lines.insert(choose.randrange(len(lines)), f"bad/{name} 1")
    lists[0].write_text("\n".join(lines))
    assert prepare(tmp_path, lists, "--skip-bad", "20", "--report", str(tmp_path / "report.csv")) == 0
    with (tmp_path / "report.csv").open() as file:
        rows = {row["where"]: row["reason"] for row in csv.DictReader(file)}
    assert len(rows) == len(planted)
    for name, reason in planted.items():
        where = f"train.txt:{lines.index(f'bad/{name} 1') + 1}"
        assert reason in rows[where].lower(), (name, rows[where])
    dataset = shards.open_dataset(tmp_path / "data")
    assert sum(split.count for split in dataset.train) == 120
    assert len(dataset.manifest.rejected) == len(planted)


def test_killed_before_its_journal_it_begins_again(tmp_path):
    """What a run leaves that was killed before its journal was in place does not stop the next one."""
    lists = write_lists(tmp_path)
    (tmp_path / "data").mkdir()
    for name in (".lock", "..prepare.0.123.tmp.jsonl", ".0.123.tmp.h5"):
        (tmp_path / "data" / name).write_bytes(b"rest")
    assert prepare(tmp_path, lists) == 0
    assert not [path for path in (tmp_path / "data").iterdir() if "tmp" in path.name]
