"""Weight files of other frameworks: recognized by content, and refused with the way to an ONNX file."""

import zipfile
from pathlib import Path

from arcinvert.errors import CheckpointError

HDF5 = b"\x89HDF\r\n\x1a\n"
_TO_ONNX = "python -m tf2onnx.convert --saved-model FOLDER --output net.onnx"
_KERAS = (
    "load it where it was made (weights of deepface by DeepFace.build_model(NAME).model), call "
    f"model.export('FOLDER') and {_TO_ONNX}; then open net.onnx with its image contract, see docs/recognizers.md"
)


def refuse_other_framework(path: Path, start: bytes) -> None:
    """Refuse a file of Paddle, Keras or TensorFlow.

    Args:
        path: of the file.
        start: its first 16 bytes.

    Raises:
        CheckpointError: it is one; the message says what to do where the file was made.
    """
    name, suffix = repr(str(path)), path.suffix.lower()
    if suffix in (".pdmodel", ".pdiparams"):
        raise CheckpointError(
            f"{name} is a program of Paddle, which is not run: export it with paddle2onnx and open the .onnx"
        )
    if start.startswith(HDF5):
        raise CheckpointError(f"{name} is an HDF5 file, as Keras writes weights, which is not read: {_KERAS}")
    if start[:4] == b"PK\x03\x04" and _is_keras(path):
        raise CheckpointError(f"{name} is a model of Keras, which is not run: {_KERAS}")
    if start[4:8] == b"TFL3":
        raise CheckpointError(
            f"{name} is a model of TensorFlow Lite, which is not read: python -m tf2onnx.convert --tflite "
            f"{path.name!r} --output net.onnx, and open net.onnx"
        )
    if suffix == ".pb":
        raise CheckpointError(
            f"{name} is a program of TensorFlow, which is not run: {_TO_ONNX} for the folder of a saved model "
            "(--graphdef FILE --inputs NAME:0 --outputs NAME:0 for a frozen graph), and open net.onnx"
        )


def _is_keras(path: Path) -> bool:
    """Whether a zip file has the two members that every .keras file has."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"config.json", "metadata.json"} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
