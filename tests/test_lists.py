"""Lists of samples and names of classes."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_mp.data import checks
from lenet_mp.data.classes import natural_order, read_classes
from lenet_mp.data.folders import read_folders, shuffled
from lenet_mp.data.lists import read_lists
from lenet_mp.errors import DataError
from tests.pictures import write_picture


def read(folder, *texts, **options):
    """Read lists of the given contents (str or bytes) for the splits train, validation, test."""
    paths = {}
    for split, text in zip(("train", "validation", "test"), texts, strict=False):
        paths[split] = folder / f"{split}.txt"
        paths[split].write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_lists(paths, **options)


def pairs(collection, split="train"):
    return [(sample.path, sample.label) for sample in collection.samples[split]]


def reasons(collection):
    return [str(problem) for problem in collection.problems]


def test_path_and_number(tmp_path):
    """The original's lists are read as they are: one blank, an integer class, blanks in paths, numbers kept."""
    found = read(tmp_path, "a.jpg 0\nsome dir/b c.jpg 2\nd.jpg 1\n", "e.jpg 2\n")
    assert pairs(found) == [("a.jpg", 0), ("some dir/b c.jpg", 2), ("d.jpg", 1)]
    assert pairs(found, "validation") == [("e.jpg", 2)]
    assert found.class_names == ("0", "1", "2")
    assert found.problems == []


def test_names_are_numbered_in_natural_order_over_all_lists(tmp_path):
    """Class names get numbers in natural order, whichever list they are in."""
    found = read(tmp_path, "a class10\nb class2\n", "c Class1\n")
    assert found.class_names == ("Class1", "class2", "class10")
    assert pairs(found) == [("a", 2), ("b", 1)]
    assert pairs(found, "validation") == [("c", 0)]


def test_comments_empty_lines_line_ends_and_mark(tmp_path):
    """Comments and empty lines say nothing; CRLF and a byte-order mark are accepted with a notice."""
    found = read(tmp_path, b"\xef\xbb\xbf# head\r\n\r\na.jpg 0\r\n   \r\nb.jpg  1 \r\n")
    assert pairs(found) == [("a.jpg", 0), ("b.jpg", 1)]
    assert [sample.where for sample in found.samples["train"]] == ["train.txt:3", "train.txt:5"]
    assert len(found.notices) == 2


def test_every_bad_line_is_told_with_its_number(tmp_path):
    """Tabs, commas, missing classes and NULs are all reported, each with line and reason; good lines remain."""
    text = "a.jpg 0\nb.jpg\t1\nc.jpg,1\nd.jpg\ne.jpg, 1\nf\0.jpg 1\ng.jpg -1\nh.jpg 1x\ni.jpg 1\nj.jpg 99999999\n"
    found = read(tmp_path, text)
    assert pairs(found) == [("a.jpg", 0), ("i.jpg", 1)]
    told = reasons(found)
    for line, word in (
        (2, "tab"), (3, "comma"), (4, "no class"), (5, "','"), (6, "NUL"), (7, "out of range"), (8, "not a number"),
        (10, "out of range"),
    ):  # fmt: skip
        assert any(reason.startswith(f"train.txt:{line}: ") and word in reason for reason in told), (line, told)
    assert len(told) == 8


def test_a_number_among_names_is_a_mistake(tmp_path):
    """A line of the other kind than most (a number among names) is reported, not made a class of its own."""
    found = read(tmp_path, "a cat\nb dog\nc cat\nd 7\n")
    assert found.class_names == ("cat", "dog")
    assert "train.txt:4: class '7' is not a name" in reasons(found)[0]


def test_utf16_is_named(tmp_path):
    """A UTF-16 list, as some editors write, is told as such."""
    with pytest.raises(DataError, match=r"train.txt: is UTF-16; save the list as UTF-8"):
        read(tmp_path, "a 0\n".encode("utf-16"))


