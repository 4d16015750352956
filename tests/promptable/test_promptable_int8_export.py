"""Quantised files and the measure of what they lose."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densessl.errors import InputError
from densessl.promptable.int8_export import mask_overlap, measure_int8, quantise_onnx
from densessl.structures import ImageArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def drawn(seed: int) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_overlap_of_masks() -> None:
    first = np.zeros((3, 2, 2), dtype=bool)
    second = first.copy()
    first[0, 0], second[0, :, 0] = True, True  # 1 of 3 pixels
    first[1, 0, 0] = True
    assert mask_overlap(first, second).tolist() == [pytest.approx(1 / 3), 0, 1]  # two empty masks are the same


def test_quantised_files_hold_their_linear_layers_in_int8(exported: Any) -> None:
    for part in ("encoder", "decoder"):
        graph = onnx.load(exported.folder / f"{part}.int8.onnx").graph
        kinds = [node.op_type for node in graph.node]
        assert kinds.count("MatMulInteger") > 5
        weights = [value for value in graph.initializer if value.data_type == onnx.TensorProto.INT8]
        assert len([value for value in weights if len(value.dims) == 2]) > 5
        assert (exported.folder / f"{part}.int8.onnx").stat().st_size < (
            exported.folder / f"{part}.onnx"
        ).stat().st_size


def test_a_network_without_linear_layers_leaves_no_file(tmp_path: Path) -> None:
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), dtype=np.float32), "weight")
    graph = make.make_graph(
        [make.make_node("Conv", ["images", "weight"], ["out"])],
        "convolution",
        [make.make_tensor_value_info("images", kind, [1, 3, 8, 8])],
        [make.make_tensor_value_info("out", kind, [1, 4, 6, 6])],
        [weight],
    )
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 18)]), tmp_path / "part.onnx")
    assert quantise_onnx(tmp_path / "part.onnx", tmp_path / "part.int8.onnx") == 0
    assert not (tmp_path / "part.int8.onnx").exists()


def test_a_file_that_cannot_be_quantised_is_told(tmp_path: Path) -> None:
    (tmp_path / "part.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"part.onnx cannot be quantised \(.*leave quantise out"):
        quantise_onnx(tmp_path / "part.onnx", tmp_path / "part.int8.onnx")


def test_int8_loses_little_and_the_same_file_nothing(exported: Any, tmp_path: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx", "export.json", "decoder.int8.onnx"):
        shutil.copy(exported.folder / name, tmp_path)
    shutil.copy(exported.folder / "encoder.onnx", tmp_path / "encoder.int8.onnx")
    measured = measure_int8(tmp_path, ("encoder", "decoder"), [lambda: drawn(0), lambda: drawn(1)], 3)
    assert [loss.quantised for loss in measured.losses] == [("encoder",), ("decoder",), ("encoder", "decoder")]
    same, decoder, both = measured.losses
    assert (same.mean_iou, same.logit_difference, same.iou_difference) == (1, 0, 0)
    assert 0.5 < decoder.mean_iou < 1
    assert 0 < decoder.logit_difference < 0.2 * measured.mean_logit
    assert decoder.mean_iou == both.mean_iou
    assert (measured.num_images, measured.num_prompts) == (2, 18)
    assert set(measured.encoder_ms) == set(measured.prompt_ms) == {"fp32", "int8"}
