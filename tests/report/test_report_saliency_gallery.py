"""The gallery of proposed masks: its numbers, its choice of images, its pictures, and the page in a browser."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densessl.errors import InputError, MissingInputError
from densessl.report import saliency_gallery_thumbnails
from densessl.report.markup import Html
from densessl.report.overlays import OUTLINE_COLOUR
from densessl.report.saliency_gallery import render, write_saliency_gallery
from densessl.report.saliency_gallery_charts import count_histogram, share_histogram, unit_histogram
from densessl.report.saliency_gallery_choice import (
    choose_extremes,
    choose_rejected,
    choose_sample,
    group_by_reason,
)
from densessl.report.saliency_gallery_contents import SaliencyGallery, gather_saliency_gallery
from densessl.report.saliency_gallery_records import (
    LabelScores,
    MaskFacts,
    read_label_scores,
    read_proposed_masks,
)
from densessl.report.saliency_gallery_thumbnails import THUMBNAIL_PX, draw_thumbnails
from densessl.structures import ImageRef, Rejection

HEIGHT, WIDTH = 30, 40
HOSTILE = """<img src=x onerror="alert(1)">'&"""
BROKEN = "b/broken"
SETTINGS = {"method": "fused", "refine": "none", "threshold": 0.5, "min_area": 0.01, "max_area": 0.99}


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
        if tag not in {"img", "meta", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def part(image: int, area: int, score: float, box: tuple[int, int, int, int] = (5, 5, 4, 4)) -> dict[str, Any]:
    mask = {"size": [HEIGHT, WIDTH], "counts": "PPYo0"}
    return {"image_id": image, "area": area, "score": score, "bbox": list(box), "segmentation": mask}


def write_folder(folder: Path, stems: list[str], parts: list[dict[str, Any]], rejected: list[Rejection]) -> Path:
    folder.mkdir(exist_ok=True)
    images = [{"id": n, "stem": stem, "height": HEIGHT, "width": WIDTH} for n, stem in enumerate(stems)]
    (folder / "proposals.json").write_text(json.dumps({"images": images, "annotations": parts}))
    (folder / "rejected.json").write_text(json.dumps([{"stem": r.stem, "reason": r.reason} for r in rejected]))
    (folder / "saliency.json").write_text(json.dumps({"settings": SETTINGS, "counts": None}))
    return folder


def draw_folder(root: Path) -> tuple[Path, tuple[ImageRef, ...]]:
    """Draw 16 masks of growing size, one of a broken photograph and one missing, and 3 rejected images."""
    stems = [f"a/{number:02d}" for number in range(14)] + [BROKEN, HOSTILE]
    rejected = [
        Rejection("r/1", f"foreground covers 99.5% of the image {HOSTILE}"),
        Rejection("r/2", f"image {root}/r/2.jpg cannot be read (truncated)"),
        Rejection("r/3", f"image {root}/r/3.jpg cannot be read (truncated)"),
    ]
    parts, refs = [], []
    rng = np.random.default_rng(0)
    for number, stem in enumerate([*stems, *(item.stem for item in rejected)]):
        name = "hostile" if stem == HOSTILE else stem
        photo = root / "photos" / f"{name}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(photo)
        refs.append(ImageRef(stem, photo))
        if stem in {BROKEN, "r/2", "r/3"}:
            photo.write_bytes(b"no image")
        if number >= len(stems):
            continue
        side = 8 + number
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[2 : 2 + side, 3 : 3 + side] = 255
        path = root / "out" / "masks" / f"{stem}.png"
        if stem != HOSTILE:  # so that one mask is missing
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        parts.append(part(number, side * side, 0.6 + 0.02 * number, (3, 2, side, side)))
    parts.append(part(4, 9, 0.9, (37, 0, 3, 3)))
    return write_folder(root / "out", stems, parts, rejected), tuple(refs)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[ImageRef, ...]]:
    return draw_folder(tmp_path_factory.mktemp("gallery"))


def gather(drawn: tuple[Path, tuple[ImageRef, ...]], **options: Any) -> SaliencyGallery:
    return gather_saliency_gallery(read_proposed_masks(drawn[0]), drawn[1], "fitted to none", **options)


@pytest.fixture(scope="module")
def page(drawn: tuple[Path, tuple[ImageRef, ...]]) -> str:
    return render(gather(drawn, images_per_second=7.25))


