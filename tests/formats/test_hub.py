import hashlib
import importlib
import inspect
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from arcinvert.errors import CheckpointError, EnvironmentProblem, UsageError
from arcinvert.formats import hub as formats_hub
from arcinvert.formats.hub import KNOWN_MODELS, PACKS, HubModel, cache_folder, locate, pull

COMMIT, OTHER = "1" * 40, "2" * 40
WEIGHTS = b"weights of a network"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Hub:
    """Stands for huggingface_hub: repositories are revision -> file -> content."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[str, str] = {}
        self.tags: list[str] = []
        self.lfs = True
        self.swap: bytes | None = None
        self.fails: Exception | None = None
        self.downloads: list[tuple[str, str, str]] = []
        errors = types.ModuleType("huggingface_hub.errors")
        for name, base in (("HTTPError", Exception), ("OfflineModeIsEnabled", ConnectionError)):
            setattr(errors, name, type(name, (base,), {}))
        for name in ("RepositoryNotFoundError", "RevisionNotFoundError"):
            setattr(errors, name, type(name, (errors.HTTPError,), {}))
        self.errors: Any = errors
        hub = self

        class HfApi:
            def model_info(
                self, repo_id: str, *, revision: str | None = None, timeout: float | None = None, files_metadata: bool
            ) -> Any:
                return hub.info(repo_id, revision)

        def snapshot_download(repo_id: str, *, revision: str, allow_patterns: list[str], local_dir: Path) -> str:
            for file in allow_patterns:
                hub.download(repo_id, file, revision, local_dir)
            return str(local_dir)

        self.module: Any = types.ModuleType("huggingface_hub")
        self.module.errors, self.module.HfApi, self.module.snapshot_download = errors, HfApi, snapshot_download

    def add(self, repository: str, files: dict[str, bytes], commit: str = COMMIT) -> None:
        self.repositories.setdefault(repository, {})[commit] = files
        self.heads[repository] = commit

    def info(self, repository: str, revision: str | None) -> Any:
        if self.fails:
            raise self.fails
        if repository not in self.repositories:
            raise self.errors.RepositoryNotFoundError("404 Client Error.\n\nRepository Not Found")
        commit = self.heads[repository] if revision in (None, "main") else revision
        if commit not in self.repositories[repository]:
            raise self.errors.RevisionNotFoundError("404 Client Error.\n\nRevision Not Found")
        siblings = []
        for name, content in self.repositories[repository][commit].items():
            lfs = types.SimpleNamespace(sha256=sha256(content)) if self.lfs and not name.endswith("json") else None
            siblings.append(types.SimpleNamespace(rfilename=name, lfs=lfs))
        return types.SimpleNamespace(sha=commit, siblings=siblings, tags=self.tags)

    def download(self, repository: str, file: str, revision: str, folder: Path) -> None:
        self.downloads.append((repository, file, revision))
        place = folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(self.swap if self.swap is not None else self.repositories[repository][revision][file])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and nothing of the environment."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("ARCINVERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setitem(sys.modules, "huggingface_hub", made.module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", made.errors)
    return made


@pytest.fixture
def nobody(hub: Hub) -> str:
    """A repository that the table does not know."""
    hub.add("some.one/net_1", {"README.md": b"", "model.onnx": WEIGHTS})
    return "some.one/net_1"


def folder(repository: str) -> Path:
    return cache_folder() / "models" / repository.replace("/", "--")


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(WEIGHTS)
    return path


def read_lock(repository: str, file: str = "model.onnx") -> Any:
    return json.loads((folder(repository) / f"{file}.lock.json").read_text())


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert text.count("\n") == 0
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return text


# --- the table and the cache


def test_table_is_well_formed() -> None:
    for name, model in KNOWN_MODELS.items():
        assert name == model.repository or name in PACKS
        assert KNOWN_MODELS[model.repository] is model
        assert formats_hub._HUB_NAME.fullmatch(model.repository)
        assert formats_hub._INSIDE.fullmatch(model.file)
        assert model.license
        assert model.revision is None or formats_hub._COMMIT.fullmatch(model.revision)
        assert model.sha256 is None or formats_hub._SHA256.fullmatch(model.sha256)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert cache_folder() == home.parent / "cache"
    monkeypatch.delenv("ARCINVERT_CACHE")
    assert cache_folder() == home / ".cache" / "arcinvert"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_folder() == home / "xdg" / "arcinvert"


# --- locate


def test_an_existing_path_comes_first(home: Path) -> None:
    put(home / ".insightface" / "models" / "buffalo_l" / "w600k_r50.onnx")
    for name in ("buffalo_l", "fal/AuraFace-v1"):
        put(Path(name))
        assert locate(name) == locate(Path(name)) == Path(name)


def test_installed_packs(home: Path) -> None:
    models = home / ".insightface" / "models"
    nested = put(models / "antelopev2" / "antelopev2" / "glintr100.onnx")
    assert locate("antelopev2") == nested
    for pack, file in PACKS.items():
        expected = put(models / pack / file)
        put(expected.parent / "det_10g.onnx")
        assert locate(pack) == expected


@pytest.mark.parametrize("name", ["buffalo_l", "minchul/cvlface_arcface_ir101_webface4m", "some/one-else"])
def test_a_name_that_is_not_there(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"`arcinvert checkpoint pull {name}`") as error:
        locate(name)
    assert f"found none at {name!r}" in one_line(error)


@pytest.mark.parametrize("name", ["buffalo_m", "runs/last.safetensors", "a/b/c", "", "x" * 5000, "nul\0", "a\nb"])
def test_a_path_that_is_not_there(name: str) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint file, found none at") as error:
        locate(name)
    assert "checkpoint pull" not in one_line(error)


TRAVERSALS = ["../x", "a/..", "../../etc", "a/../b", "/a/b", "a\\..\\b", "a/.b", ".a/b", "a/b/", "a//b", "a--b/c"]
TRAVERSALS += ["C:/x", "a/b\n", "a/é", "~/x", "a/-b", "a/b..c", "a/" + "b" * 97, "%2e%2e/x"]


def test_names_never_leave_the_cache(hub: Hub) -> None:
    for name in TRAVERSALS:
        with pytest.raises(CheckpointError):
            locate(name + ".not-there")
        with pytest.raises(UsageError, match="expected a name such as") as error:
            pull(name)
        one_line(error)
    assert not cache_folder().exists()
    assert not formats_hub._HUB_NAME.fullmatch("a/" + "a-" * 5000 + "!")  # and it does not take long


# --- pull


def test_the_first_download_is_locked(hub: Hub, nobody: str, caplog: pytest.LogCaptureFixture) -> None:
    hub.tags = ["onnx", "license:mit"]
    with caplog.at_level(logging.INFO, "arcinvert"):
        place = pull(nobody)
    assert place == folder(nobody) / "model.onnx"
    assert place.read_bytes() == WEIGHTS
    lock = {"repository": nobody, "file": "model.onnx", "revision": COMMIT, "sha256": DIGEST, "license": "mit"}
    assert read_lock(nobody) == lock | {"files": {"model.onnx": DIGEST}}
    (message,) = caplog.messages
    assert all(part in message for part in (COMMIT, DIGEST, "mit", "pinned"))
    assert locate(nobody) == place
    assert sorted(path.name for path in folder(nobody).iterdir()) == ["model.onnx", "model.onnx.lock.json"]


def test_pull_again_needs_no_hub(hub: Hub, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pull(nobody)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert pull(nobody) == place
    assert pull(nobody, revision=COMMIT, sha256=DIGEST, file="model.onnx") == place
    with pytest.raises(EnvironmentProblem):
        pull(nobody, revision="main")


def test_a_lost_file_is_downloaded_at_the_first_revision(hub: Hub, nobody: str) -> None:
    place = pull(nobody)
    hub.add(nobody, {"model.onnx": b"newer"}, OTHER)
    place.unlink()
    assert pull(nobody).read_bytes() == WEIGHTS
    assert hub.downloads[-1] == (nobody, "model.onnx", COMMIT)


@pytest.mark.parametrize("lfs", [True, False])
def test_another_digest_than_the_first_is_refused(hub: Hub, nobody: str, lfs: bool) -> None:
    place = pull(nobody)
    hub.lfs = lfs
    hub.add(nobody, {"model.onnx": b"newer"}, OTHER)
    with pytest.raises(CheckpointError, match=f"expected sha256 {DIGEST} .* got {sha256(b'newer')}") as error:
        pull(nobody, revision="main")
    one_line(error)
    assert place.read_bytes() == WEIGHTS
    assert not (folder(nobody) / ".fetching").exists()
    assert locate(nobody) == place
    assert len(hub.downloads) == (1 if lfs else 2)


def test_a_newer_revision_with_the_same_file_is_taken(hub: Hub, nobody: str) -> None:
    pull(nobody)
    hub.add(nobody, {"model.onnx": WEIGHTS, "more.md": b""}, OTHER)
    pull(nobody, revision="main")
    assert read_lock(nobody)["revision"] == OTHER


def test_a_file_changed_in_the_cache_is_refused(hub: Hub, nobody: str) -> None:
    place = pull(nobody)
    place.write_bytes(b"changed")
    for ask in (locate, pull):
        with pytest.raises(CheckpointError, match=f"expected sha256 {DIGEST} of") as error:
            ask(nobody)
        assert sha256(b"changed") in one_line(error)
    place.unlink()
    with pytest.raises(CheckpointError, match="got no file"):
        locate(nobody)


ELSEWHERE = {"repository": "some.one/net_1", "file": "model.onnx", "revision": COMMIT, "sha256": DIGEST}
ELSEWHERE |= {"files": {"model.onnx": DIGEST, "../../secret": DIGEST}}


@pytest.mark.parametrize("content", ["", "[]", "[" * 100000, '{"files": 3}', json.dumps(ELSEWHERE)])
def test_a_damaged_lock_is_refused(hub: Hub, nobody: str, content: str) -> None:
    pull(nobody)
    (folder(nobody) / "model.onnx.lock.json").write_text(content)
    for ask in (locate, pull):
        with pytest.raises(CheckpointError, match="is damaged: remove it") as error:
            ask(nobody)
        one_line(error)


@pytest.mark.parametrize("lfs", [True, False])
def test_the_digest_of_the_user_decides(hub: Hub, nobody: str, lfs: bool, caplog: pytest.LogCaptureFixture) -> None:
    hub.lfs = lfs
    with pytest.raises(CheckpointError, match=f"expected sha256 {'0' * 64} .* got {DIGEST}: not kept"):
        pull(nobody, sha256="0" * 64)
    assert not list(cache_folder().rglob("*.onnx*"))
    with caplog.at_level(logging.INFO, "arcinvert"):
        place = pull(nobody, sha256=DIGEST)
    assert "pinned" not in caplog.text
    with pytest.raises(CheckpointError, match="but the first download has"):
        pull(nobody, sha256="0" * 64)
    assert locate(nobody) == place


@pytest.mark.parametrize("pinned", [{}, {"sha256": DIGEST}])
def test_what_arrives_is_checked(hub: Hub, nobody: str, pinned: dict[str, str]) -> None:
    hub.swap = b"swapped on the way"
    with pytest.raises(CheckpointError, match="not kept"):
        pull(nobody, **pinned)  # type: ignore[arg-type]
    assert not list(cache_folder().rglob("*.onnx*"))


@pytest.mark.parametrize("name", ["made/net", "made_pack"])
def test_a_pinned_model(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    known = HubModel("made/net", "sub/model.safetensors", "MIT", COMMIT, DIGEST)
    monkeypatch.setattr(formats_hub, "KNOWN_MODELS", {"made/net": known, "made_pack": known})
    files = {"sub/model.safetensors": WEIGHTS, "sub/config.json": b"{}", "sub/code.py": b"", "model.onnx": b""}
    hub.add("made/net", files)
    hub.add("made/net", {"sub/model.safetensors": b"newer"}, OTHER)
    place = pull(name)
    assert place == folder("made/net") / "sub" / "model.safetensors"
    assert (place.parent / "config.json").read_bytes() == b"{}"
    assert [file for _, file, _ in hub.downloads] == ["sub/model.safetensors", "sub/config.json"]
    assert {revision for _, _, revision in hub.downloads} == {COMMIT}
    lock = read_lock("made/net", "sub/model.safetensors")
    assert lock["license"] == "MIT"
    assert lock["files"] == {"sub/model.safetensors": DIGEST, "sub/config.json": sha256(b"{}")}
    assert locate("made/net") == locate("made_pack") == place
    with pytest.raises(CheckpointError, match="not kept"):
        pull(name, revision=OTHER)
    (place.parent / "config.json").write_bytes(b'{"color_space": "BGR"}')
    with pytest.raises(CheckpointError, match=r"config\.json"):
        locate(name)


def test_a_pinned_digest_that_differs_is_refused(hub: Hub, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = {nobody: HubModel(nobody, "model.onnx", "MIT", COMMIT, "0" * 64)}
    with monkeypatch.context() as patch:
        patch.setattr(formats_hub, "KNOWN_MODELS", pinned)
        with pytest.raises(CheckpointError, match=f"expected sha256 {'0' * 64}"):
            pull(nobody)
        assert not hub.downloads
    pull(nobody)
    monkeypatch.setattr(formats_hub, "KNOWN_MODELS", pinned)  # a pin newer than the download
    with pytest.raises(CheckpointError, match=f"expected sha256 {'0' * 64}"):
        locate(nobody)


def test_another_commit_than_the_requested_one(hub: Hub, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hub.info
    monkeypatch.setattr(hub, "info", lambda repository, revision: real(repository, None))
    with pytest.raises(CheckpointError, match=f"expected revision {OTHER} .* got {COMMIT}"):
        pull(nobody, revision=OTHER)


def test_several_candidates(hub: Hub) -> None:
    hub.add("some/one", {"a/r50.onnx": WEIGHTS, "r100.onnx": b"r100", "x.bin": b"", "../out.onnx": b""})
    with pytest.raises(UsageError, match=r"got a/r50\.onnx, r100\.onnx: name the file") as error:
        pull("some/one")
    one_line(error)
    first = pull("some/one", file="a/r50.onnx")
    assert locate("some/one") == pull("some/one") == first
    pull("some/one", file="r100.onnx")
    with pytest.raises(CheckpointError, match="give the path of one") as found:
        locate("some/one")
    one_line(found)
    with pytest.raises(CheckpointError, match=r"expected 'x\.onnx' in some/one"):
        pull("some/one", file="x.onnx")


@pytest.mark.parametrize("file", ["pretrained_model/model.pt", "model.safetensors", "deep/er/net.onnx", None])
def test_the_only_candidate(hub: Hub, file: str | None) -> None:
    hub.add("some/one", {"config.json": b"", "model.pt": b"", "wrapper.py": b""} | ({file: WEIGHTS} if file else {}))
    if file is not None:
        assert pull("some/one") == folder("some/one") / file
        return
    with pytest.raises(UsageError, match="got no candidate"):
        pull("some/one")


OUTSIDE = ["../x.onnx", "/x.onnx", "a/../x.onnx", "a\\x.onnx", ".git/x", "C:x", "a//b", "x\n", ""]


def test_malformed_files_revisions_and_digests(hub: Hub, nobody: str) -> None:
    asked = [{"file": file} for file in OUTSIDE]
    asked += [{"revision": "../main"}, {"sha256": "abc"}, {"sha256": DIGEST.upper()}]
    for options in asked:
        with pytest.raises(UsageError, match=f"expected a {next(iter(options))} of the usual form"):
            pull(nobody, **options)  # type: ignore[arg-type]


# --- the surroundings


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[hub\]'") as error:
        pull("fal/AuraFace-v1")
    one_line(error)
    assert error.value.exit_code == 5


@pytest.mark.parametrize(("kind", "late"), [("OfflineModeIsEnabled", False), ("HTTPError", True), ("OSError", True)])
def test_no_network(hub: Hub, nobody: str, monkeypatch: pytest.MonkeyPatch, kind: str, late: bool) -> None:
    failure = OSError("no route\n\nto host") if kind == "OSError" else getattr(hub.errors, kind)("no route\n\nto host")

    def fail(*asked: object) -> str:
        raise failure

    if late:
        monkeypatch.setattr(hub, "download", fail)
    else:
        hub.fails = failure
    with pytest.raises(EnvironmentProblem, match=f"cannot download {nobody}: no route to host") as error:
        pull(nobody)
    one_line(error)
    with pytest.raises(CheckpointError, match="checkpoint pull"):
        locate(nobody)


def test_what_the_hub_does_not_have(hub: Hub, nobody: str) -> None:
    with pytest.raises(CheckpointError, match=r"expected no/body on the hub, got: 404 .* Repository Not") as error:
        pull("no/body")
    one_line(error)
    with pytest.raises(CheckpointError, match="Revision Not Found"):
        pull(nobody, revision="v9")


def test_a_cache_that_cannot_be_written(hub: Hub, nobody: str) -> None:
    cache_folder().write_text("a file where the folder should be")
    with pytest.raises(EnvironmentProblem) as error:
        pull(nobody)
    one_line(error)


def test_the_stand_in_has_the_signatures_of_the_real_package() -> None:
    real = pytest.importorskip("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    stand_in = Hub()
    for ours, theirs in (
        (stand_in.module.snapshot_download, real.snapshot_download),
        (stand_in.module.HfApi.model_info, real.HfApi.model_info),
    ):
        known = inspect.signature(theirs).parameters
        for name, parameter in inspect.signature(ours).parameters.items():
            assert known[name].kind == parameter.kind
    for name in vars(stand_in.errors):
        if not name.startswith("_"):
            assert issubclass(getattr(errors, name), Exception)
    assert {"rfilename", "lfs"} <= set(inspect.signature(real.hf_api.RepoSibling).parameters)
