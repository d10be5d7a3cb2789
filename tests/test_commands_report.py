"""``lenet-mp report``: one page, complete in itself, readable by eyes, keyboards and screen readers."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
import small_run
from PIL import Image

from lenet_mp import report
from lenet_mp.results.classifier import Classifier
from lenet_mp.training import checkpoint

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags with attributes, text, and whether every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        """Note the tag, and that it is open."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        """Check that it closes the tag that was opened last."""
        assert self._open.pop() == tag

    def handle_data(self, data):
        """Note the text."""
        self.text.append(data)

    def all(self, tag):
        """Attributes of all tags of that name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self):
        """All text, with single blanks."""
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run.train_small(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(trained):
    assert report.main([str(trained.run)]) == 0
    return (trained.run / "report.html").read_text(encoding="utf-8")


def without_pictures(html):
    return re.sub(r"base64,[A-Za-z0-9+/=]*", "", html)


def picture_of(attributes):
    kind, data = attributes["src"].split(",", 1)
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_page_needs_nothing_else(html):
    """No script, no other file, no address: every picture is inside, and every link leads to a place on the page."""
    page = Page(html)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert "http" not in without_pictures(html)
    assert "url(" not in html
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert max(Counter(ids).values()) == 1
    links = [attributes["href"] for attributes in page.all("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_pictures_have_words_and_their_own_size(html):
    """Every image has an alternative text and states the size that it has."""
    images = Page(html).all("img")
    assert len(images) > 10
    for attributes in images:
        assert len(attributes["alt"]) > 5
        assert picture_of(attributes).size == (int(attributes["width"]), int(attributes["height"]))


def test_tables_are_reachable_by_keyboard(html):
    """Whatever scrolls by itself can be focused and has a name; every table heading says what it heads."""
    page = Page(html)
    scrolling = [attributes for attributes in page.all("div") if attributes.get("class") in ("scroll", "wide")]
    assert len(scrolling) >= 6
    for attributes in scrolling:
        assert attributes["tabindex"] == "0"
        assert attributes["role"] == "region"
        assert attributes["aria-label"]
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert next(tag for tag, _ in page.tags if tag in ("h1", "h2")) == "h1"


def test_figures_are_those_of_the_run(trained, html):
    """Scores, history, class table and command on the page are those of the run's own files."""
    words = Page(html).words()
    classifier = Classifier.load(trained.run)
    history = checkpoint.load(trained.run / "last.ckpt").history
    assert f"{history[-1]['val_top1']:.1%}" in words
    assert f"{history[0]['loss']:.4f}" in words
    assert f"{classifier.network.parameter_count:,} parameters" in words
    assert "12 x 10 x 3 RGB" in words
    command = f"python -m lenet_mp.train --model {trained.run.parent / 'small.toml'} --data {trained.data} --epochs 3 "
    assert f"{command}--batch-size 20 --lr 1e-3" in words
    assert f"{history[0]['val_loss']:.4f} {history[0]['train_top1']:.1%} {history[0]['train_top5']:.1%}" in words
    shares = json.loads((trained.run / "profile.json").read_text())["shares"]
    assert "compute" in shares
    assert all(f"{phase} {share:.1%}" in words for phase, share in shares.items())
    for name in small_run.NAMES:
        assert name in words


def test_mistakes_are_wrong_and_in_order(html):
    """The samples shown as mistakes are wrong ones, the most certain first, each with its own picture."""
    page = Page(html)
    caption = r"<figcaption>(.*), taken for (.*) \(([\d.]+)%\); data\.h5, row (\d+)<"
    captions = re.findall(caption, without_pictures(html))
    assert captions
    chances = [float(chance) for _, _, chance, _ in captions]
    assert chances == sorted(chances, reverse=True)
    images, labels = small_run.pictures(37, [0, 2, 37])
    shown = [attributes for attributes in page.all("img") if attributes["alt"].startswith("A sample of")]
    assert len(shown) == len(captions)
    for attributes, (label, prediction, _, row) in zip(shown, captions, strict=True):
        assert label == small_run.NAMES[labels[int(row)]] != prediction
        np.testing.assert_array_equal(np.asarray(picture_of(attributes)), images[int(row)])


def test_names_cannot_become_markup(tmp_path, capsys):
    """A class called like a tag is shown as it is called."""
    odd = ("<script>alert(1)</script>", "a & b", '"quoted"', "'>x")
    data = small_run.write_data(tmp_path / "odd", names=odd)
    trained = small_run.train_small(tmp_path / "run", "--data", str(data))
    assert report.main([str(trained.run), "-o", str(tmp_path / "odd.html")]) == 0
    capsys.readouterr()
    page = Page((tmp_path / "odd.html").read_text(encoding="utf-8"))
    assert page.all("script") == []
    assert all(name in page.words() for name in odd)


def test_several_runs_are_compared(trained, tmp_path, capsys):
    """Two runs give one page with a table that has a row for each, and a chapter for each."""
    other = small_run.train_small(tmp_path / "other", "--epochs", "1")
    out = tmp_path / "both.html"
    assert report.main([str(trained.run), str(other.run), "-o", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    page = Page(out.read_text(encoding="utf-8"))
    assert len(page.all("article")) == 2
    assert "2 runs side by side" in page.words()
    # Both folders are called "run": their paths tell them apart.
    assert page.all("img")[0]["alt"].endswith(f"{trained.run}, {other.run}.")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert max(Counter(ids).values()) == 1


def test_a_comparison_leaves_the_runs_own_pages_alone(trained, html, tmp_path, capsys):
    """Several runs without --out give comparison.html in the first one's folder; a run given twice is a mistake."""
    other = small_run.train_small(tmp_path / "other", "--epochs", "1")
    own = (other.run / "report.html").read_bytes()
    assert report.main([str(other.run), str(trained.run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(other.run / "comparison.html")
    assert (other.run / "report.html").read_bytes() == own
    assert (trained.run / "report.html").read_text(encoding="utf-8") == html
    assert report.main([str(trained.run), f"{trained.run}/../run"]) == 2
    assert "is given twice" in capsys.readouterr().err


def test_run_without_its_data_still_has_a_page(trained, tmp_path, capsys):
    """Where the data set is gone the page says so, and has everything that the run folder itself can tell."""
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    for name in ("best.ckpt", "last.ckpt"):
        state = checkpoint.load(run / name)
        state.config["data"] = str(tmp_path / "gone")
        checkpoint.save(state, run / name)
    (run / "env.json").unlink()
    assert report.main([str(run)]) == 0
    words = Page((run / "report.html").read_text(encoding="utf-8")).words()
    assert "which is not here" in words
    assert "Kernels of the first convolution" in words
    assert report.main([str(run), "--data", str(tmp_path / "nosuch")]) == 3
    assert "nosuch" in capsys.readouterr().err


def test_run_of_no_finished_epoch_has_a_page(trained, tmp_path, capsys):
    """A run that was stopped in its first epoch, without validation, is reported as far as it came."""
    state = checkpoint.load(trained.run / "last.ckpt")
    state.history, state.epoch = [], 0
    (tmp_path / "early").mkdir()
    checkpoint.save(state, tmp_path / "early" / "last.ckpt")
    assert report.main([str(tmp_path / "early"), str(trained.run), "-o", str(tmp_path / "page.html")]) == 0
    capsys.readouterr()
    assert "0 epochs" in Page((tmp_path / "page.html").read_text(encoding="utf-8")).words()


@pytest.mark.parametrize("name", ["nosuch", "data"])
def test_no_run_is_one_line(trained, capsys, name):
    """A folder that is no run is refused in one line."""
    assert report.main([str(trained.run.parent / name)]) == 4
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("scheme", [[], ["--force-dark-mode"]], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_browser_shows_all_of_it(html, tmp_path, width, scheme):
    """In Chromium every picture is decoded, nothing sticks out sideways, text stands out, nothing is complained of."""
    # A frame, because no window is narrower than 500 pixels; "<" is escaped to keep the page out of the script's end.
    probe = """<iframe id="frame" width="WIDTH" height="800" style="border:0"></iframe><script>
        const frame = document.getElementById("frame");
        frame.onload = () => {
          const page = frame.contentDocument, style = frame.contentWindow.getComputedStyle(page.body);
          const broken = [...page.images].filter(i => !i.complete || !i.naturalWidth).length;
          const sizes = [page.documentElement.scrollWidth, frame.contentWindow.innerWidth];
          document.title = JSON.stringify([...sizes, broken, style.color, style.backgroundColor]);
        };
        frame.srcdoc = PAGE;
        </script>"""
    path = tmp_path / "probe.html"
    page = json.dumps(html).replace("<", "\\u003c")
    path.write_text(probe.replace("WIDTH", str(width)).replace("PAGE", page), encoding="utf-8")
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--virtual-time-budget=5000",
               *scheme, "--dump-dom", path.as_uri()]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"<title>(\[.*?\])</title>", result.stdout)
    assert found, result.stdout[-500:]
    needed, given, broken, *colors = json.loads(found[1])
    assert needed <= given == width
    assert broken == 0
    ink, paper = (sum(map(int, re.findall(r"\d+", color))) for color in colors)
    assert (ink - paper > 400) if scheme else (paper - ink > 400)
    assert "CONSOLE" not in result.stderr
