"""Calibration against slow, independent computations."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from arcinvert.calibration.features import RANK, medium_layers, pooled
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.backbones import build_backbone
from arcinvert.calibration.auxiliary import BLOCKS, default_auxiliary
from arcinvert.calibration.calibration import (
    Calibration,
    calibrate,
    calibration_for,
    calibration_of,
    kept_calibration,
    save_calibrated,
)
from arcinvert.calibration.regression import RIDGES, fit_regression
from arcinvert.checkpoint import load_checkpoint, save_checkpoint
from arcinvert.errors import CheckpointError, InputError
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.priors import stored_statistics
from arcinvert.preprocessing import Preprocessing
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import identity_folders, load_faces

MAPS = ("channel_mean", "channel_var", "location_mean", "location_var")


# --- the statistics


@pytest.fixture(scope="module")
def three_layers() -> Recognizer:
    """BatchNorm layers at 112, 56 and 28 pixels."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 4, 3, padding=1, stride=2),
        nn.BatchNorm2d(4),
        nn.PReLU(4),
        nn.Conv2d(4, 5, 3, padding=1, stride=2),
        nn.BatchNorm2d(5),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(45, 8),
    )
    return Recognizer(network, Preprocessing(), embedding_size=8)


def activations(recognizer: Recognizer, faces: Tensor) -> dict[str, np.ndarray]:
    """Of the faces and their mirrors, all at once, float64."""
    both = torch.cat([faces, faces.flip(-1)])
    with torch.no_grad():
        found = recognizer.trace(both, taps=recognizer.layers).activations
    return {layer: value.double().numpy() for layer, value in found.items()}