def test_missing_list(tmp_path):
    """A missing list is one clear error with its path."""
    with pytest.raises(DataError, match=r"nowhere.txt: cannot be read \(No such file or directory\)"):
        read_lists({"train": tmp_path / "nowhere.txt"})


PATHS = st.text(
    st.characters(exclude_characters="\0\t\n\r", exclude_categories=["Cs"]), min_size=1, max_size=30
).filter(lambda text: text.strip(" ") == text and text[0] not in "#\ufeff" and text[-1] not in ",;")


@given(entries=st.lists(st.tuples(PATHS, st.integers(0, 99)), min_size=1, max_size=20), windows=st.booleans())
def test_round_trip(tmp_path_factory, entries, windows):
    """Any path without control characters and any class comes back from a list as it was written."""
    end = "\r\n" if windows else "\n"
    text = "".join(f"{path} {label}{end}" for path, label in entries)
    found = read(tmp_path_factory.mktemp("lists"), text)
    assert found.problems == []
    assert pairs(found) == entries


@given(st.binary(max_size=200))
def test_any_bytes_are_lines_or_problems(tmp_path_factory, data):
    """Whatever a list holds, reading ends with samples and problems or with DataError, never otherwise."""
    try:
        found = read(tmp_path_factory.mktemp("lists"), data)
    except DataError:
        return
    assert all(0 <= label < len(found.class_names) for _, label in pairs(found))


def test_names_that_are_not_utf8(tmp_path):
    """A file name in another encoding than UTF-8 still leads to its file."""
    name = b"caf\xe9.png"
    write_picture(tmp_path / os.fsdecode(name))
    found = read(tmp_path, name + b" 0\n")
    checks.resolve(found, tmp_path)
    assert os.fsencode(found.samples["train"][0].file).endswith(name)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0 goldfish\n1 fire salamander\n", ("goldfish", "fire salamander")),
        ("1 b\n0 a\n\n# comment\n", ("a", "b")),
        ("cat\nbig dog\n", ("cat", "big dog")),
        ("2nd class\n1st class\n", ("2nd class", "1st class")),
        ("\ufeffdé\r\nça\r\n", ("dé", "ça")),
    ],
)
def test_classes_file(tmp_path, text, names):
    """Both forms of classes.txt are understood, with blanks and accents in names."""
    path = tmp_path / "classes.txt"
    path.write_text(text, newline="")
    assert read_classes(path) == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no class name"),
        ("0 a\n2 b\n", "number 1 is missing"),
        ("0 a\n0 b\n", "number 1 is missing"),
        ("a\nb\na\n", "class 'a' is there twice"),
        ("".join(f"c{number % 60_000}\n" for number in range(65_536)), "class 'c0' is there twice"),
        ("".join(f"c{number}\n" for number in range(65_537)), "65,537 classes, more than the 65,536"),
        ("a\n" + "b" * 1001, "the class name 'bbb.*' is longer than 1,000 characters"),
        ("a\x85b\nc", "the class name 'a.x85b' is no line of text"),
    ],
    ids=lambda text: text[:20],
)
def test_bad_classes_file(tmp_path, text, reason):
    """An empty file, missing numbers, repeated names, too many and unprintable ones are errors that name the file."""
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=rf"classes.txt: {reason}"):
        read_classes(tmp_path / "classes.txt")


def test_any_number_of_digits(tmp_path):
    """Numbers in names are compared as numbers even where no integer type holds them."""
    short, long = "n" + "9" * 5000, "n1" + "0" * 5000
    assert natural_order([long, short, "n1", "n01"]) == ("n01", "n1", short, long)
    (tmp_path / "classes.txt").write_text(f"{'9' * 500} a\n1 b\n")
    assert len(read_classes(tmp_path / "classes.txt")[0]) == 502


def test_too_many_classes(tmp_path):
    """A list whose last column is no class, but different in every line, is told before anything is numbered."""
    with pytest.raises(DataError, match=r"the lists: 65,537 classes, more than the 65,536 .* are these classes\?"):
        read(tmp_path, "".join(f"a x{number}\n" for number in range(65_537)))


