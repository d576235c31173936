"""Names instead of paths: packs of insightface on this machine, and models fetched from the Hugging Face hub.

What is fetched is told by its digest. Where :data:`KNOWN` pins none, the digest of the first fetch is kept in
a lock beside the file, and another one is refused from then on. Nothing of a repository is executed here.
"""

import importlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from arcinvert.checkpoint import atomic_write, file_digest
from arcinvert.errors import CheckpointError, EnvironmentProblem, UsageError


@dataclass(frozen=True)
class Known:
    """A public recognizer on the hub.

    Attributes:
        repository: ``owner/name``.
        file: inside the repository.
        license: of the weights, as published.
        revision: commit, or None if none could be established.
        sha256: of the file, or None if none could be established.
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


def _cvlface(name: str, revision: str | None = None, sha256: str | None = None) -> Known:
    return Known(f"minchul/cvlface_{name}", "model.safetensors", _DATASET, revision, sha256)


_PUBLISHED = (
    Known("fal/AuraFace-v1", "glintr100.onnx", "Apache-2.0", "af6d057c9b0ec4071d4c49c80e3539258798b609", _AURA),
    Known("onnxmodelzoo/arcfaceresnet100-8", "arcfaceresnet100-8.onnx", "Apache-2.0", None, _ZOO),
    _cvlface("arcface_ir101_webface4m"),
    _cvlface("adaface_ir101_webface12m", "54f602a0737bd1ee4a4e7e9fd089a485f397fefd", _WF12M),
    _cvlface("adaface_ir101_webface4m", "f2b38d9e24bfe301490d8dd081d8924b102333dd", _WF4M),
    _cvlface("adaface_ir101_ms1mv2", "afdb94f8190f4cd8ea1467258ce65f1d76033b63"),
    _cvlface("adaface_ir50_webface4m", "fe7718c6dc8af1b9946e0de778167c1695dd8814", _WF4M_50),
    _cvlface("adaface_ir18_webface4m", "0dd53f188fa27968b0a1326970ebf4aeb37ce2ca", _WF4M_18),
)
_IN_PACK = ("recognition/model.onnx", _RESEARCH)
_L = Known("immich-app/buffalo_l", *_IN_PACK, "d09715916a0778919a770c343533641e250b8699", _R50)
_S = Known("immich-app/buffalo_s", *_IN_PACK, "0ff1751885575e62e084dff70549ce24a11fa5dc", _MBF)
_A = Known("DIAMONIK7777/antelopev2", "glintr100.onnx", _RESEARCH, None, _R100)
KNOWN = {known.repository: known for known in (*_PUBLISHED, _L, _S, _A)}
KNOWN |= {"buffalo_l": _L, "buffalo_s": _S, "buffalo_sc": _S, "antelopev2": _A, "auraface": _PUBLISHED[0]}
"""By the name of the repository, and by that of the pack of insightface that holds the same file."""
PACKS = {"buffalo_l": "w600k_r50.onnx", "buffalo_m": "w600k_r50.onnx", "buffalo_s": "w600k_mbf.onnx"}
PACKS |= {"buffalo_sc": "w600k_mbf.onnx", "antelopev2": "glintr100.onnx", "auraface": "glintr100.onnx"}
"""Which file of an installed pack recognizes."""

_WORD = r"(?=[\w.-]{1,96}(?:/|\Z))(?:\w+[.-])*\w+"
_HUB_NAME = re.compile(f"{_WORD}/{_WORD}", re.ASCII)
_INSIDE = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*", re.ASCII)
"""A file of a repository, or a revision: nothing that leads out of a folder."""
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
    """The weight file of a path or a name: what exists, an installed pack, what :func:`pull` has fetched.

    Raises:
        CheckpointError: there is none, or what was fetched has changed since.
    """
    text = name if isinstance(name, str) else name.as_posix()
    if os.path.exists(text):
        return Path(name)
    looked = "" if text not in PACKS else f", nor in the folder of insightface ({PACKS[text]})"
    if text in PACKS:
        pack = Path.home() / ".insightface" / "models" / text
        for place in (pack / PACKS[text], pack / text / PACKS[text]):  # antelopev2.zip holds a folder of its name
            if place.is_file():
                return place
    known = KNOWN.get(text)
    if known is not None or (_HUB_NAME.fullmatch(text) and not text.endswith(_SUFFIXES)):
        repository = known.repository if known else text
        fetched = _fetched(repository)
        file = known.file if known and known.file in fetched else next(iter(fetched), None)
        if file is not None and (len(fetched) == 1 or (known and file == known.file)):
            return _verified(repository, file, fetched[file])
        if fetched:
            raise CheckpointError(f"several files of {text} were fetched: give the path of one: {', '.join(fetched)}")
        looked += f", nor fetched: `arcinvert checkpoint pull {text}` fetches it" + ("" if known else ", if it exists")
    raise CheckpointError(f"expected a checkpoint file, found none at {text!r}{looked}")


def pull(
    name: str,
    *,
    file: str | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch a recognizer from the hub into the user's cache, with what describes it beside it.

    Args:
        name: a key of :data:`KNOWN`, or any ``owner/name``.
        file: inside the repository; by default the known one, the one fetched before, or the only one that may be it.
        revision: commit, branch or tag; by default the pinned one, that of the first fetch, or the present one.
        sha256: that the file must have; by default the pinned one, or that of the first fetch.
        say: told the revision, the digest and the license.

    Raises:
        UsageError: not a name, file, revision or digest, or several files that may be meant.
        CheckpointError: the hub has no such file, or one with another digest, which is not kept.
        EnvironmentProblem: huggingface_hub is missing, the hub cannot be reached, or the cache not be written.
    """
    known = KNOWN.get(name)
    if known is None and not _HUB_NAME.fullmatch(name):
        raise UsageError(f"expected a name such as fal/AuraFace-v1 or buffalo_l, got {name!r}")
    for what, value, pattern in (("file", file, _INSIDE), ("revision", revision, _INSIDE), ("sha256", sha256, _SHA256)):
        if value is not None and not pattern.fullmatch(value):
            raise UsageError(f"expected a {what} of the usual form, got {value!r}")
    repository = known.repository if known else name
    fetched = _fetched(repository)
    if file is None:
        file = known.file if known else next(iter(fetched)) if len(fetched) == 1 else None
    if file is not None and (lock := fetched.get(file)) and revision in (None, lock["revision"]):
        _expected(repository, file, lock, sha256)
        if all((_folder(repository) / part).is_file() for part in lock["files"]):
            return _verified(repository, file, lock)
    try:
        hub, errors = (importlib.import_module(f"huggingface_hub{part}") for part in ("", ".errors"))
        model_info, download = hub.HfApi().model_info, hub.hf_hub_download  # imports the rest
    except ImportError:
        raise EnvironmentProblem("fetching needs huggingface_hub: pip install 'arcinvert[hub]'") from None
    if revision is None:
        pinned = known.revision if known and file == known.file else None
        revision = pinned or (fetched[file]["revision"] if file in fetched else None)
    with _one_line(errors, repository):
        info = model_info(repository, revision=revision, timeout=30, files_metadata=True)
    there = {entry.rfilename: entry for entry in info.siblings or ()}
    file = file or _only_recognizer(repository, list(there))
    expected = _expected(repository, file, fetched.get(file), sha256)
    commit = str(info.sha)
    if not _COMMIT.fullmatch(commit) or (revision and _COMMIT.fullmatch(revision) and commit != revision):
        raise CheckpointError(f"expected revision {revision or 'of 40 digits'} of {repository}, got {commit}")
    if file not in there:
        raise CheckpointError(f"expected {file!r} in {repository} at {commit}, found none among {len(there)} files")
    stored = getattr(there[file], "lfs", None)
    digests = {file: stored.sha256} if stored is not None else {}
    _refuse_others(repository, digests, expected)  # before some hundred megabytes are fetched
    store = _folder(repository) / ".fetching"
    with _one_line(errors, repository):
        for part in (file, *(part for part in _describing(file) if part in there)):
            download(repository, part, revision=commit, local_dir=store)
            digests[part] = file_digest(store / part)
    try:
        _refuse_others(repository, digests, expected)
    except CheckpointError:
        shutil.rmtree(store, ignore_errors=True)
        raise
    license = known.license if known else next((t[8:] for t in info.tags or () if t.startswith("license:")), None)
    lock = {"repository": repository, "file": file, "revision": commit, "sha256": digests[file]}
    lock |= {"license": license, "files": digests}
    for part in digests:
        with atomic_write(_folder(repository) / part) as temporary:
            os.replace(store / part, temporary)
    with atomic_write(_folder(repository) / (file + _LOCK)) as temporary:
        temporary.write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(store, ignore_errors=True)
    held = "" if file in expected else "; nothing pinned it: pass these two next time to be sure of the same file"
    say(f"{repository} {file}: revision {commit}, sha256 {digests[file]}, license: {license or 'not stated'}{held}")
    return _folder(repository) / file


