"""Any encoder: what a name means, what each kind gives, and settings that belong to another kind."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_runs import DrawnFolder

from densessl.commands.encoder import EncoderSettings, encoder_kind, open_encoder
from densessl.data.image_folder import open_image_folder
from densessl.errors import InputError, MissingInputError
from densessl.evaluation.feature_store import open_feature_store
from densessl.evaluation.feature_writing import store_features
from densessl.evaluation.framing import Framing
from densessl.files import file_sha256
from densessl.training.run_folder import load_run_model

CPU = torch.device("cpu")


def colours(images: torch.Tensor) -> torch.Tensor:
    """The encoder of these tests: 8 x 8 cells of colour."""
    return torch.nn.functional.avg_pool2d(images, 8)


def test_what_a_name_means(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resnet18").mkdir()  # a folder that is no run does not hide the network of that name
    (tmp_path / "weights.pth").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    kinds = {
        str(trained): "run",
        "resnet18": "timm",
        "vit_small_patch16_224.dino": "timm",
        "net.pt": "torchscript",
        "a/net.ts": "torchscript",
        "a/net.pt2": "export",
        "module:function": "callable",
    }
    assert {name: encoder_kind(name) for name in kinds} == kinds
    assert encoder_kind(colours) == "callable"
    with pytest.raises(MissingInputError, match=r"no encoder a/b; expected a timm name, a run folder, a TorchScript"):
        encoder_kind("a/b")
    with pytest.raises(InputError, match=r"'resnet19' is not a timm model name; .*; other encoders are a run folder"):
        encoder_kind("resnet19")
    with pytest.raises(InputError, match=r"weights.pth is a file that is neither .*; a file of weights is given as"):
        encoder_kind("weights.pth")
    with pytest.raises(InputError, match=r"no encoder is given; give a timm name"):
        encoder_kind("")


def test_a_run(trained: Path) -> None:
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for weights in ("final", "initial"):
        opened = open_encoder(EncoderSettings(str(trained), weights, precision="fp32"), CPU)  # type: ignore[arg-type]
        model, _ = load_run_model(trained, weights)
        with torch.no_grad():
            assert torch.allclose(opened.encode(images).features, model(images).embedding, atol=1e-5)
        assert opened.has_saliency
        assert opened.fingerprint == file_sha256(trained / f"{weights}.safetensors")
        assert opened.description == f"run run, {weights} weights, embedding"
        assert opened.supervision.startswith("first weights: none (random weights); masks in training: made elsewhere")


def test_a_callable(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{colours.__module__}:colours"
    monkeypatch.setitem(sys.modules, colours.__module__, sys.modules[colours.__module__])
    images = torch.randn(2, 3, 16, 24)
    by_name, itself = (open_encoder(EncoderSettings(encoder), CPU) for encoder in (name, colours))
    assert torch.equal(by_name.encode(images).features, colours(images))
    assert torch.equal(itself.encode(images).features, colours(images))
    assert by_name.fingerprint == itself.fingerprint is not None
    assert not itself.has_saliency


def test_files_of_programs(tmp_path: Path) -> None:
    network = torch.nn.Conv2d(3, 4, 8, 8).eval()
    images = torch.randn(2, 3, 16, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network, images), tmp_path / "net.pt")
    torch.export.save(torch.export.export(network, (images,)), tmp_path / "net.pt2")
    for name in ("net.pt", "net.pt2"):
        with pytest.raises(InputError, match=r"which is a program: .*trust_file true"):
            open_encoder(EncoderSettings(str(tmp_path / name)), CPU)
        opened = open_encoder(EncoderSettings(str(tmp_path / name), trust_file=True), CPU)
        with torch.no_grad():
            assert torch.allclose(opened.encode(images).features, network(images), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"encoder": "resnet18", "weights": "initial"},
            "weights initial are those of a run, but encoder resnet18",
        ),
        ({"encoder": "resnet18", "features": "decoder"}, "features decoder are those of a run, but encoder resnet18"),
        ({"encoder": "net.pt", "weights": Path("w.pth")}, "weights belongs to timm names, but encoder net.pt is none"),
        ({"encoder": "a:b", "pretrained": True}, "pretrained belongs to timm names, but encoder a:b is none"),
        ({"encoder": colours, "normalisation": "timm"}, "normalisation belongs to timm names, but encoder a Python"),
        ({"encoder": colours, "output_stride": 16}, "output_stride belongs to timm names, but encoder a Python"),
    ],
)
def test_settings_of_another_kind(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_encoder(EncoderSettings(**settings), CPU)


def test_a_file_of_weights_is_not_for_a_run(trained: Path) -> None:
    with pytest.raises(InputError, match=r"weights w.pth is given, but .*run is a run: it has final and initial"):
        open_encoder(EncoderSettings(str(trained), Path("w.pth")), CPU)


def test_a_file_of_weights_may_be_text(tmp_path: Path) -> None:
    text = str(tmp_path / "none.safetensors")
    assert EncoderSettings("resnet18", text).weights == Path(text)  # type: ignore[arg-type]
    assert EncoderSettings("resnet18", "initial").weights == "initial"
    with pytest.raises(MissingInputError, match=r"none\.safetensors"):
        open_encoder(EncoderSettings("resnet18", text), torch.device("cpu"))  # type: ignore[arg-type]


def test_precision_is_part_of_what_a_store_holds(drawn: DrawnFolder, tmp_path: Path) -> None:
    refs = open_image_folder(drawn.images).images[:3]
    one, other = (
        open_encoder(EncoderSettings("test_resnet", precision=precision), CPU)  # type: ignore[arg-type]
        for precision in ("fp32", "bf16")
    )
    assert (one.precision, other.precision) == ("fp32", "bf16")
    store = store_features(tmp_path / "store", refs, one, Framing((32, 32)))
    assert store.grid == (4, 4)
    with pytest.raises(InputError, match=r"precision: 'fp32' there, 'bf16' now"):
        store_features(tmp_path / "store", refs, other, Framing((32, 32)))


def test_auto_precision_is_for_networks_that_are_built_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densessl.models.precision.has_fast_bf16_cpu", lambda: True)
    assert open_encoder(EncoderSettings("test_resnet"), CPU).precision == "bf16"
    assert open_encoder(EncoderSettings(colours), CPU).precision == "fp32"
    assert open_encoder(EncoderSettings(colours, precision="bf16"), CPU).precision == "bf16"


def test_an_output_of_a_wrong_shape_is_refused_by_the_store(drawn: DrawnFolder, tmp_path: Path) -> None:
    refs = open_image_folder(drawn.images).images[:3]
    functions: list[tuple[Callable[[torch.Tensor], torch.Tensor], str]] = [
        (lambda images: images.mean((2, 3)), r"returns shape \(3, 3\) of torch.float32; an encoder maps images"),
        (lambda images: images[:2], r"returns 2 maps for 3 images"),
    ]
    for function, message in functions:
        with pytest.raises(InputError, match=message):
            store_features(tmp_path / "s", refs, open_encoder(EncoderSettings(function), CPU), Framing((32, 32)))
    broken = open_encoder(EncoderSettings(_broken), CPU)
    with pytest.raises(InputError, match=r"features of image '1' hold NaN"):
        store_features(tmp_path / "s", refs, broken, Framing((32, 32)))
    assert open_feature_store(tmp_path / "s").stems == ("0",)


def _broken(images: torch.Tensor) -> torch.Tensor:
    features = images.clone()
    features[1] = torch.nan
    return features
