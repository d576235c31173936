"""The SCRFD detector, on files whose right answer is known."""

import importlib.abc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from detectors import BOX, POINTS, built
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from arcinvert.cli import run
from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.faces.alignment import TEMPLATE, RetinaFace, align
from arcinvert.faces.choice import align_photo
from arcinvert.faces.photos import open_detector
from arcinvert.faces.scrfd import SCRFD


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``det``: any size, no batch axis, as det_10g; ``batched``: 320x320, as scrfd_320_batched. Do not write."""
    folder = tmp_path_factory.mktemp("scrfd")
    return {
        "det": saved(built(), folder / "det.onnx"),
        "batched": saved(built(320, batched=True), folder / "batched.onnx"),
    }


def squares(width: int, height: int, *marks: tuple[int, int, int, tuple[int, int, int]]) -> np.ndarray:
    """A black (height, width, 3) picture with squares (x, y, side, color)."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, side, color in marks:
        image[y : y + side, x : x + side] = color
    return image


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


# --- known answers


# The picture, by how much it shrinks in the view, and an anchor of stride 8 in the view.
@pytest.mark.parametrize(
    ("kind", "width", "height", "shrink", "anchor"),
    [
        ("det", 640, 640, 1, (40, 24)),
        ("det", 960, 1920, 3, (304, 632)),
        ("det", 320, 200, 0.5, (624, 384)),
        ("batched", 960, 480, 3, (160, 80)),
        ("batched", 1280, 37, 4, (8, 0)),
    ],
)
def test_finds_the_known_box_and_points(
    files: dict[str, Path], kind: str, width: int, height: int, shrink: float, anchor: tuple[int, int]
) -> None:
    image = squares(width, height, (int(anchor[0] * shrink), int(anchor[1] * shrink), int(8 * shrink), RED))
    faces = SCRFD(files[kind]).detect(image)
    assert len(faces) == 1  # of two anchors with the same face
    place = np.array(anchor) * shrink
    np.testing.assert_allclose(faces[0].landmarks, place + POINTS * 8 * shrink, atol=1e-3)
    corners = [*(place - BOX[:2] * 8 * shrink), *(place + BOX[2:] * 8 * shrink)]
    np.testing.assert_allclose(faces[0].box, corners, atol=1e-3)
    assert faces[0].landmarks.dtype == np.float64
    assert 0.85 < faces[0].score < 1


@pytest.mark.parametrize("batched", [False, True])
def test_a_fixed_batch(batched: bool, tmp_path: Path) -> None:
    """As ``scrfd_320_batched_64``: the photo is the first image of the batch."""
    model = fixed(built(320, batched=batched), [4, 3, 320, 320])
    for weight in model.graph.initializer if batched else ():
        if weight.name.endswith("s"):
            sizes = numpy_helper.to_array(weight).copy()
            sizes[0] = 4
            weight.CopyFrom(numpy_helper.from_array(sizes, weight.name))
    faces = SCRFD(saved(model, tmp_path / "four.onnx")).detect(squares(320, 320, (160, 80, 8, RED)))
    assert len(faces) == 1
    np.testing.assert_allclose(faces[0].landmarks, np.array([160, 80]) + POINTS * 8, atol=1e-3)


@pytest.mark.parametrize("kind", ["det", "batched"])
def test_every_level_and_color_has_its_place_and_the_largest_comes_first(files: dict[str, Path], kind: str) -> None:
    side = 640 if kind == "det" else 320
    image = squares(side, side, (8, 8, 8, RED), (160, 160, 32, BLUE), (288, 48, 16, GREEN))
    faces = SCRFD(files[kind]).detect(image)
    expected = [(32, (160, 160)), (16, (288, 48)), (8, (8, 8))]
    assert len(faces) == 3
    for face, (stride, anchor) in zip(faces, expected, strict=True):
        np.testing.assert_allclose(face.landmarks, anchor + POINTS * stride, atol=1e-3)
        assert face.area == pytest.approx(80 * stride**2, rel=1e-4)


def test_scores_are_the_networks_and_the_threshold_counts(files: dict[str, Path]) -> None:
    image = squares(640, 640, (80, 80, 8, RED), (400, 400, 8, (153, 0, 0)))
    mean = (((image[..., 0].astype(float)) - 127.5) / 128).mean()
    scores = [0.5 * ((value - 127.5) / 128 - mean) for value in (255, 153)]
    assert scores[1] == pytest.approx(0.6, abs=0.01)
    found = SCRFD(files["det"], threshold=0.59).detect(image)
    assert sorted(face.score for face in found) == pytest.approx(sorted(scores), abs=1e-4)
    found = SCRFD(files["det"], threshold=0.61).detect(image)
    assert [face.score for face in found] == pytest.approx(scores[:1], abs=1e-4)
    assert found[0].landmarks[2, 0] < 200