def _folder(repository: str) -> Path:
    return cache_folder() / "models" / repository.replace("/", "--")


def _fetched(repository: str) -> dict[str, dict[str, Any]]:
    """The locks of what was fetched of a repository, by file."""
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
            raise CheckpointError(f"{str(path)!r} is damaged: remove it, and fetch {repository} again")
        found[file] = lock
    return found


def _expected(repository: str, file: str, lock: dict[str, Any] | None, sha256: str | None) -> dict[str, str]:
    """The digests that the files of a repository must have, as far as anything says so; all sayings must agree."""
    known = KNOWN.get(repository)
    pinned = known.sha256 if known and known.file == file else None
    expected: dict[str, str] = {} if lock is None else dict(lock["files"])
    for said in (pinned, sha256):
        if said is not None and expected.setdefault(file, said) != said:
            by = "the first fetch" if lock else "arcinvert"
            raise CheckpointError(f"expected sha256 {said} of {repository} {file}, {by} says {expected[file]}")
    return expected


def _refuse_others(repository: str, digests: dict[str, str], expected: dict[str, str]) -> None:
    for part, digest in digests.items():
        if expected.get(part, digest) != digest:
            raise CheckpointError(f"expected sha256 {expected[part]} of {repository} {part}, got {digest}: not kept")