@pytest.mark.parametrize("batch_size", [7, 64])
def test_statistics_are_those_of_the_faces_and_their_mirrors(
    three_layers: Recognizer, small_prior: FacePrior, batch_size: int
) -> None:
    few = replace(small_prior, codes=small_prior.codes[:23])
    found = calibrate(three_layers, few, location_layers=2, batch_size=batch_size)
    shown = activations(three_layers, few.render(few.coefficients()).clamp(0, 1))
    assert set(found.channel_mean) == set(found.channel_var) == {"0", "2", "5"}
    assert set(found.location_mean) == set(found.location_var) == {"0", "2"}
    for layer, x in shown.items():
        np.testing.assert_allclose(found.channel_mean[layer], x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.channel_var[layer], x.var((0, 2, 3)), rtol=1e-3)
    for layer, block in (("0", 4), ("2", 2)):
        x = shown[layer]
        count, channels, side, _ = x.shape
        # All values of a cell of the 28x28 grid, over all images: one population.
        cells = x.reshape(count, channels, side // block, block, side // block, block)
        np.testing.assert_allclose(found.location_mean[layer], cells.mean((0, 3, 5)), rtol=1e-4, atol=1e-5)
        assert found.location_var[layer].shape == (channels, 28, 28)
        np.testing.assert_allclose(found.location_var[layer], cells.var((0, 3, 5)), rtol=1e-2, atol=1e-6)


def test_statistics_are_symmetric_and_the_faces_are_not(three_layers: Recognizer, small_prior: FacePrior) -> None:
    found = calibrate(three_layers, replace(small_prior, codes=small_prior.codes[:12]))
    grid = found.location_mean["0"]
    torch.testing.assert_close(grid, grid.flip(-1), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(grid, grid.flip(-2), atol=0.05)


def test_statistics_of_some_faces_are_spread_over_all(three_layers: Recognizer, small_prior: FacePrior) -> None:
    found = calibrate(three_layers, small_prior, statistics_faces=16)
    shown = activations(three_layers, small_prior.render(small_prior.coefficients(slice(0, 64, 4))).clamp(0, 1))
    np.testing.assert_allclose(found.channel_mean["5"], shown["5"].mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    assert found.faces == 64


def test_the_regression_predicts_the_codes_of_the_priors_own_faces(
    three_layers: Recognizer, small_prior: FacePrior
) -> None:
    found = calibrate(three_layers, small_prior, ridges=(0.5,))
    codes = small_prior.coefficients()
    embeddings = three_layers.embed(small_prior.render(codes).clamp(0, 1))
    whole = Ridge(alpha=0.5).fit(embeddings.double().numpy(), codes.double().numpy())
    np.testing.assert_allclose(found.predict(embeddings), whole.predict(embeddings.double().numpy()), atol=1e-2)
    assert found.prior_digest == small_prior.digest


def test_given_pictures_take_the_place_of_the_priors_faces(three_layers: Recognizer, small_prior: FacePrior) -> None:
    pictures = torch.randint(0, 256, (15, 112, 112, 3), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    told: list[int] = []
    found = calibrate(
        three_layers, small_prior, images=pictures, batch_size=4, progress=lambda done, total, text: told.append(done)
    )
    faces = pictures.permute(0, 3, 1, 2).float() / 255
    shown = activations(three_layers, faces)
    np.testing.assert_allclose(found.channel_mean["0"], shown["0"].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    expected = fit_regression(three_layers.embed(faces), small_prior.encode(faces), ridges=RIDGES)
    torch.testing.assert_close(found.weight, expected[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.residual, expected[2], rtol=1e-3, atol=1e-4)
    assert found.faces == 15
    assert told == [4, 8, 12, 15]
    soft = three_layers.embed(small_prior.decode(small_prior.encode(faces)).clamp(0, 1))
    weight, bias, _ = fit_regression(three_layers.embed(faces), soft, ridges=RIDGES)
    expected_of = normalize(three_layers.embed(faces) @ weight + bias)
    torch.testing.assert_close(found.drawn(three_layers.embed(faces)), expected_of, rtol=1e-2, atol=1e-3)


def test_without_pictures_rendered_faces_tell_how_soft_ones_are_seen(
    three_layers: Recognizer, small_prior: FacePrior
) -> None:
    found = calibrate(three_layers, small_prior)
    codes = small_prior.coefficients()
    sharp, soft = (three_layers.embed(draw(codes).clamp(0, 1)) for draw in (small_prior.render, small_prior.decode))
    weight, bias, _ = fit_regression(sharp, soft, ridges=RIDGES)
    torch.testing.assert_close(found.drawn(sharp), normalize(sharp @ weight + bias), rtol=1e-2, atol=1e-3)
    assert float((found.drawn(sharp) * soft).sum(1).mean()) > float((sharp * soft).sum(1).mean())


def test_a_channel_that_is_flat_somewhere_keeps_a_variance(three_layers: Recognizer, small_prior: FacePrior) -> None:
    pictures = torch.full((12, 112, 112, 3), 128, dtype=torch.uint8)
    pictures[:, 56:] = torch.randint(0, 256, (12, 56, 112, 3), generator=torch.Generator().manual_seed(3))
    found = calibrate(three_layers, small_prior, images=pictures)
    var = found.location_var["0"]
    assert float(var[:, :14].max()) < float(var[:, 14:].min())
    assert float(var.min()) > 0


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_faces(three_layers: Recognizer, small_prior: FacePrior, count: int) -> None:
    with pytest.raises(InputError, match=f"at least 10 faces to calibrate on, got {count}"):
        calibrate(three_layers, small_prior, images=torch.zeros(count, 112, 112, 3, dtype=torch.uint8))


# --- storing


@pytest.fixture(scope="module")
def calibrated(tiny_checkpoint: Path, tiny_calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrated") / "net.safetensors"
    save_calibrated(tiny_checkpoint, out, tiny_calibration)
    return out


def test_a_stored_calibration_comes_back(calibrated: Path, tiny_calibration: Calibration) -> None:
    found = calibration_of(Recognizer.load(calibrated))
    assert found is not None
    torch.testing.assert_close(found.weight, tiny_calibration.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.bias, tiny_calibration.bias)
    torch.testing.assert_close(found.residual, tiny_calibration.residual)
    for name in MAPS:
        mine, stored = getattr(tiny_calibration, name), getattr(found, name)
        assert mine.keys() == stored.keys()
        assert mine
        for layer, value in mine.items():
            # Location maps have 255 levels a channel, of the logarithm for variances.
            rtol, atol = (6e-2, 3e-3) if name.startswith("location") else (3e-3, 1e-3)
            torch.testing.assert_close(stored[layer], value, rtol=rtol, atol=1e-4 + atol * float(value.abs().max()))
    rows = normalize(torch.randn(3, len(found.weight), generator=torch.Generator().manual_seed(0)))
    assert tiny_calibration.features.maps
    for layer, expected in tiny_calibration.features.expected(rows).items():
        scale = tiny_calibration.features.deviation[layer]
        torch.testing.assert_close(found.features.expected(rows)[layer] / scale, expected / scale, rtol=1e-2, atol=2e-2)
    assert (found.faces, found.prior_digest) == (tiny_calibration.faces, tiny_calibration.prior_digest)


def test_the_network_is_untouched_by_storing(calibrated: Path, tiny_checkpoint: Path) -> None:
    before, after = load_checkpoint(tiny_checkpoint), load_checkpoint(calibrated)
    for key, value in before.tensors.items():
        assert torch.equal(after.tensors[key], value)
    assert {**after.header, "calibration": None} == {**before.header, "calibration": None}


def test_a_second_calibration_replaces_the_first(
    calibrated: Path, tiny_calibration: Calibration, tmp_path: Path
) -> None:
    lesser = replace(tiny_calibration, location_mean={}, location_var={}, faces=11)
    save_calibrated(calibrated, tmp_path / "again", lesser)
    found = calibration_of(Recognizer.load(tmp_path / "again"))
    assert found is not None
    assert found.faces == 11
    assert found.location_mean == {}


def test_variances_beyond_half_precision_are_stored(tiny_checkpoint: Path, tiny_calibration: Calibration) -> None:
    wide = replace(tiny_calibration, location_var={"bn1": torch.full((16, 28, 28), 1e8)})
    assert all(bool(torch.isfinite(value).all()) for value in wide.to_tensors().values())


def test_location_maps_are_stored_in_bytes_and_halves_of_before_are_read(calibrated: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(calibrated)
    found = calibration_of(Recognizer.load(calibrated))
    assert found is not None
    assert stored.tensors["calibration.location.var.bn1"].dtype == torch.int8
    assert stored.tensors["calibration.location.mean.bn1"].dtype == torch.int8
    before = {f"calibration.location.mean.{layer}": value.half() for layer, value in found.location_mean.items()}
    before |= {f"calibration.location.var.{layer}": value.sqrt().half() for layer, value in found.location_var.items()}
    save_checkpoint(tmp_path / "before", stored.header, stored.tensors | before)
    again = calibration_of(Recognizer.load(tmp_path / "before"))
    assert again is not None
    for layer, value in found.location_var.items():
        torch.testing.assert_close(again.location_var[layer], value, rtol=3e-3, atol=1e-6)
    without = {key: value for key, value in stored.tensors.items() if not key.startswith("calibration.span.")}
    save_checkpoint(tmp_path / "without", stored.header, without)
    with pytest.raises(CheckpointError, match=r"lacks 'span\.location\.mean"):
        calibration_of(Recognizer.load(tmp_path / "without"))
    short = stored.tensors | {"calibration.span.location.mean.bn1": torch.ones(3, 2)}
    save_checkpoint(tmp_path / "short", stored.header, short)
    with pytest.raises(CheckpointError, match="lacks the span of each channel"):
        calibration_of(Recognizer.load(tmp_path / "short"))


def test_no_calibration_is_none(tiny_recognizer: Recognizer) -> None:
    assert calibration_of(tiny_recognizer) is None


@pytest.mark.parametrize("missing", ["regression.weight", "regression.bias", "regression.residual"])
def test_an_incomplete_calibration_is_refused(calibrated: Path, tmp_path: Path, missing: str) -> None:
    stored = load_checkpoint(calibrated)
    tensors = {key: value for key, value in stored.tensors.items() if key != f"calibration.{missing}"}
    save_checkpoint(tmp_path / "c", stored.header, tensors)
    with pytest.raises(CheckpointError, match=missing):
        calibration_of(Recognizer.load(tmp_path / "c"))


def test_a_calibration_for_another_auxiliary_recognizer_is_none(calibrated: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(calibrated)
    assert stored.header["calibration"]["auxiliary"] == default_auxiliary().digest
    before = {k: v for k, v in stored.tensors.items() if not k.startswith("calibration.auxiliary.expected.")}
    another = {**stored.header, "calibration": {**stored.header["calibration"], "auxiliary": "0" * 64}}
    for header, tensors in ((stored.header, before), (another, stored.tensors)):
        save_checkpoint(tmp_path / "c", header, tensors)
        assert calibration_of(Recognizer.load(tmp_path / "c")) is None


def test_what_the_auxiliary_recognizer_sees_is_the_regression_on_all_faces(
    tiny_recognizer: Recognizer, tiny_faces: Path, small_prior: FacePrior
) -> None:
    pictures = load_faces(tiny_faces, identity_folders(tiny_faces)).images
    made = calibrate(tiny_recognizer, small_prior, images=pictures, ridges=(0.1,), batch_size=5)
    faces = pictures.permute(0, 3, 1, 2)
    x, y = tiny_recognizer.embed(faces), default_auxiliary().embed(faces)
    reference = Ridge(alpha=0.1).fit(x.double().numpy(), y.double().numpy()).predict(x.double().numpy())
    expected = normalize(torch.from_numpy(reference).float())
    torch.testing.assert_close(made.auxiliary(x), expected, atol=1e-3, rtol=1e-3)


def test_what_is_expected_inside_the_auxiliary_recognizer_is_nearer_than_its_mean(
    tiny_recognizer: Recognizer, small_prior: FacePrior, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    made = calibrate(tiny_recognizer, small_prior)
    faces = small_prior.render(small_prior.coefficients(slice(0, 20))).clamp(0, 1)
    seen = default_auxiliary().trace(faces, taps=BLOCKS).activations
    rows = tiny_recognizer.embed(faces)
    save_calibrated(tiny_checkpoint, tmp_path / "c", made)
    stored = calibration_of(Recognizer.load(tmp_path / "c"))
    assert stored is not None
    for calibration in (made, stored):
        foretold = calibration.auxiliary_features.expected(rows)
        assert tuple(foretold) == BLOCKS
        for layer in BLOCKS:
            there = pooled(seen[layer])
            apart = (there - foretold[layer]).square().mean()
            assert float(apart) < 0.9 * float((there - there.mean(0)).square().mean())


@pytest.mark.parametrize("header", [{}, {"faces": 3}, {"prior": "x"}, {"prior": "x", "faces": "many"}, None])
def test_a_calibration_without_its_header_is_refused(calibrated: Path, tmp_path: Path, header: object) -> None:
    stored = load_checkpoint(calibrated)
    save_checkpoint(tmp_path / "c", {**stored.header, "calibration": header}, stored.tensors)
    with pytest.raises(CheckpointError, match="calibration"):
        calibration_of(Recognizer.load(tmp_path / "c"))


def test_a_calibration_beside_a_checkpoint_goes_first(
    calibrated: Path, tiny_calibration: Calibration, tmp_path: Path
) -> None:
    net = tmp_path / "net.safetensors"
    net.write_bytes(calibrated.read_bytes())
    lesser = replace(tiny_calibration, faces=11)
    save_calibrated(net, tmp_path / "net.calibration.safetensors", lesser)
    assert not any(
        key.startswith("network.") for key in load_checkpoint(tmp_path / "net.calibration.safetensors").tensors
    )
    recognizer = Recognizer.load(net)
    found = calibration_of(recognizer)
    assert found is not None
    assert found.faces == 11
    assert recognizer.digest == Recognizer.load(calibrated).digest  # it is the same network still


def test_a_calibration_beside_another_checkpoint_is_refused(
    calibrated: Path, tiny_checkpoint: Path, tiny_calibration: Calibration, tmp_path: Path
) -> None:
    (tmp_path / "net.safetensors").write_bytes(tiny_checkpoint.read_bytes())
    for wrong in (calibrated, tiny_checkpoint):  # another network's, and no calibration
        beside = tmp_path / "net.calibration.safetensors"
        if wrong == calibrated:
            save_calibrated(calibrated, beside, tiny_calibration)
        else:
            beside.write_bytes(tiny_checkpoint.read_bytes())
        with pytest.raises(CheckpointError, match="no calibration of the checkpoint beside it"):
            Recognizer.load(tmp_path / "net.safetensors")


def test_what_is_expected_of_maps_is_the_regression_on_all_faces(
    tiny_recognizer: Recognizer, tiny_faces: Path, small_prior: FacePrior
) -> None:
    pictures = load_faces(tiny_faces, identity_folders(tiny_faces)).images
    made = calibrate(tiny_recognizer, small_prior, images=pictures, ridges=(0.1,), batch_size=5)
    layers = medium_layers(tiny_recognizer)
    trace = tiny_recognizer.trace(pictures.permute(0, 3, 1, 2).float() / 255, taps=layers)
    x = trace.embedding.double().numpy()
    shown = made.features.expected(trace.embedding)
    unit = np.concatenate([made.features.deviation[layer].flatten().numpy() for layer in layers])
    y = np.concatenate([pooled(trace.activations[layer]).flatten(1).double().numpy() for layer in layers], 1)
    reference = Ridge(alpha=0.1).fit(x, y).predict(x) / unit
    mean = reference.mean(0)
    left, weight, right = np.linalg.svd(reference - mean, full_matrices=False)
    kept = min(RANK, x.shape[1])  # the directions that say most
    found = np.concatenate([shown[layer].flatten(1).numpy() for layer in layers], 1) / unit
    np.testing.assert_allclose(found, mean + left[:, :kept] * weight[:kept] @ right[:kept], atol=2e-2)


def test_what_pictures_taught_comes_back(
    tiny_recognizer: Recognizer, tiny_checkpoint: Path, tiny_faces: Path, small_prior: FacePrior, tmp_path: Path
) -> None:
    pictures = load_faces(tiny_faces, identity_folders(tiny_faces)).images
    made = calibrate(tiny_recognizer, small_prior, images=pictures)
    save_calibrated(tiny_checkpoint, tmp_path / "c", made)
    found = calibration_of(Recognizer.load(tmp_path / "c"))
    assert found is not None
    rows = tiny_recognizer.embed(torch.rand(2, 3, 112, 112))
    torch.testing.assert_close(found.drawn(rows), made.drawn(rows), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(found.auxiliary(rows), made.auxiliary(rows), rtol=1e-2, atol=1e-3)
    assert not torch.allclose(found.drawn(rows), rows, atol=1e-3)
    stored = load_checkpoint(tmp_path / "c")
    for tensors in (
        stored.tensors | {"calibration.drawn.weight": torch.zeros(16, 8)},
        stored.tensors | {"calibration.auxiliary.weight": torch.zeros(16, 8)},
        {key: value for key, value in stored.tensors.items() if key != "calibration.drawn.bias"},
    ):
        save_checkpoint(tmp_path / "d", stored.header, tensors)
        with pytest.raises(CheckpointError, match="calibration"):
            calibration_of(Recognizer.load(tmp_path / "d"))


@pytest.mark.parametrize(
    ("part", "shape"), [("weight", (8, 32)), ("weight", (32, 16)), ("bias", (31,)), ("residual", (32, 1))]
)
def test_parts_that_do_not_fit_are_refused(calibrated: Path, tmp_path: Path, part: str, shape: tuple[int, ...]) -> None:
    stored = load_checkpoint(calibrated)
    save_checkpoint(
        tmp_path / "c", stored.header, stored.tensors | {f"calibration.regression.{part}": torch.zeros(shape)}
    )
    with pytest.raises(CheckpointError, match="do not fit"):
        calibration_of(Recognizer.load(tmp_path / "c"))


def test_a_calibration_of_another_network_is_refused(calibrated: Path, tmp_path: Path) -> None:
    stored = load_checkpoint(calibrated)
    for kind in ("channel.mean.bn77", "location.mean.bn77"):
        save_checkpoint(tmp_path / "c", stored.header, stored.tensors | {f"calibration.{kind}": torch.zeros(3, 4, 4)})
        with pytest.raises(CheckpointError, match="another network: it names bn77"):
            calibration_of(Recognizer.load(tmp_path / "c"))
    lacking = {key: value for key, value in stored.tensors.items() if key != "calibration.location.var.bn1"}
    save_checkpoint(tmp_path / "c", stored.header, lacking)
    with pytest.raises(CheckpointError, match="other layers"):
        calibration_of(Recognizer.load(tmp_path / "c"))


# --- the user's cache


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibrations"


def test_a_new_network_is_calibrated_and_kept(
    cached: Path, tiny_recognizer: Recognizer, small_prior: FacePrior, tiny_calibration: Calibration
) -> None:
    said: list[str] = []
    first = calibration_for(tiny_recognizer, small_prior, say=said.append)
    assert len(said) == 1
    assert "64 synthetic faces" in said[0]
    torch.testing.assert_close(first.weight, tiny_calibration.weight, atol=1e-2, rtol=1e-3)
    again = calibration_for(tiny_recognizer, small_prior, say=said.append)
    assert len(said) == 1
    assert torch.equal(again.weight, first.weight)
    assert torch.equal(again.location_var["bn1"], first.location_var["bn1"])
    assert len(list(cached.iterdir())) == 1


def test_what_the_checkpoint_carries_comes_first(cached: Path, calibrated: Path, small_prior: FacePrior) -> None:
    recognizer = Recognizer.load(calibrated)
    found = calibration_for(recognizer, small_prior, say=lambda line: pytest.fail(line))
    assert found.faces == 64
    assert not cached.exists()


def test_another_prior_is_another_calibration(
    cached: Path, tiny_recognizer: Recognizer, small_prior: FacePrior
) -> None:
    calibration_for(tiny_recognizer, small_prior)
    assert kept_calibration(tiny_recognizer, replace(small_prior, digest="other")) is None


def test_a_damaged_one_is_made_anew(cached: Path, tiny_recognizer: Recognizer, small_prior: FacePrior) -> None:
    calibration_for(tiny_recognizer, small_prior)
    file = next(cached.iterdir())
    file.write_bytes(file.read_bytes()[:1000])
    assert kept_calibration(tiny_recognizer, small_prior) is None
    calibration_for(tiny_recognizer, small_prior)
    assert kept_calibration(tiny_recognizer, small_prior) is not None


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, tiny_recognizer: Recognizer, small_prior: FacePrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path / "file"))
    said: list[str] = []
    assert calibration_for(tiny_recognizer, small_prior, say=said.append).faces == 64
    assert "not kept" in said[-1]


# --- a folded network


def test_calibration_gives_back_what_folding_took(small_prior: FacePrior) -> None:
    torch.manual_seed(3)
    network = build_backbone("iresnet18", width=0.25, embedding_size=8, folded=True)
    recognizer = Recognizer(network, Preprocessing(), embedding_size=8)
    assert len(recognizer.folded) == 30 - 9
    assert recognizer.statistics("layer1.0.bn2") is None
    assert set(stored_statistics(recognizer)).isdisjoint(recognizer.folded)
    found = calibrate(recognizer, small_prior)
    statistics = stored_statistics(recognizer, found)
    assert set(statistics) == set(recognizer.layers)
    faces = small_prior.render(small_prior.coefficients()).clamp(0, 1)
    seen = recognizer.trace(torch.cat([faces, faces.flip(-1)]), taps=["layer1.0.bn2"]).activations["layer1.0.bn2"]
    torch.testing.assert_close(statistics["layer1.0.bn2"].mean, seen.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(statistics["layer1.0.bn2"].var, seen.var((0, 2, 3)), atol=1e-3, rtol=1e-2)