def test_a_line_of_very_many_words(tmp_path):
    """A line of a megabyte of blanks, beside class names with blanks, takes time in proportion to its length."""
    (tmp_path / "classes.txt").write_text("big dog\ncat\n")
    found = read(tmp_path, f"{'x ' * 500_000}big dog\n")
    assert found.samples["train"][0].label == 0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path, end):
    """Lines may end as on any system; a carriage return among ordinary line ends belongs to the name."""
    assert pairs(read(tmp_path, f"a 0{end}b 1{end}".encode())) == [("a", 0), ("b", 1)]
    assert pairs(read(tmp_path, b"a\rb 0\nc 1\n")) == [("a\rb", 0), ("c", 1)]


def test_classes_beside_the_list(tmp_path):
    """classes.txt beside the training list gives the names; lists may use numbers, names, or a name's first word."""
    (tmp_path / "classes.txt").write_text("0 n01 goldfish\n1 n02 fire salamander\n2 ox\n")
    found = read(tmp_path, "a 0\nb n02\nc d n02 fire salamander\ne ox\nf fish\ng 3\n")
    assert found.class_names == ("n01 goldfish", "n02 fire salamander", "ox")
    assert pairs(found) == [("a", 0), ("b", 1), ("c d", 1), ("e", 2)]
    told = [reason.split(" is ")[0] for reason in reasons(found)]
    assert told == ["train.txt:5: class 'fish'", "train.txt:6: class '3'"]


def test_natural_order():
    """Numbers in names count as numbers, and case is secondary."""
    assert natural_order(["b", "a10", "A2", "a1", "10", "9"]) == ("9", "10", "a1", "A2", "a10", "b")
    assert natural_order(["a1", "a", "A", "a1b"]) == ("A", "a", "a1", "a1b")


def resolved(folder, *texts, **options):
    found = read(folder, *texts)
    checks.resolve(found, folder / "root", **options)
    return found


def test_files_that_are_no_images_of_the_root(tmp_path):
    """Missing and empty files, folders, pipes, devices and paths out of the root are all reported, without hanging."""
    root = tmp_path / "root"
    write_picture(root / "good.png")
    write_picture(tmp_path / "outside.png")
    (root / "folder").mkdir()
    (root / "empty.png").touch()
    os.mkfifo(root / "pipe.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "away").symlink_to(tmp_path)
    (root / "inside.png").symlink_to("good.png")
    cases = {
        "good.png": "", "inside.png": "", "folder/../good.png": "", f"{root}/good.png": "",
        "no.png": "no such file", "good.png/x.png": "no such file", "good.png 3": "a column too many",
        "folder": "a folder", "..": "a folder", "empty.png": "empty", "pipe.png": "not a regular file",
        "/dev/zero": "not a regular file", "../outside.png": "outside", "link.png": "outside",
        "away/outside.png": "outside", f"{tmp_path}/outside.png": "outside",
        "loop.png": "link to itself", "x" * 300: "too long",
    }  # fmt: skip
    found = resolved(tmp_path, "".join(f"{path} 0\n" for path in cases))
    told = {problem.where: problem.reason for problem in found.problems}
    for line, (path, reason) in enumerate(cases.items(), start=1):
        assert (reason in told[f"train.txt:{line}"]) if reason else f"train.txt:{line}" not in told, path
    assert len(found.samples["train"]) == 4


def test_outside_can_be_allowed(tmp_path):
    """With allow_outside a link out of the root is followed."""
    write_picture(tmp_path / "outside.png")
    (tmp_path / "root").mkdir()
    found = resolved(tmp_path, "../outside.png 0\n", allow_outside=True)
    assert found.problems == []
    assert found.samples["train"][0].file == str(tmp_path / "outside.png")


def test_conflicts_and_repetitions(tmp_path):
    """An image with two classes is left out and told at both lines; repetitions and shared images are counted."""
    for name in "abcd":
        write_picture(tmp_path / "root" / f"{name}.png")
    found = resolved(tmp_path, "a.png 0\nb.png 0\nb.png 0\nc.png 1\nd.png 1\n", "./a.png 1\nd.png 1\n")
    checks.check_conflicts(found)
    assert pairs(found) == [("b.png", 0), ("b.png", 0), ("c.png", 1), ("d.png", 1)]
    assert [problem.where for problem in found.problems] == ["train.txt:1", "validation.txt:1"]
    assert "'0' at train.txt:1, '1' at validation.txt:1" in found.problems[0].reason
    assert found.notices == [
        "train: 1 images are listed more than once",
        "train and validation: 1 images are in both",
    ]


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("a 0\nb 1\n", ""), "validation: no usable image at all"),
        (("", "a 0\n"), "train: no usable image at all"),
        (("a 0\nb 0\n",), "train: all images are of one class"),
        (("a 0\nb 2\n",), "train: 1 of 3 classes have no training image: '1'; renumber them"),
    ],
)
def test_faults(tmp_path, texts, reason):
    """Empty splits, a single class and gaps between numbers cannot be skipped over."""
    assert str(checks.faults(read(tmp_path, *texts))[0]).startswith(reason)