def test_overlapping_faces_are_one_and_neighbors_are_two(files: dict[str, Path]) -> None:
    near = squares(640, 640, (80, 80, 8, RED), (88, 80, 8, (230, 0, 0)))  # boxes overlap by 7 / 9
    faces = SCRFD(files["det"]).detect(near)
    assert len(faces) == 1
    np.testing.assert_allclose(faces[0].landmarks, [80, 80] + POINTS * 8, atol=1e-3)
    apart = squares(640, 640, (80, 80, 8, RED), (128, 80, 8, (230, 0, 0)))  # by 2 / 14
    assert len(SCRFD(files["det"]).detect(apart)) == 2


@pytest.mark.parametrize(("kind", "side"), [("det", 640), ("batched", 320)])
def test_a_face_that_fills_the_image_is_found_in_the_second_view(files: dict[str, Path], kind: str, side: int) -> None:
    fifth = side // 5
    # Of the picture a fifth as large, one square of 32 pixels is brighter than the rest.
    image = np.full((fifth, fifth, 3), (0, 0, 190), np.uint8)
    image[32:64, 32:64] = BLUE
    image = image.repeat(10, axis=0).repeat(10, axis=1)
    assert SCRFD(files[kind], 0.9, shares=(1.0,)).detect(image) == []
    (face,) = SCRFD(files[kind], 0.9).detect(image)
    np.testing.assert_allclose(face.landmarks, (32 + POINTS * 32) * 10, atol=0.01)


def test_agrees_with_the_library_on_the_whole_image(files: dict[str, Path]) -> None:
    from insightface.model_zoo.scrfd import SCRFD as Library  # noqa: N811

    rng = np.random.default_rng(3)
    image = squares(1280, 720, *((16 * x, 16 * y, 16, RED) for x, y in rng.integers(0, 45, (12, 2))))
    library = Library(str(files["det"]))
    boxes, points = library.detect(image[..., ::-1], input_size=(640, 640))
    assert len(boxes) > 5
    faces = sorted(SCRFD(files["det"]).detect(image), key=lambda face: (*face.box,))
    order = sorted(range(len(boxes)), key=lambda i: (*boxes[i, :4].tolist(),))
    np.testing.assert_allclose([face.box for face in faces], boxes[order, :4], atol=1e-3)
    np.testing.assert_allclose([face.landmarks for face in faces], points[order], atol=1e-3)


def test_a_rectangular_view_is_used_whole(tmp_path: Path) -> None:
    # 352 / 480 * 480 is a little less than 352 in floating point.
    file = saved(built(480, height=352, batched=True), tmp_path / "wide.onnx")
    (face,) = SCRFD(file).detect(squares(960, 704, (928, 688, 16, RED)))
    np.testing.assert_allclose(face.landmarks, [928, 688] + POINTS * 16, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 700, 3), (700, 3, 3)])
def test_images_of_odd_shape_have_no_face(files: dict[str, Path], shape: tuple[int, int, int]) -> None:
    assert SCRFD(files["det"]).detect(np.full(shape, 90, np.uint8)) == []


@pytest.mark.parametrize("value", [3e38, np.inf, np.nan])
def test_a_box_that_is_not_finite_is_refused_in_one_line(value: float, tmp_path: Path) -> None:
    model = built(64)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "points16b")
    bias.CopyFrom(numpy_helper.from_array(np.full(20, value, np.float32), bias.name))
    detector = SCRFD(saved(model, tmp_path / "det.onnx"))
    assert detector.detect(squares(64, 64)) == []
    with pytest.raises(InputError, match=r"finite size, the SCRFD '.*det.onnx' finds others"):
        detector.detect(squares(64, 64, (16, 16, 16, GREEN)))


def test_refuses_an_array_that_is_no_image(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="uint8"):
        SCRFD(files["det"]).detect(np.zeros((9, 9, 3)))


def test_the_same_alignment_lies_behind_it(files: dict[str, Path], tmp_path: Path) -> None:
    image = squares(640, 640, (320, 320, 32, BLUE), (64, 64, 8, RED))
    Image.fromarray(image).save(tmp_path / "two.png")
    crop, count = align_photo(tmp_path / "two.png", open_detector(str(files["det"])))
    assert count == 2
    assert crop is not None
    np.testing.assert_array_equal(crop, align(image, 320 + POINTS * 32))
    assert isinstance(open_detector(), RetinaFace)
    assert open_detector(str(files["det"])) == SCRFD(files["det"])
    assert "_model" not in repr(SCRFD(files["det"]))


