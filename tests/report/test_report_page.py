"""The page: what it says, that it escapes and needs nothing from outside, its size, and how browsers see it."""

import base64
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_fake_run import build_run, draw_tree

from densessl.commands.report import report
from densessl.errors import InputError
from densessl.report.contents import (
    Clustering,
    ClusterStrip,
    Comparison,
    MaskGallery,
    Picture,
    ReportContents,
    RunRecord,
)
from densessl.report.markup import Html, element, join
from densessl.report.overview_sections import NO_LABELS, duration
from densessl.report.page import render, write_report
from densessl.report.picture_sections import named_values
from densessl.report.run_folder import read_run
from densessl.structures import IGNORE, Provenance, Rejection

HOSTILE = """<img src=x onerror="alert(1)">'&"""
MAX_BYTES = 6_000_000


class Structure(HTMLParser):
    """Collects elements with attributes and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"img", "meta", "br", "hr", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    stems = draw_tree(root / "data", 26)
    return build_run(root / "animals", root / "data", stems)


@pytest.mark.real_data
def test_page_of_photographs_stays_small(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "voc_animals"
    stems = (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[:60]
    path = report(build_run(tmp_path / "animals", root, stems))
    assert 300_000 < path.stat().st_size < 2_000_000


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return render(read_run(run))


def test_command_writes_the_page(run: Path, tmp_path: Path) -> None:
    assert report(run) == run / "report" / "index.html"
    assert report(run, tmp_path / "deep" / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_same_run_same_page(run: Path, page: str) -> None:
    assert render(read_run(run)) == page


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_report(ReportContents("x"), tmp_path / "file" / "index.html")


def test_page_is_well_formed_and_accessible(page: str) -> None:
    elements = Structure(page).elements
    assert ("html", {"lang": "en"}) in elements
    assert sum(tag == "h1" for tag, _ in elements) == 1
    images = [attributes for tag, attributes in elements if tag == "img"]
    assert images
    assert all(attributes["alt"] and attributes["width"] and attributes["height"] for attributes in images)
    identifiers = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = [str(attributes["href"])[1:] for tag, attributes in elements if tag == "a"]
    assert set(links) <= set(identifiers)


def test_page_needs_nothing_from_outside(page: str) -> None:
    for tag, attributes in Structure(page).elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/webp;base64,", "#")), (tag, name, str(value)[:80])
    assert "@import" not in page
    assert "url(" not in page
    assert re.search(r"https?://", page) is None
    policies = [attributes.get("content") for _, attributes in Structure(page).elements if "http-equiv" in attributes]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none'; img-src data:;")


def test_every_picture_decodes(page: str) -> None:
    uris = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    for uri in uris:
        Image.open(io.BytesIO(base64.b64decode(uri))).load()
    assert len(uris) > 60


def test_page_shows_the_numbers(run: Path, page: str) -> None:
    contents = read_run(run)
    assert contents.scores is not None
    assert contents.scores_before is not None
    for value in (contents.scores.miou, contents.scores_before.miou):
        assert f'<dd class="value">{100 * value:.1f}<small>%</small></dd>' in page
    assert "over 5 seeds" in page
    assert "1 h 23 min" in page
    assert "Labels behind the masks" in page
    assert "none (spectral saliency)" in page
    assert "The largest confusion:" in page
    assert NO_LABELS not in page


def test_page_names_the_machine(run: Path, page: str) -> None:
    assert "NVIDIA A100 40GB, 16 cores" in page
    contents = read_run(run)
    assert contents.record is not None
    single = replace(contents, record=replace(contents.record, hardware={"device": "AMD EPYC", "cores": "1"}))
    assert "AMD EPYC, 1 core<" in render(single)


def test_page_without_labels_says_so(run: Path) -> None:
    contents = replace(read_run(run), scores=None, scores_before=None)
    text = render(contents)
    assert NO_LABELS in text
    assert "Scores per class" not in text


def test_page_of_nothing_stands() -> None:
    text = render(ReportContents("empty"))
    assert Structure(text).elements
    assert "<section" not in text
    assert "A run without masks or clusters yet." in text


def test_everything_from_outside_is_escaped() -> None:
    picture = Picture(HOSTILE, np.zeros((8, 9, 3), np.uint8), np.ones((8, 9), bool))
    contents = ReportContents(
        title=HOSTILE,
        record=RunRecord(
            commands=(HOSTILE,),
            started=HOSTILE,
            commit=HOSTILE,
            versions={HOSTILE: HOSTILE},
            hardware={HOSTILE: HOSTILE},
            provenance=Provenance(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)),
        ),
        config=f"</code></pre><script>alert(1)</script>{HOSTILE}",
        clustering=Clustering(
            1, strips=(ClusterStrip(0, 1, HOSTILE, (picture,), (0.1,)),), seeds=HOSTILE, protocol={HOSTILE: HOSTILE}
        ),
        comparisons=(Comparison(HOSTILE, picture.photo, picture.mask, after=np.ones((8, 9), np.int64)),),
        value_names={1: HOSTILE},
        gallery=MaskGallery(1, (picture,), (Rejection(HOSTILE, HOSTILE),), (picture,), {HOSTILE: HOSTILE}),
        notes=(HOSTILE,),
    )
    text = render(contents)
    elements = Structure(text).elements
    assert all("onerror" not in attributes for _, attributes in elements)
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert "<img src=x" not in text


def test_largest_page_stays_small() -> None:
    generator = np.random.default_rng(0)

    def noise(height: int, width: int) -> np.ndarray:
        rough = generator.integers(0, 256, (height // 2, width // 2, 3)).astype(np.uint8)
        return rough.repeat(2, axis=0).repeat(2, axis=1)

    def picture(height: int, width: int) -> Picture:
        return Picture("stem", noise(height, width), np.ones((height, width), bool))

    strips = tuple(ClusterStrip(c, 9, None, tuple(picture(144, 144) for _ in range(6)), ()) for c in range(40))
    label_map = np.ones((240, 320), np.int64)
    comparison = Comparison("stem", noise(240, 320), label_map > 0, label_map, label_map, label_map)
    gallery = MaskGallery(24, tuple(picture(224, 300) for _ in range(24)))
    contents = ReportContents(
        "noise", comparisons=(comparison,) * 8, clustering=Clustering(40, strips=strips), gallery=gallery
    )
    assert len(render(contents).encode()) < MAX_BYTES


def test_markup_escapes_text_and_attributes_but_not_html() -> None:
    made = element("a", {"title": '"<', "class": None}, "a < b", Html("<b>c</b>"))
    assert made == '<a title="&quot;&lt;">a &lt; b<b>c</b></a>'
    assert element("img", {"alt": "x"}) == '<img alt="x">'
    assert join(["&", Html("&amp;")]) == "&amp;&amp;"


def test_named_values_are_sorted_by_size() -> None:
    label_map = np.array([[0, 8, 8, 15, IGNORE, -1]])
    assert named_values(label_map, {8: "cat"}) == [(8, "cat"), (-1, "no class"), (15, "class 15")]


@pytest.mark.parametrize(("seconds", "text"), [(3.21, "3.2 s"), (75, "1 min 15 s"), (5025.4, "1 h 23 min")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


PROBE = """
<script>
const broken = [...document.images].filter((image) => !image.complete || image.naturalWidth === 0).length;
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const buttons = document.querySelectorAll("button").length;
document.title = `images ${document.images.length} broken ${broken} wide ${wide} buttons ${buttons}`;
</script>
"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [500, 1280])
def test_page_in_chromium(page: str, tmp_path: Path, width: int) -> None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next((path for path in map(shutil.which, names) if path), None)
    if browser is None:
        pytest.skip("no chromium or google-chrome executable was found")
    # The probe counts images after loading; the page's own policy forbids foreign scripts, so it is lifted here.
    probed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    loaded = PROBE.replace("<script>\n", '<script>\naddEventListener("load", () => {\n').replace(
        "\n</script>", "\n});\n</script>"
    )
    (tmp_path / "index.html").write_text(probed.replace("</body>", f"{loaded}</body>"), encoding="utf-8")
    (tmp_path / "strict.html").write_text(page, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2000", "--dump-dom",
    ]  # fmt: skip
    doms = {}
    for name in ("index.html", "strict.html"):
        done = subprocess.run(
            [*command, (tmp_path / name).as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        doms[name] = done.stdout
    num_images = page.count("<img ")
    assert f"<title>images {num_images} broken 0 wide false buttons 4</title>" in doms["index.html"]
    assert doms["strict.html"].count(">Copy</button>") == 3
    assert re.search(r'<form[^>]*id="cluster-names"[^>]*hidden', doms["strict.html"]) is None
    assert doms["strict.html"].count("<img ") == num_images
