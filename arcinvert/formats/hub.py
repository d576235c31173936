"""Names instead of paths: InsightFace packs on this machine, and models from the Hugging Face hub.

``huggingface_hub`` resolves the revision and downloads; this decides which digest is accepted. Where
:data:`KNOWN_MODELS` pins no digest, that of the first download is kept in a lock file beside the weights, and
another one is refused from then on. Nothing in a repository is executed.
"""

import importlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from arcinvert.checkpoint import atomic_write, file_digest
from arcinvert.errors import CheckpointError, EnvironmentProblem, UsageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubModel:
    """A public recognizer on the hub.

    Attributes:
        repository: ``owner/name``.
        file: its path in the repository.
        license: of the weights, as published.
        revision: the pinned commit, if one is known.
        sha256: the pinned digest of the file, if one is known.
    """

    repository: str
    file: str
    license: str
    revision: str | None = None
    sha256: str | None = None


_RESEARCH = "non-commercial research only (InsightFace)"
_DATASET = "none stated; the card asks to follow the license of the training data"
_R100 = "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf"
_R50 = "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"
_MBF = "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f"
_AURA = "a7933ea5330113b01c9b60351d8f4c33003f145d8470ac5f0e52ee2effe25c60"
_ZOO = "f3a6bc281e72f88862f5748b53be3d76b3b48f8f1ab1f4a537941bdc4e1b01da"
_WF12M = "2ea535a43877bd3de8091903935c783ce335be66a9f8917fae9a7a18ae4bbf56"
_WF4M = "21adb6220e8799a0e658f16946df9649c7269f432fe9810a7b9c4ad1241080a8"
_WF4M_50 = "da82e6e1dbe98ce23afb78283b858ad65e32484a2bac82e9adae298d04ff845d"
_WF4M_18 = "3a416518b11ece107b43385fc3678aad1d4f2405fde9f58f0be7f530230e368b"


def _cvlface(name: str, revision: str | None = None, sha256: str | None = None) -> HubModel:
    return HubModel(f"minchul/cvlface_{name}", "model.safetensors", _DATASET, revision, sha256)


_PUBLISHED = (
    HubModel("fal/AuraFace-v1", "glintr100.onnx", "Apache-2.0", "af6d057c9b0ec4071d4c49c80e3539258798b609", _AURA),
    HubModel("onnxmodelzoo/arcfaceresnet100-8", "arcfaceresnet100-8.onnx", "Apache-2.0", None, _ZOO),
    _cvlface("arcface_ir101_webface4m"),
    _cvlface("adaface_ir101_webface12m", "54f602a0737bd1ee4a4e7e9fd089a485f397fefd", _WF12M),
    _cvlface("adaface_ir101_webface4m", "f2b38d9e24bfe301490d8dd081d8924b102333dd", _WF4M),
    _cvlface("adaface_ir101_ms1mv2", "afdb94f8190f4cd8ea1467258ce65f1d76033b63"),
    _cvlface("adaface_ir50_webface4m", "fe7718c6dc8af1b9946e0de778167c1695dd8814", _WF4M_50),
    _cvlface("adaface_ir18_webface4m", "0dd53f188fa27968b0a1326970ebf4aeb37ce2ca", _WF4M_18),
)
_IN_PACK = ("recognition/model.onnx", _RESEARCH)
_L = HubModel("immich-app/buffalo_l", *_IN_PACK, "d09715916a0778919a770c343533641e250b8699", _R50)
_S = HubModel("immich-app/buffalo_s", *_IN_PACK, "0ff1751885575e62e084dff70549ce24a11fa5dc", _MBF)
_A = HubModel("DIAMONIK7777/antelopev2", "glintr100.onnx", _RESEARCH, None, _R100)
KNOWN_MODELS = {model.repository: model for model in (*_PUBLISHED, _L, _S, _A)}
KNOWN_MODELS |= {"buffalo_l": _L, "buffalo_s": _S, "buffalo_sc": _S, "antelopev2": _A, "auraface": _PUBLISHED[0]}
"""By the name of the repository, and by the name of the InsightFace pack that holds the same file."""
PACKS = {"buffalo_l": "w600k_r50.onnx", "buffalo_m": "w600k_r50.onnx", "buffalo_s": "w600k_mbf.onnx"}
PACKS |= {"buffalo_sc": "w600k_mbf.onnx", "antelopev2": "glintr100.onnx", "auraface": "glintr100.onnx"}
"""Pack of InsightFace -> the file in it that is the recognizer."""