def test_named_classes_may_lack_images(tmp_path):
    """A class that classes.txt names may have no training image: a notice, no fault."""
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    found = read(tmp_path, "x a\ny c\n")
    assert checks.faults(found) == []
    assert found.notices == ["train: 1 of 3 classes have no training image: 'b'"]


def test_shuffle_depends_on_seed_and_purpose_only():
    """The order is a permutation fixed by the seed, the same for ever (a literal here), another for another seed."""
    assert shuffled(range(8), 0, "train") == [3, 2, 7, 0, 4, 6, 1, 5]
    assert sorted(shuffled(range(8), 1, "train")) == list(range(8))
    assert shuffled(range(8), 1, "train") != shuffled(range(8), 0, "train")


def test_class_folders(tmp_path):
    """Class folders are sorted naturally and split by share within each class; other files are passed over."""
    for name in ("class 10", "class 2", "Übung"):
        for number in range(10):
            write_picture(tmp_path / name / "deep" / f"{number}.png")
    (tmp_path / "class 2" / "notes.md").touch()
    (tmp_path / "class 2" / ".hidden.png").touch()
    (tmp_path / ".cache").mkdir()
    found = read_folders(tmp_path, (70, 20, 10), seed=3)
    assert found.class_names == ("class 2", "class 10", "Übung")
    for split, share in (("train", 7), ("validation", 2), ("test", 1)):
        labels = [sample.label for sample in found.samples[split]]
        assert [labels.count(label) for label in range(3)] == [share] * 3
    paths = [sample.path for split in found.samples.values() for sample in split]
    assert len(paths) == len(set(paths)) == 30
    assert found.notices == ["1 files without an image's suffix were passed over (.md)"]


def test_classes_with_few_images_still_fill_all_splits(tmp_path):
    """With three images a class, 80,10,10 is right over all classes, and no class loses its training image."""
    for label in range(20):
        for number in range(3):
            write_picture(tmp_path / f"c{label}" / f"{number}.png")
    found = read_folders(tmp_path, (80, 10, 10), seed=0)
    counts = {split: len(samples) for split, samples in found.samples.items()}
    assert counts == {"train": 48, "validation": 6, "test": 6}
    assert len({sample.label for sample in found.samples["train"]}) == 20


def test_one_image_a_class_goes_into_training(tmp_path):
    """A class with a single image keeps it for training."""
    for label in range(4):
        write_picture(tmp_path / f"c{label}" / "x.png")
    found = read_folders(tmp_path, (80, 20, 0), seed=0)
    assert len(found.samples["train"]) == 4
    assert "test" not in found.samples