def _verified(repository: str, file: str, lock: dict[str, Any]) -> Path:
    """The path of a fetched file, if it and what describes it are as they were fetched."""
    for part, digest in _expected(repository, file, lock, None).items():
        path = _folder(repository) / part
        found = file_digest(path) if path.is_file() else "no file"
        if found != digest:
            raise CheckpointError(f"expected sha256 {digest} of {str(path)!r}, got {found}: remove it and fetch again")
    return _folder(repository) / file


def _describing(file: str) -> list[str]:
    """Where the importers look for the order of colors."""
    path = PurePosixPath(file)
    near = (path.with_suffix(".yaml"), path.parent / "pretrained_model" / "model.yaml", path.parent / "config.json")
    return [place.as_posix() for place in near]


def _only_recognizer(repository: str, there: list[str]) -> str:
    found = [file for file in there if _WEIGHTS.fullmatch(file) and _INSIDE.fullmatch(file)]
    if len(found) != 1:
        some = ", ".join(found[:10]) or "none that may be one"
        raise UsageError(f"expected one recognizer in {repository}, got {some}: name the file")
    return found[0]


@contextmanager
def _one_line(errors: Any, repository: str) -> Iterator[None]:
    """What the hub's package raises, as errors of ours in one line."""
    theirs = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, Exception)]
    caught: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, *theirs)
    try:
        yield
    except caught as error:
        text = " ".join(str(error).split())[:300]
        if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
            raise CheckpointError(f"expected {repository} on the hub, got: {text}") from None
        raise EnvironmentProblem(f"cannot fetch {repository}: {text}") from None