def test_facts_of_an_image_by_hand(tmp_path: Path) -> None:
    parts = [part(0, 10, 0.9, (0, 5, 4, 4)), part(0, 30, 0.5, (36, 27, 4, 3)), part(1, 600, 0.75, (10, 10, 20, 19))]
    masks = read_proposed_masks(write_folder(tmp_path, ["b/x", "a"], parts, [Rejection("r", "empty")]))
    assert list(masks.facts) == ["a", "b/x"]
    assert masks.facts["b/x"] == MaskFacts("b/x", 40 / 1200, pytest.approx((9 + 15) / 40), 2, 3)
    assert masks.facts["a"] == MaskFacts("a", 0.5, pytest.approx(0.75), 1, 0)
    assert masks.part_scores.tolist() == [0.9, 0.5, 0.75]
    assert (masks.num_images, masks.settings, masks.features) == (3, SETTINGS, None)
    nothing = read_proposed_masks(write_folder(tmp_path, ["e"], [], []))
    assert nothing.facts["e"] == MaskFacts("e", 0.0, 0.0, 0, 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("proposals.json", "{", "is not valid JSON"),
        ("proposals.json", "[]", "is no list of proposals"),
        ("proposals.json", '{"images": [{"id": 1, "stem": "a"}], "annotations": []}', "'height'"),
        ("proposals.json", '{"images": [{"id": 1, "stem": "a", "height": 0, "width": 2}], "annotations": []}', "Zero"),
        ("rejected.json", '[{"stem": "a"}]', "is no list of stems and reasons"),
        ("saliency.json", "{}", "holds no saliency settings; expected a folder that `densessl saliency` has finished"),
    ],
)
def test_broken_files_are_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a"], [], [])
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_proposed_masks(folder)
    assert name in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(MissingInputError, match=f"no file .*{name}; expected a folder that"):
        read_proposed_masks(folder)


def test_impossible_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lists an image twice"):
        read_proposed_masks(write_folder(tmp_path, ["a", "a"], [], []))
    with pytest.raises(InputError, match="a score that is no finite number"):
        read_proposed_masks(write_folder(tmp_path, ["a"], [part(0, 3, float("nan"))], []))
    with pytest.raises(InputError, match=r"is no list of proposals \(KeyError\(7\)\)"):
        read_proposed_masks(write_folder(tmp_path, ["a"], [part(7, 3, 0.5)], []))


def test_label_scores(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    row = {"stem": "a", "iou": 0.25, "mae": 0.1}
    path.write_text(json.dumps({"iou": 0.25, "standard_error": None, "per_image": [row]}))
    assert read_label_scores(path, ["a", "b"]) == LabelScores("scores.json", {"a": 0.25}, 0.25, None, 1)
    with pytest.raises(InputError, match=r"scores none of the images that have a mask \(its first is a\)"):
        read_label_scores(path, ["b"])
    path.write_text(json.dumps({"iou": 0.25, "standard_error": None, "per_image": [{**row, "iou": float("nan")}]}))
    with pytest.raises(InputError, match="gives a the IoU nan; IoUs lie in"):
        read_label_scores(path, ["a"])
    path.write_text('{"iou": 0.5}')
    with pytest.raises(InputError, match=r"per_image.*expected the file that `densessl saliency_metrics --json FILE`"):
        read_label_scores(path, ["a"])


def facts_of(*rows: tuple[float, float, int, int]) -> dict[str, MaskFacts]:
    """Return facts named a, b, ... of (area_share, score, num_parts, num_edges)."""
    return {stem: MaskFacts(stem, *row) for stem, row in zip("abcdefgh", rows, strict=False)}


def test_sections_hold_the_extremes() -> None:
    facts = facts_of(
        *[(0.1, 0.9, 1, 0), (0.2, 0.8, 3, 1), (0.3, 0.7, 2, 4), (0.4, 0.6, 2, 4)],
        *[(0.5, 0.9, 1, 0), (0.6, 0.5, 1, 2), (0.7, 0.5, 1, 0), (0.8, 0.6, 1, 3)],
    )
    chosen = {section.identifier: section.stems for section in choose_extremes(facts, 24)}
    assert chosen == {  # a quarter of eight; equal values in order of their names
        "surest": ("a", "e"),
        "least-sure": ("f", "g"),
        "largest": ("h", "g"),
        "smallest": ("a", "b"),
        "many-parts": ("b", "d"),
        "border": ("d", "c"),
    }
    assert choose_extremes(facts, 1)[0].stems == ("a",)
    scores = LabelScores("s.json", {"a": 0.5, "b": 0.9, "c": 0.1, "z": 1.0}, 0.5, None, 4)
    best, worst, *_ = choose_extremes(facts, 24, scores)
    assert (best.identifier, best.stems, worst.identifier, worst.stems) == ("best", ("b",), "worst", ("c",))


def test_sections_without_images_are_left_out() -> None:
    assert [section.identifier for section in choose_extremes(facts_of((0.1, 0.9, 1, 0)), 24)][-1] == "smallest"
    assert choose_extremes({}, 24) == ()


def test_the_sample_is_the_same_every_time() -> None:
    stems = [f"{number:04d}" for number in range(1000)]
    sample = choose_sample(stems, 50)
    assert len(sample) == len(set(sample)) == 50
    assert sample == tuple(sorted(sample)) == choose_sample(reversed(stems), 50)
    assert choose_sample(["b", "a"], 50) == ("a", "b")


def test_rejections_are_grouped_and_shown_in_turn() -> None:
    unreadable = [Rejection(f"x/{n}", f"image /my photos/x/{n}.jpg cannot be read") for n in range(3)]
    large = [Rejection(stem, f"covers 99.{n}% of the image") for n, stem in enumerate(["p(", "q"])]
    groups = group_by_reason([*large, *unreadable])
    assert groups == (tuple(unreadable), tuple(large))
    assert choose_rejected(groups, 4) == (unreadable[0], large[0], unreadable[1], large[1])
    assert choose_rejected((), 4) == choose_rejected(groups, 0) == ()


def decode(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))))


