"""The predictor of exported files: the masks of the predictor with torch, without torch; and what it refuses."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from densessl.errors import InputError, MissingInputError
from densessl.promptable.onnx_predictor import OnnxPredictor
from densessl.promptable.predictor import Predictor
from densessl.structures import ImageArray

onnxruntime = pytest.importorskip("onnxruntime")


def drawn(height: int, width: int, seed: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def onnx(exported: Any) -> OnnxPredictor:
    return OnnxPredictor(exported.folder, num_threads=1)


@pytest.fixture(scope="module")
def with_torch(exported: Any) -> Predictor:
    return Predictor.from_weights(exported.weights, "cpu", "fp32")


def mask_prompt(num: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(num, 24, 24)).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "prompt"),
    [
        ((70, 50), {"points": [[[20, 30]]]}),
        ((70, 50), {"points": [[[20, 30], [5, 60]], [[1, 1], [49, 69]]], "labels": [[1, 0], [1, -1]]}),
        ((50, 130), {"boxes": [[10, 5, 90, 40], [0, 0, 130, 50]]}),
        ((200, 96), {"points": [[[20, 30]]], "labels": [[0]], "boxes": [[10, 5, 90, 40]], "mask": mask_prompt(1)}),
        ((96, 96), {"mask": mask_prompt(2)}),
        ((70, 50), {"points": [[20, 30]], "labels": [0], "boxes": [5, 5, 40, 60], "mask": mask_prompt(1)[0]}),
    ],
    ids=["click", "clicks", "boxes", "all", "masks", "one prompt"],
)
def test_masks_are_those_of_the_predictor(
    onnx: OnnxPredictor, with_torch: Predictor, size: tuple[int, int], prompt: dict[str, Any]
) -> None:
    image = drawn(*size)
    found = onnx.set_image(image).predict(**prompt)
    with_torch.set_image(image)
    for multimask, outputs in ((True, slice(1, None)), (False, slice(0, 1))):
        expected = with_torch.predict(**prompt, multimask=multimask)
        order = (expected.output - (1 if multimask else 0)).argsort(axis=1)
        expected = expected.at(order)
        assert_near(found.low_resolution[:, outputs], expected.low_resolution)
        assert_near(found.predicted_iou[:, outputs], expected.predicted_iou)
        assert (found.masks[:, outputs] == expected.masks).mean() > 0.999  # rounding decides some pixels


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare to 1e-4 of the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_an_image_that_another_predictor_encoded(onnx: OnnxPredictor, exported: Any) -> None:
    second = OnnxPredictor(exported.folder, num_threads=1).set_image_of(onnx.set_image(drawn(70, 50)))
    click = [[[20, 30]]]
    np.testing.assert_array_equal(second.predict(click).low_resolution, onnx.predict(click).low_resolution)
    onnx.set_image(drawn(50, 130))
    assert second.predict(click).masks.shape[2:] == (70, 50)


def test_an_image_of_another_encoder_is_refused(onnx: OnnxPredictor, exported: Any) -> None:
    other = OnnxPredictor(exported.folder, encoder="decoder.onnx")
    with pytest.raises(InputError, match=r"encoded by .*encoder\.onnx, not by .*decoder\.onnx; call set_image"):
        other.set_image_of(onnx.set_image(drawn(70, 50)))
    with pytest.raises(InputError, match="no image is set"):
        OnnxPredictor(exported.folder).set_image_of(OnnxPredictor(exported.folder))


def test_the_part_of_low_resolution_masks_that_is_image(onnx: OnnxPredictor) -> None:
    onnx.set_image(drawn(50, 100))  # 48 x 96 in the frame, cells of 4 pixels
    assert onnx.inside_padding == (slice(0, 12), slice(0, 24))


def test_it_needs_no_torch(exported: Any) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"  # an import of it fails
        "import numpy as np\n"
        "from densessl.promptable.onnx_predictor import OnnxPredictor\n"
        f"found = OnnxPredictor({str(exported.folder)!r}).set_image(np.zeros((40, 30, 3), np.uint8))\n"
        "print(found.predict(points=[[[3, 4]]]).masks.shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(1, 4, 40, 30)\n"), done.stderr


WRONG_PROMPTS: dict[str, dict[str, Any]] = {
    "none": {},
    "outside": {"points": [[[9999, 5]]]},
    "ragged": {"points": [[[3, 4]], [[3, 4], [5, 6]]]},
    "shape": {"points": [3, 4]},
    "labels": {"points": [[[3, 4]]], "labels": [[1, 0]]},
    "label": {"points": [[[3, 4]]], "labels": [[5]]},
    "labels_alone": {"labels": [1]},
    "empty_box": {"boxes": [9, 0, 2, 9]},
    "nan": {"boxes": [0, 0, float("nan"), 9]},
    "counts": {"points": [[[3, 4]]], "boxes": [[0, 0, 9, 9]] * 2},
    "mask_count": {"points": [[[3, 4]]], "mask": mask_prompt(2)},
    "mask_shape": {"mask": mask_prompt(2)[:, 0]},
}


@pytest.mark.parametrize("name", WRONG_PROMPTS)
def test_wrong_prompts_are_told_as_the_predictor_does(onnx: OnnxPredictor, with_torch: Predictor, name: str) -> None:
    image, messages = drawn(20, 20), []
    for predictor in (onnx, with_torch):
        with pytest.raises(InputError) as told:
            predictor.set_image(image).predict(**WRONG_PROMPTS[name])
        messages.append(str(told.value))
    assert messages[0] == messages[1]


def test_what_is_not_there_is_told(exported: Any, tmp_path: Any) -> None:
    with pytest.raises(MissingInputError, match="expected the record of"):
        OnnxPredictor(tmp_path)
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(InputError, match="is no record of `export_promptable`: no 'size_px'"):
        OnnxPredictor(tmp_path)
    with pytest.raises(InputError, match=r"no file .*encoder\.int4\.onnx"):
        OnnxPredictor(exported.folder, encoder="encoder.int4.onnx")
    fresh = OnnxPredictor(exported.folder)
    with pytest.raises(InputError, match="no image is set"):
        fresh.predict(points=[[[3, 4]]])
    with pytest.raises(InputError, match="takes uint8 RGB"):
        fresh.set_image(np.zeros((4, 4), dtype=np.uint8))


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"half"])
def test_a_damaged_file_is_told(exported: Any, tmp_path: Any, content: bytes) -> None:
    for name in ("export.json", "encoder.onnx", "decoder.onnx"):
        (tmp_path / name).write_bytes((exported.folder / name).read_bytes())
    whole = (tmp_path / "encoder.onnx").read_bytes()
    (tmp_path / "encoder.onnx").write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    predictor = OnnxPredictor(tmp_path)  # the encoder is opened when it is needed
    with pytest.raises(InputError, match=r"encoder\.onnx cannot be opened by onnxruntime .*export it again"):
        predictor.set_image(drawn(20, 30))