_WORD = r"(?=[\w.-]{1,96}(?:/|\Z))(?:\w+[.-])*\w+"
_HUB_NAME = re.compile(f"{_WORD}/{_WORD}", re.ASCII)
_INSIDE = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*", re.ASCII)
"""A file of a repository, or a revision: never a path that leaves a folder."""
_COMMIT, _SHA256 = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")
_WEIGHTS = re.compile(r"(?:.*/)?(?:[^/]+\.(?:onnx|safetensors)|pretrained_model/model\.pt)")
_SUFFIXES = (".onnx", ".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".params", ".pdparams", ".json")
_LOCK = ".lock.json"


def cache_folder() -> Path:
    """``$ARCINVERT_CACHE``, else ``arcinvert`` in the user's cache."""
    named = os.environ.get("ARCINVERT_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "arcinvert"


def locate(name: Path | str) -> Path:
    """The weight file of a path or a name: an existing file, an installed pack, or a download of :func:`pull`.

    Raises:
        CheckpointError: there is none, or the downloaded file has changed since.
    """
    text = name if isinstance(name, str) else name.as_posix()
    if os.path.exists(text):
        return Path(name)
    searched = ""
    if text in PACKS:
        searched = f", nor in the folder of insightface ({PACKS[text]})"
        pack = Path.home() / ".insightface" / "models" / text
        for place in (pack / PACKS[text], pack / text / PACKS[text]):  # antelopev2.zip holds a folder of its name
            if place.is_file():
                return place
    model = KNOWN_MODELS.get(text)
    if model is not None or (_HUB_NAME.fullmatch(text) and not text.endswith(_SUFFIXES)):
        repository = model.repository if model else text
        locks = _locks(repository)
        file = model.file if model and model.file in locks else next(iter(locks), None)
        if file is not None and (len(locks) == 1 or (model and file == model.file)):
            return _verified(repository, file, locks[file])
        if locks:
            raise CheckpointError(f"several files of {text} were downloaded: give the path of one: {', '.join(locks)}")
        searched += f", nor downloaded: `arcinvert checkpoint pull {text}` downloads it"
        searched += "" if model else ", if it exists"
    raise CheckpointError(f"expected a checkpoint file, found none at {text!r}{searched}")


def pull(name: str, *, file: str | None = None, revision: str | None = None, sha256: str | None = None) -> Path:
    """Download a recognizer from the hub into the user's cache, with the files that describe it.

    The revision, the digest and the license are logged.

    Args:
        name: a key of :data:`KNOWN_MODELS`, or any ``owner/name``.
        file: path in the repository; by default the known file, the one downloaded before, or the only candidate.
        revision: commit, branch or tag; by default the pinned one, that of the first download, or the current one.
        sha256: digest that the file must have; by default the pinned one, or that of the first download.

    Raises:
        UsageError: a malformed name, file, revision or digest, or several candidate files.
        CheckpointError: the hub has no such file, or one with another digest, which is not kept.
        EnvironmentProblem: huggingface_hub is missing, the hub cannot be reached, or the cache cannot be written.
    """
    model = KNOWN_MODELS.get(name)
    if model is None and not _HUB_NAME.fullmatch(name):
        raise UsageError(f"expected a name such as fal/AuraFace-v1 or buffalo_l, got {name!r}")
    for what, value, pattern in (("file", file, _INSIDE), ("revision", revision, _INSIDE), ("sha256", sha256, _SHA256)):
        if value is not None and not pattern.fullmatch(value):
            raise UsageError(f"expected a {what} of the usual form, got {value!r}")
    repository = model.repository if model else name
    folder, locks = _folder(repository), _locks(repository)
    if file is None:
        file = model.file if model else next(iter(locks)) if len(locks) == 1 else None
    if file is not None and (lock := locks.get(file)) and revision in (None, lock["revision"]):
        _expected(repository, file, lock, sha256)
        if all((folder / part).is_file() for part in lock["files"]):
            return _verified(repository, file, lock)
    try:
        hub, errors = (importlib.import_module(f"huggingface_hub{part}") for part in ("", ".errors"))
        model_info, download = hub.HfApi().model_info, hub.snapshot_download  # imports the rest
    except ImportError:
        raise EnvironmentProblem("downloads need huggingface_hub: pip install 'arcinvert[hub]'") from None
    if revision is None:
        pinned = model.revision if model and file == model.file else None
        revision = pinned or (locks[file]["revision"] if file in locks else None)
    with _one_line(errors, repository):
        info = model_info(repository, revision=revision, timeout=30, files_metadata=True)
    there = {entry.rfilename: entry for entry in info.siblings or ()}
    file = file or _only_recognizer(repository, list(there))
    expected = _expected(repository, file, locks.get(file), sha256)
    commit = str(info.sha)
    if revision and _COMMIT.fullmatch(revision) and commit != revision:
        raise CheckpointError(f"expected revision {revision} of {repository}, got {commit}")
    if file not in there:
        raise CheckpointError(f"expected {file!r} in {repository} at {commit}, found none among {len(there)} files")
    claimed = {file: lfs.sha256} if (lfs := getattr(there[file], "lfs", None)) else {}
    _refuse_others(repository, claimed, expected)  # before hundreds of megabytes are downloaded
    staging = folder / ".fetching"
    parts = [file, *(part for part in _describing(file) if part in there)]
    with _one_line(errors, repository):
        download(repository, revision=commit, allow_patterns=parts, local_dir=staging)
        digests = {part: file_digest(staging / part) for part in parts}
    try:
        _refuse_others(repository, digests, claimed | expected)
    except CheckpointError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    license = model.license if model else next((t[8:] for t in info.tags or () if t.startswith("license:")), None)
    lock = {"repository": repository, "file": file, "revision": commit, "sha256": digests[file]}
    lock |= {"license": license, "files": digests}
    for part in parts:
        with atomic_write(folder / part) as temporary:
            os.replace(staging / part, temporary)
    with atomic_write(folder / (file + _LOCK)) as temporary:
        temporary.write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(staging, ignore_errors=True)
    unpinned = "" if file in expected else "; no digest was pinned: pass these two next time to get the same file"
    found = f"revision {commit}, sha256 {digests[file]}, license: {license or 'not stated'}"
    log.info("%s %s: %s%s", repository, file, found, unpinned)
    return folder / file


def downloads() -> dict[str, str]:
    """SHA-256 of each file that :func:`pull` downloaded -> the license it was published under, if one was stated.

    A damaged lock is passed over here; :func:`locate` refuses it.
    """
    found = {}
    for path in (cache_folder() / "models").glob("*/**/*" + _LOCK):
        try:
            lock = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(lock["license"], str):
                found[str(lock["sha256"])] = lock["license"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
    return found


def _folder(repository: str) -> Path:
    return cache_folder() / "models" / repository.replace("/", "--")


def _locks(repository: str) -> dict[str, dict[str, Any]]:
    """The lock of each downloaded file of a repository."""
    found = {}
    for path in sorted(_folder(repository).rglob("*" + _LOCK)):
        file = path.relative_to(_folder(repository)).as_posix().removesuffix(_LOCK)
        try:
            lock = json.loads(path.read_text(encoding="utf-8"))
            whole = lock["repository"] == repository and lock["files"][file] == lock["sha256"] and lock["revision"]
            whole = whole and all(_INSIDE.fullmatch(p) and _SHA256.fullmatch(d) for p, d in lock["files"].items())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise CheckpointError(f"{str(path)!r} is damaged: remove it, and download {repository} again")
        found[file] = lock
    return found


def _expected(repository: str, file: str, lock: dict[str, Any] | None, sha256: str | None) -> dict[str, str]:
    """The digests that files of a repository must have, by the lock, the pinned models and the user, who must agree."""
    model = KNOWN_MODELS.get(repository)
    pinned = model.sha256 if model and model.file == file else None
    expected: dict[str, str] = {} if lock is None else dict(lock["files"])
    for wanted in (pinned, sha256):
        if wanted is not None and expected.setdefault(file, wanted) != wanted:
            by = "the first download" if lock else "arcinvert"
            raise CheckpointError(f"expected sha256 {wanted} of {repository} {file}, but {by} has {expected[file]}")
    return expected


def _refuse_others(repository: str, digests: dict[str, str], expected: dict[str, str]) -> None:
    for part, digest in digests.items():
        if expected.get(part, digest) != digest:
            raise CheckpointError(f"expected sha256 {expected[part]} of {repository} {part}, got {digest}: not kept")


def _verified(repository: str, file: str, lock: dict[str, Any]) -> Path:
    """The path of a downloaded file, if it and the files that describe it are unchanged."""
    for part, digest in _expected(repository, file, lock, None).items():
        path = _folder(repository) / part
        found = file_digest(path) if path.is_file() else "no file"
        if found != digest:
            raise CheckpointError(
                f"expected sha256 {digest} of {str(path)!r}, got {found}: remove it and download it again"
            )
    return _folder(repository) / file


def _describing(file: str) -> list[str]:
    """Where the importers look for the order of colors."""
    path = PurePosixPath(file)
    near = (path.with_suffix(".yaml"), path.parent / "pretrained_model" / "model.yaml", path.parent / "config.json")
    return [place.as_posix() for place in near]


def _only_recognizer(repository: str, there: list[str]) -> str:
    found = [file for file in there if _WEIGHTS.fullmatch(file) and _INSIDE.fullmatch(file)]
    if len(found) != 1:
        some = ", ".join(found[:10]) or "no candidate"
        raise UsageError(f"expected one recognizer in {repository}, got {some}: name the file")
    return found[0]


@contextmanager
def _one_line(errors: Any, repository: str) -> Iterator[None]:
    """Turns the errors of huggingface_hub into ours, each in one line."""
    theirs = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Exception)]
    caught: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, *theirs)
    try:
        yield
    except caught as error:
        text = " ".join(str(error).split())[:300]
        if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
            raise CheckpointError(f"expected {repository} on the hub, got: {text}") from None
        raise EnvironmentProblem(f"cannot download {repository}: {text}") from None