def test_thumbnails_show_the_outline_and_open_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((300, 600), np.uint8)
    mask[60:240, 100:500] = 255
    (tmp_path / "masks/s").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "masks/s/a.png")
    Image.fromarray(np.full((300, 600, 3), (0, 120, 0), np.uint8)).save(tmp_path / "a.png")
    opened: list[Path] = []
    read = saliency_gallery_thumbnails.read_image
    monkeypatch.setattr(saliency_gallery_thumbnails, "read_image", lambda path: opened.append(path) or read(path))
    images = {stem: ImageRef(stem, tmp_path / "a.png") for stem in ("s/a", "r", "unused")}
    drawn = draw_thumbnails(tmp_path / "masks", images, ["s/a", "s/a"], ["r", "s/a"])
    assert len(opened) == 2
    assert drawn["s/a"].size == (THUMBNAIL_PX // 2, THUMBNAIL_PX)
    pixels = decode(drawn["s/a"].uri).astype(int)
    rows = pixels[52]  # across the middle: grey, outline at a sixth of the width, the photograph inside
    assert np.ptp(rows[10]) < 12
    assert np.abs(rows[35:37] - OUTLINE_COLOUR).max() < 40
    assert np.abs(rows[104] - (0, 120, 0)).max() < 12
    assert np.abs(decode(drawn["r"].uri).astype(int) - (0, 120, 0)).max() < 12


def test_what_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for name, size in (("masks/small", (5, 5)), ("photo", (8, 9))):
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "masks/bad.png").write_bytes(b"")
    images = {stem: ImageRef(stem, tmp_path / "photo.png") for stem in ("small", "bad", "none", "../photo")}
    images["broken"] = ImageRef("broken", tmp_path / "broken.png")
    drawn = draw_thumbnails(tmp_path / "masks", images, [*images, "absent"], [])
    problems = {stem: thumbnail.problem or "" for stem, thumbnail in drawn.items()}
    assert problems["absent"] == "not among the images that were given"
    assert problems["none"] == "no mask masks/none.png; run saliency again"
    assert problems["small"].startswith("the image is 8 x 9 and its mask 5 x 5 (height x width); give the images")
    assert "leaves the folder" in problems["../photo"]
    assert "cannot be read" in problems["broken"]
    assert "bad.png is empty" in problems["bad"]


def bars(chart: Html) -> list[str]:
    return re.findall(r"<title>(.*?)</title>", chart)


