"""Names of files and classes that mean something to HTML, CSV, terminals or spreadsheets, from images to results."""

import csv
import io

import pytest
import small_run
from test_commands_report import Page

from lenet_mp import evaluate, predict, prepare, report, tables, train
from lenet_mp.training import checkpoint
from lenet_mp.training.checkpoint_document import METRICS

CLASSES = (
    "<script>alert(1)<",
    "=cmd|' '!A0",
    "@sum(1)",
    "a,b;c",
    "quo\"te'd",
    "\u202eRTL\u202c",
    "$x_{1}$ %s {0} {{ 1 }}",
    "-dash",
    "x" * 255,
    "no \udcff\udcfe text",
    "\u5929\u6c17 \U0001f600",
    "cafe\u0301",
    "caf\u00e9",
    "back\\slash &amp;",
)
FILES = ("new\nline.png", "tab\t.png", "return\r.png", "q'\".png", "<b>.png", ",.png", "=1+1.png", "\u202e.png",
         "y" * 251 + ".png", "n\udcff.png", "\x1b[31mred.png")  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Write a folder a class, with a file of each name."""
    folder = tmp_path_factory.mktemp("odd") / "images"
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        pixels, _ = small_run.pictures(len(FILES), number)
        for file, image in zip(FILES, pixels, strict=True):
            small_run.write_image(folder / name / file, image)
    return folder


@pytest.fixture(scope="module")
def run(images):
    """Prepare and train on them; return the run folder."""
    place = images.parent
    arguments = ["--folder", images, "--out", place / "data", "--size", "12x10", "--workers", "1"]
    assert prepare.main([str(argument) for argument in arguments]) == 0
    (place / "small.toml").write_text(small_run.MODEL.replace("classes = 4", f"classes = {len(CLASSES)}"))
    arguments = ["--data", place / "data", "--model", place / "small.toml", "--out", place / "run", "--epochs", 1]
    assert train.main([*map(str, arguments), "--lr", "1e-4", "--batch-size", "20", "--progress", "off"]) == 0
    return place / "run"


def read_csv(text):
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def read_csv_file(path):
    return read_csv(path.read_bytes().decode("utf-8", "surrogateescape"))


def test_classes_are_called_as_their_folders(run):
    """A checkpoint knows every class by its folder's name, byte for byte."""
    assert sorted(checkpoint.load(run / "last.ckpt").class_names) == sorted(CLASSES)


def test_tables_give_every_name_back(run, capfd):
    """All CSV files of an evaluation are read back to the same names; what is printed steers no terminal."""
    assert evaluate.main([str(run)]) == 0
    out = run / "evaluation" / "test"
    names = checkpoint.load(run / "last.ckpt").class_names
    assert [row[1] for row in read_csv_file(out / "per_class.csv")[1:]] == list(names)
    assert read_csv_file(out / "confusion.csv")[0][1:] == list(names)
    assert [row[0] for row in read_csv_file(out / "confusion.csv")[1:]] == list(names)
    for row in read_csv_file(out / "predictions.csv")[1:]:
        assert (row[3], row[5]) == (names[int(row[2])], names[int(row[4])])
    printed = capfd.readouterr().out
    assert all(letter.isprintable() for letter in printed.replace("\n", ""))
    assert [len(row) for row in read_csv_file(run / "metrics.csv")] == [len(METRICS)] * 2


def test_predictions_name_every_file(run, images, tmp_path, capfd):
    """The CSV of predict is read back to the same paths; as text each has one line, with nothing but letters."""
    paths = [str(images / CLASSES[0] / name) for name in FILES]
    assert predict.main([str(run), *paths, "--topk", "1", "--format", "csv", "-o", str(tmp_path / "out.csv")]) == 0
    assert [row[0] for row in read_csv_file(tmp_path / "out.csv")[1:]] == paths
    assert predict.main([str(run), *paths]) == 0
    lines = capfd.readouterr().out.split("\n")
    assert len(lines) == len(paths) + 1
    assert all(letter.isprintable() for line in lines for letter in line)


def test_a_page_shows_names_as_they_are(run):
    """The report holds every name as text; no name becomes a tag."""
    assert report.main([str(run)]) == 0
    page = Page((run / "report.html").read_text("utf-8"))
    assert page.all("script") == []
    for name in CLASSES:
        assert tables.readable(name) in page.words()


def test_bad_images_of_any_name_are_reported(tmp_path):
    """What prepare reports as unusable is read back to the same names."""
    for name in CLASSES[:2]:
        (tmp_path / "images" / name).mkdir(parents=True)
        for file in FILES:
            (tmp_path / "images" / name / file).write_bytes(b"no image")
    arguments = ["--folder", tmp_path / "images", "--out", tmp_path / "data", "--report", tmp_path / "bad.csv"]
    assert prepare.main([*map(str, arguments), "--workers", "1", "--size", "12x10"]) == 3
    reported = {row[0] for row in read_csv_file(tmp_path / "bad.csv")[1:]}
    assert reported == {f"{name}/{file}" for name in CLASSES[:2] for file in FILES}


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb", "a,b", 'q"', "", " x ", "\x0b", "\u2028", "=1", "\udcff"])
def test_any_text_survives_a_table(text):
    """Whatever stands in a cell is read back."""
    rows = [[text, "2"], ["1", text], [text]]
    assert read_csv(tables.rows_as_csv(rows)) == rows