@pytest.mark.parametrize(
    ("name", "reason"), [("two\nlines", "is no line of text"), ("cat ", "class 'cat' is there twice")]
)
def test_folders_that_cannot_be_class_names(tmp_path, name, reason):
    """A folder whose name cannot stand in classes.txt, or is another's but for a blank, is told."""
    for folder in (name, "cat", "dog"):
        write_picture(tmp_path / folder / "x.png")
    with pytest.raises(DataError, match=reason):
        read_folders(tmp_path, (80, 10, 10), seed=0)


def test_folders_called_like_splits(tmp_path):
    """Where the folders are called train, val and test, the class folders inside are taken as they are."""
    for split, names in (("train", "ab"), ("val", "ab"), ("Test", "bc")):
        for name in names:
            for number in range(3):
                write_picture(tmp_path / split / f"class {name}" / f"{number}.png")
    write_picture(tmp_path / "train" / "beside.png")
    found = read_folders(tmp_path, (80, 10, 10), seed=0)
    assert found.class_names == ("class a", "class b", "class c")
    assert [sample.path for sample in found.samples["train"]][3:] == [f"train/class b/{number}.png" for number in "012"]
    labels = {split: [sample.label for sample in samples] for split, samples in found.samples.items()}
    assert labels == {"train": [0, 0, 0, 1, 1, 1], "validation": [0, 0, 0, 1, 1, 1], "test": [1, 1, 1, 2, 2, 2]}
    assert found.notices == [
        "its folders train, val, Test are taken for the splits",
        "1 images that lie beside the class folders were passed over",
    ]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "no class folders"),
        (("val/a", "test/a"), "none like train"),
        (("train/a", "val/a", "Valid/a"), "are both called like the validation split"),
        (("train/a", "test"), "test: has no class folders"),
    ],
)
def test_folders_that_are_no_classes(tmp_path, names, reason):
    """No folders at all, splits without training, twice the same split, and a split without classes are errors."""
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match=reason):
        read_folders(tmp_path, (80, 10, 10), seed=0)


def test_links_to_folders(tmp_path):
    """Links to folders are followed, every folder once; one that leads back to where it lies ends there."""
    for name in ("a", "b"):
        write_picture(tmp_path / "root" / name / "x.png")
    write_picture(tmp_path / "away" / "deep" / "y.png")
    (tmp_path / "root" / "a" / "linked").symlink_to(tmp_path / "away")
    (tmp_path / "root" / "a" / "twice").symlink_to(tmp_path / "away")
    (tmp_path / "root" / "b" / "back").symlink_to("../b")
    (tmp_path / "root" / "b" / "up").symlink_to("..")
    (tmp_path / "root" / "b" / "nowhere").symlink_to("none")
    (tmp_path / "root" / "c").symlink_to(tmp_path / "away")
    found = read_folders(tmp_path / "root", (100, 0, 0), seed=0)
    paths = sorted(sample.path for sample in found.samples["train"])
    assert paths == ["a/linked/deep/y.png", "a/x.png", "b/x.png", "c/deep/y.png"]
    assert "3 links to folders that were looked into already were passed over" in found.notices
    checks.resolve(found, tmp_path / "root")
    assert [problem.where for problem in found.problems] == ["a/linked/deep/y.png", "c/deep/y.png"]
    found = read_folders(tmp_path / "root", (100, 0, 0), seed=0)
    checks.resolve(found, tmp_path / "root", allow_outside=True)
    checks.check_conflicts(found)
    assert sorted(problem.where for problem in found.problems) == ["a/linked/deep/y.png", "c/deep/y.png"]
    assert "different classes" in found.problems[0].reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not look into a folder")
def test_a_folder_that_cannot_be_looked_into():
    """A folder inside a class that may not be read is a problem, not an absence."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("a", "b", "b/closed"):
            write_picture(root / folder / "x.png")
        root.chmod(0o755)
        (root / "b" / "closed").chmod(0)
        os.seteuid(65_534)
        try:
            found = read_folders(root, (100, 0, 0), seed=0)
        finally:
            os.seteuid(0)
        assert reasons(found) == ["b/closed: cannot be looked into (Permission denied)"]