def test_histograms_count_by_hand() -> None:
    shares = share_histogram(np.array([0.0, 0.04, 0.05, 1.0]), "Area", "masks")
    assert len(bars(shares)) == 20
    assert bars(shares)[:2] + bars(shares)[-1:] == ["0–5 %: 2 masks", "5–10 %: 1 masks", "95–100 %: 1 masks"]
    units = unit_histogram(np.array([0.81, 0.83, 1.0]), "Score", "proposals")
    assert (bars(units)[0], bars(units)[-1]) == ("0.8–0.81: 0 proposals", "0.99–1: 1 proposals")
    assert "median 0.83, middle half 0.82–0.92" in units
    assert len(bars(unit_histogram(np.array([0.0, 1.0]), "IoU", "images"))) == 20
    assert len(bars(unit_histogram(np.array([1.0, 1.0]), "IoU", "images"))) == 20
    counts = count_histogram(np.array([1, 1, 2, 30]), "Parts", "masks")
    assert bars(counts)[0] == "1: 2 masks"
    assert bars(counts)[-1] == "8 and more: 1 masks"
    assert "50 % have one part; at most 30" in counts
    assert bars(count_histogram(np.array([1]), "Parts", "masks")) == ["1: 1 masks", "2: 0 masks", "3: 0 masks"]


def test_page_is_well_formed_and_accessible(page: str) -> None:
    elements = Structure(page).elements
    assert ("html", {"lang": "en"}) in elements
    assert sum(tag == "h1" for tag, _ in elements) == 1
    images = [attributes for tag, attributes in elements if tag == "img"]
    assert len(images) > 20
    assert all(attributes["alt"] and attributes["width"] and attributes["height"] for attributes in images)
    identifiers = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {str(attributes["href"])[1:] for tag, attributes in elements if tag == "a"} <= set(identifiers)
    labelled = {attributes["for"] for tag, attributes in elements if tag == "label"}
    assert labelled == {attributes["id"] for tag, attributes in elements if tag in {"input", "select"}}


def test_page_needs_nothing_from_outside(page: str) -> None:
    elements = Structure(page).elements
    for tag, attributes in elements:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#")), (tag, name)
    assert re.search(r"https?://|@import|url\(", page) is None
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in elements


def test_page_says_what_there_is(page: str) -> None:
    assert "19 images, 16 masks, 3 rejected." in page
    assert "fitted to none" in page
    assert "7.2 images a second" in page
    assert page.count('<td class="number">') == 2  # reasons: too large once, unreadable twice
    assert "All 16 masks." in page
    assert "Labels were used" not in page
    assert "IoU" not in re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)
    assert HOSTILE not in page
    assert page.count("&lt;img src=x") > 4


def test_faults_cost_their_picture_alone(page: str) -> None:
    assert page.count("broken.png cannot be read") >= 2  # as tooltip and as text, wherever the image is chosen
    assert page.count("cannot be shown") == 4
    assert f'data-stem="{BROKEN}"' in page


def test_labels_are_announced(drawn: tuple[Path, tuple[ImageRef, ...]]) -> None:
    ious = {f"a/{number:02d}": number / 20 for number in range(8)}
    page = render(gather(drawn, scores=LabelScores("<s>.json", ious, 0.175, 0.04, 8)))
    assert "Labels were used on this page" in page
    assert "&lt;s&gt;.json" in page
    best = page[page.index('id="best"') : page.index('id="worst"')]
    assert re.findall(r'data-stem="([^"]*)"', best) == ["a/07", "a/06"]
    assert '<span class="stressed">IoU 0.35</span>' in best
    assert '<option value="-iou">' in page
    assert "± 0.040, 8 labelled images" in page


def test_segments_are_not_taken_for_the_mask(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, ["a", "b"], [part(0, 9, 0.8)], [])  # b has no segment that is large enough
    settings = {**SETTINGS, "method": "deep_spectral", "num_segments": 4}
    (folder / "saliency.json").write_text(json.dumps({"settings": settings, "counts": None}))
    refs = [ImageRef(stem, tmp_path / f"{stem}.png") for stem in "ab"]
    page = render(gather_saliency_gallery(read_proposed_masks(folder), refs, "unknown"))
    assert "of 4 segments, not of the mask drawn" in page
    assert "2 images, 2 masks, none rejected." in page


def test_same_folder_same_page(drawn: tuple[Path, tuple[ImageRef, ...]], page: str) -> None:
    assert render(gather(drawn, images_per_second=7.25)) == page