# --- files that are refused


def node(model: onnx.ModelProto, **changed: object) -> onnx.ModelProto:
    """With another operator in the place of the last."""
    model.graph.node[-1].op_type = str(changed["op_type"])
    return model


def fixed(model: onnx.ModelProto, shape: list[int]) -> onnx.ModelProto:
    """With an input of another shape."""
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, shape))
    return model


def stumbling(model: onnx.ModelProto) -> onnx.ModelProto:
    """With a constant that makes it fail as it runs, not before."""
    (shape,) = (weight for weight in model.graph.initializer if weight.name == "points32s")
    shape.CopyFrom(numpy_helper.from_array(np.array([7, 10]), shape.name))
    return model


def without_outputs(model: onnx.ModelProto, kept: int) -> onnx.ModelProto:
    del model.graph.output[kept:]
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: built(points=False),
            "expected the 9 outputs of an SCRFD with five points, got 6, of one without points, in ",
        ),
        (lambda: without_outputs(built(), 1), "five points, got 1 in "),
        (
            lambda: built(wrong={"points": 8}),
            r"expected output 7 of an SCRFD to be \(12800, 10\), got \(12800, 8\) in ",
        ),
        (
            lambda: built(320, batched=True, wrong={"score": 2}),
            r"expected output 1 of an SCRFD to be \(1, 3200, 1\), got \(1, 3200, 2\) in ",
        ),
        (lambda: fixed(built(), [1, 3, 320, 8192]), "expected an input of at most 4096x4096, got 8192x320 in "),
        (lambda: fixed(built(), [1, 3, 8192, 320]), "expected an input of at most 4096x4096, got 320x8192 in "),
        (lambda: fixed(built(320, batched=True), [4, 3, 320, 320]), r"to be \(1, 3200, 1\), got \(1, 12800, 1\) in "),
        (lambda: fixed(built(), [65, 3, 320, 320]), "expected an SCRFD that runs, got one that does not in "),
        (
            lambda: fixed(built(), [1, 1, 320, 320]),
            "expected an SCRFD that runs, got one that does not in .*dimensions",
        ),
        (lambda: node(built(), op_type="Unheard"), "expected an SCRFD that runs, got one that does not in .*Unheard"),
        (lambda: stumbling(built()), "expected an SCRFD that runs, got one that does not in .*reshape"),
        (onnx.ModelProto, "expected an SCRFD that runs, got one that does not in .*No graph"),
    ],
)
def test_networks_of_another_kind_are_refused(
    model: Callable[[], onnx.ModelProto], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_detector(str(saved(model(), tmp_path / "odd\n.onnx")))
    assert "\n" not in str(caught.value)
    assert r"odd\n.onnx" in str(caught.value)
    assert capfd.readouterr() == ("", "")  # onnxruntime logs nothing of its own


@pytest.mark.parametrize(("name", "damaged"), [(b"score8", b"sc\xffre8"), (b"AveragePool", b"Average\xffool")])
def test_a_name_that_is_no_text_is_refused(
    name: bytes, damaged: bytes, files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.onnx").write_bytes(files["det"].read_bytes().replace(name, damaged))
    with pytest.raises(InputError, match=r"does not in .*utf-8"):
        SCRFD(tmp_path / "x.onnx")
    assert capfd.readouterr() == ("", "")


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    model = built()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    with pytest.raises(InputError, match=r"expected one image as input of an SCRFD, got \[\[1, 3, "):
        SCRFD(saved(model, tmp_path / "two.onnx"))


def test_what_is_not_onnx_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    whole = files["det"].read_bytes()
    path = tmp_path / "x.onnx"
    for content in (b"not a network", whole[: len(whole) // 2], whole[:-1], b"\x89PNG\r\n\x1a\n", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"expected an ONNX file, got something else or a part of one in .*x\.onnx"
        ):
            SCRFD(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="does not"):
        SCRFD(path)


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path) -> None:
    for name in ("retinaFace", str(tmp_path), str(tmp_path / "none.onnx"), ""):
        with pytest.raises(InputError, match="expected retinaface or the ONNX file of an SCRFD as detector"):
            open_detector(name)
    with open(tmp_path / "large.onnx", "wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(InputError, match="at most 268,435,456 bytes, got 268,435,457"):
        SCRFD(tmp_path / "large.onnx")


@pytest.mark.parametrize("where", ["graph", "attribute", "subgraph", "function"])
def test_data_in_other_files_is_never_read(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built()
    outside = numpy_helper.from_array(np.zeros(4, np.float32), "outside")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "../secret", "offset": "0", "length": "16"}.items():
        outside.external_data.add(key=key, value=value)
    constant = helper.make_node("Constant", [], ["loose"], value=outside)
    if where == "graph":
        model.graph.initializer.append(outside)
    elif where == "attribute":
        model.graph.node.append(constant)
    elif where == "subgraph":
        body = helper.make_graph([constant], "body", [], [helper.make_empty_tensor_value_info("loose")])
        model.graph.node.append(helper.make_node("If", ["image"], ["either"], then_branch=body, else_branch=body))
    else:
        opsets = [helper.make_opsetid("", 13)]
        model.functions.append(helper.make_function("own", "Constant2", [], ["loose"], [constant], opsets))
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    file = saved(model, tmp_path / "inner" / "det.onnx")
    opened: list[str] = []
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_: opened.append("session"))
    with pytest.raises(InputError, match="complete in itself, got one with data in other files"):
        SCRFD(file)
    assert not opened


# --- the extra


class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory\nsecond line")


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("insightface", "cv2")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("forgotten")
def test_the_error_for_a_missing_extra_names_the_fix(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "insightface", None)
        with pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[scrfd\]'"):
            SCRFD(files["det"])
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(EnvironmentProblem, match=r"libGL\.so\.1.*opencv-python-headless") as caught:
        SCRFD(files["det"])
    assert "\n" not in str(caught.value)


def test_importing_needs_no_extra() -> None:
    modules = "arcinvert.faces.scrfd, arcinvert.faces.photos"
    code = f"import sys, {modules}; print({{'cv2', 'insightface', 'onnx'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_nothing_is_downloaded(files: dict[str, Path]) -> None:
    code = f"""
import socket
def refuse(*arguments, **settings):
    raise SystemExit("reached for the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
from arcinvert.faces.photos import open_detector
print(open_detector({str(files["det"])!r}).detect(np.zeros((50, 70, 3), np.uint8)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("[]", "", 0)


# --- the command line


def embed(checkpoint: Path, out: Path, *arguments: object) -> int:
    return run(["embed", *map(str, arguments), "-o", str(out), "--checkpoint", str(checkpoint)])


@pytest.mark.usefixtures("as_found")
def test_embed_with_a_file_as_detector(
    files: dict[str, Path], tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces, empty = tmp_path / "faces.png", tmp_path / "empty.png"
    image = squares(1280, 960, (640, 320, 64, BLUE), (64, 64, 16, RED))
    image[700:, :, 1] = np.arange(1280) % 90
    Image.fromarray(image).save(faces)
    Image.new("RGB", (300, 200)).save(empty)
    out = tmp_path / "e.npy"
    assert embed(tiny_checkpoint, out, "--detector", files["det"], faces, empty) == 4
    shown = capsys.readouterr()
    assert shown.out == f"1 embeddings in {out}\n"
    assert "faces.png' shows 2 faces; the largest is taken" in shown.err
    assert "empty.png': no face found" in shown.err
    # The same as from the crop that the known points give.
    Image.fromarray(align(image, [640, 320] + POINTS * 64)).save(tmp_path / "crop.png")
    assert embed(tiny_checkpoint, tmp_path / "c.npy", "--aligned", tmp_path / "crop.png") == 0
    np.testing.assert_allclose(np.load(out), np.load(tmp_path / "c.npy"), atol=1e-6)


@pytest.mark.usefixtures("as_found", "forgotten")
def test_exit_codes_of_embed(
    files: dict[str, Path],
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo, out = tmp_path / "a.png", tmp_path / "e.npy"
    Image.new("RGB", (112, 112)).save(photo)
    (tmp_path / "bad.onnx").write_text("no network")
    monkeypatch.setitem(sys.modules, "insightface", None)
    cases = [
        (3, ["--detector", "scrfd"], "found no file at 'scrfd'"),
        (5, ["--detector", files["det"]], "pip install 'arcinvert[scrfd]'"),
        (2, ["--detector", files["det"], "--aligned"], "expected --aligned or --detector, got both"),
        (0, ["--detector", "retinaface", "--aligned"], ""),
    ]
    for code, arguments, message in cases:
        assert embed(tiny_checkpoint, out, photo, *arguments) == code
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("arcinvert: ")]
        assert len(lines) == bool(code)
        assert message in "".join(lines)
        assert out.exists() == (code == 0)
    monkeypatch.undo()
    assert embed(tiny_checkpoint, out, photo, "--detector", tmp_path / "bad.onnx") == 3
    assert "expected an ONNX file" in capsys.readouterr().err


def test_the_points_of_these_networks_are_a_face() -> None:
    """In the template's order, so that the alignment turns nothing over."""
    assert np.corrcoef(POINTS.ravel(), (TEMPLATE - TEMPLATE.mean(0)).ravel())[0, 1] > 0.9