def test_folders_without_masks_or_images(tmp_path: Path) -> None:
    rejected = [Rejection("x", "nothing found")]
    masks = read_proposed_masks(write_folder(tmp_path / "out", [], [], rejected))
    gallery = gather_saliency_gallery(masks, [ImageRef("x", tmp_path / "x.png")], "unknown")
    page = render(gallery)
    assert "1 image, 0 masks, 1 rejected." in page
    assert 'id="browse"' not in page
    assert "nothing found" in page
    empty = read_proposed_masks(write_folder(tmp_path / "out", [], [], []))
    assert "0 images, 0 masks, none rejected." in render(gather_saliency_gallery(empty, [], "unknown"))


def test_wrong_requests_are_refused(drawn: tuple[Path, tuple[ImageRef, ...]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="num_per_section is 0; give at least 1"):
        gather(drawn, num_per_section=0)
    with pytest.raises(InputError, match=r"none of the 1 images \(the first is z\) belongs to the masks"):
        gather((drawn[0], (ImageRef("z", tmp_path / "z.png"),)))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_saliency_gallery(gather(drawn), tmp_path / "file" / "index.html")


def test_names_that_are_no_unicode_can_be_written(tmp_path: Path) -> None:
    stem = b"\xff".decode(errors="surrogateescape")
    masks = read_proposed_masks(write_folder(tmp_path / "out", [stem], [part(0, 9, 0.5)], []))
    gallery = gather_saliency_gallery(masks, [ImageRef(stem, tmp_path / "x.png")], "unknown")
    path = write_saliency_gallery(gallery, tmp_path / "deep" / "index.html")
    assert 'data-stem="?"' in path.read_text(encoding="utf-8")


PROBE = """
<script>
addEventListener("load", () => {
  const by = (name) => document.getElementById(`browse-${name}`);
  const stems = () => [...by("grid").children].map((card) => card.dataset.stem).join(" ");
  const set = (name, value) => {
    by(name).value = value;
    by(name).dispatchEvent(new Event("input", { bubbles: true }));
    return stems();
  };
  const found = [String(by("grid").children.length), by("status").textContent];
  found.push(set("text", "A/0"), set("sort", "-score"));
  set("low", "10");
  found.push(set("high", "20"), by("low-value").textContent, set("low", "90"), by("high-value").textContent);
  by("controls").reset();
  setTimeout(() => {
    found.push(String(by("grid").children.length), set("show", "rejected"), set("show", "border"));
    found.push(set("text", "nowhere"), by("status").textContent);
    const wide = document.documentElement.scrollWidth > innerWidth;
    const broken = [...document.images].filter((image) => !image.naturalWidth).length;
    document.title = JSON.stringify({ found, wide, broken });
  }, 20);
});
</script>
"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [500, 1280])
def test_filters_in_chromium(page: str, tmp_path: Path, width: int) -> None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next((path for path in map(shutil.which, names) if path), None)
    if browser is None:
        pytest.skip("no chromium or google-chrome executable was found")
    # The page's own policy forbids foreign scripts, so it is lifted for the probe.
    probed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (tmp_path / "probed.html").write_text(probed.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    (tmp_path / "strict.html").write_text(page, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2000", "--virtual-time-budget=2000",
        "--dump-dom",
    ]  # fmt: skip
    doms = {}
    for name in ("probed", "strict"):
        words = [*command, (tmp_path / f"{name}.html").as_uri()]
        doms[name] = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search(r"<title>(.*?)</title>", doms["probed"])
    assert title is not None
    state = json.loads(title[1])
    assert (state["wide"], state["broken"]) == (False, 0)
    stems = [f"a/{number:02d}" for number in range(10)]
    assert state["found"] == [
        *("16", "16 of the page's 19 pictures match"),
        *(" ".join(stems), " ".join(reversed(stems))),
        "a/07 a/06 a/05 a/04 a/03",  # areas of 10 to 20 %: sides 11 to 15 of 30 x 40
        *("10 %", "", "90 %"),
        *("16", "r/1 r/2 r/3", "a/04"),
        *("", "None of the page's 19 pictures matches; widen the filters."),
    ]
    assert re.search(r'id="browse-controls"[^>]*hidden', doms["strict"]) is None
    assert "16 of the page's 19 pictures match" in doms["strict"]
