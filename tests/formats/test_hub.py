import hashlib
import importlib
import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from arcinvert.errors import CheckpointError, EnvironmentProblem, UsageError
from arcinvert.formats import hub as names
from arcinvert.formats.hub import KNOWN, PACKS, Known, cache_folder, locate, pull

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
        self.fetched: list[tuple[str, str, str]] = []
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

        def hf_hub_download(repo_id: str, filename: str, *, revision: str | None, local_dir: Path) -> str:
            return hub.download(repo_id, filename, revision, local_dir)

        self.module: Any = types.ModuleType("huggingface_hub")
        self.module.errors, self.module.HfApi, self.module.hf_hub_download = errors, HfApi, hf_hub_download

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

    def download(self, repository: str, file: str, revision: str | None, folder: Path) -> str:
        assert revision is not None
        self.fetched.append((repository, file, revision))
        place = folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(self.swap if self.swap is not None else self.repositories[repository][revision][file])
        return str(place)


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


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert text.count("\n") == 0
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return text


# --- the table


def test_table_is_well_formed() -> None:
    for name, known in KNOWN.items():
        assert name == known.repository or name in PACKS
        assert KNOWN[known.repository] is known
        assert names._HUB_NAME.fullmatch(known.repository)
        assert names._INSIDE.fullmatch(known.file)
        assert known.license
        assert known.revision is None or names._COMMIT.fullmatch(known.revision)
        assert known.sha256 is None or names._SHA256.fullmatch(known.sha256)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert cache_folder() == home.parent / "cache"
    monkeypatch.delenv("ARCINVERT_CACHE")
    assert cache_folder() == home / ".cache" / "arcinvert"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_folder() == home / "xdg" / "arcinvert"


# --- locate


def test_a_path_that_exists_wins_over_everything(home: Path) -> None:
    put(home / ".insightface" / "models" / "buffalo_l" / "w600k_r50.onnx")
    put(Path("buffalo_l"))
    assert locate("buffalo_l") == Path("buffalo_l")
    assert locate(Path("buffalo_l")) == Path("buffalo_l")
    put(Path("fal/AuraFace-v1"))
    assert locate("fal/AuraFace-v1") == Path("fal/AuraFace-v1")


@pytest.mark.parametrize(("pack", "file"), PACKS.items())
def test_installed_pack(home: Path, pack: str, file: str) -> None:
    expected = put(home / ".insightface" / "models" / pack / file)
    put(expected.parent / "det_10g.onnx")
    assert locate(pack) == expected


def test_nested_antelopev2(home: Path) -> None:
    nested = put(home / ".insightface" / "models" / "antelopev2" / "antelopev2" / "glintr100.onnx")
    assert locate("antelopev2") == nested
    flat = put(home / ".insightface" / "models" / "antelopev2" / "glintr100.onnx")
    assert locate("antelopev2") == flat


@pytest.mark.parametrize(
    "name", ["buffalo_l", "antelopev2", "minchul/cvlface_arcface_ir101_webface4m", "some/one-else"]
)
def test_absent_names_say_how_to_get_them(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"`arcinvert checkpoint pull {name}`") as error:
        locate(name)
    assert f"found none at {name!r}" in one_line(error)


@pytest.mark.parametrize(
    "name", ["buffalo_m", "no-such", "runs/last.safetensors", "a/b/c", "", "x" * 5000, "nul\0", "a\nb"]
)
def test_what_is_no_name_of_the_hub_is_a_path_that_does_not_exist(name: str) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint file, found none at") as error:
        locate(name)
    assert "checkpoint pull" not in one_line(error)


TRAVERSALS = ["../x", "a/..", "../../etc", "a/../b", "/a/b", "a\\..\\b", "a/.b", ".a/b", "a/b/", "a//b", "a--b/c"]
TRAVERSALS += ["C:/x", "a/b\n", "a/é", "~/x", "a/-b", "a/b..c", "a/" + "b" * 97, "%2e%2e/x"]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_never_lead_out_of_the_cache(hub: Hub, name: str) -> None:
    with pytest.raises(CheckpointError):
        locate(name + ".not-there")
    with pytest.raises(UsageError, match="expected a name such as") as error:
        pull(name)
    one_line(error)
    assert not cache_folder().exists()


def test_long_names_do_not_take_long() -> None:
    assert not names._HUB_NAME.fullmatch("a/" + "a-" * 5000 + "!")


# --- pull


def test_pull_of_an_unknown_repository_is_locked_at_first_use(hub: Hub, nobody: str) -> None:
    hub.tags, said = ["onnx", "license:mit"], []
    place = pull(nobody, say=said.append)
    assert place == folder(nobody) / "model.onnx"
    assert place.read_bytes() == WEIGHTS
    lock = json.loads((folder(nobody) / "model.onnx.lock.json").read_text())
    assert lock == {
        "repository": nobody,
        "file": "model.onnx",
        "revision": COMMIT,
        "sha256": DIGEST,
        "license": "mit",
        "files": {"model.onnx": DIGEST},
    }
    assert len(said) == 1
    assert COMMIT in said[0]
    assert DIGEST in said[0]
    assert "mit" in said[0]
    assert "pinned" in said[0]
    assert locate(nobody) == place
    assert sorted(path.name for path in folder(nobody).iterdir()) == ["model.onnx", "model.onnx.lock.json"]


def test_pull_again_needs_no_hub(hub: Hub, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pull(nobody)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert pull(nobody) == place
    assert pull(nobody, revision=COMMIT, sha256=DIGEST, file="model.onnx") == place
    with pytest.raises(EnvironmentProblem):
        pull(nobody, revision="main")


def test_a_lost_file_is_fetched_at_the_first_revision(hub: Hub, nobody: str) -> None:
    place = pull(nobody)
    hub.add(nobody, {"model.onnx": b"newer"}, OTHER)
    place.unlink()
    assert pull(nobody).read_bytes() == WEIGHTS
    assert hub.fetched[-1] == (nobody, "model.onnx", COMMIT)


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
    assert len(hub.fetched) == (1 if lfs else 2)


def test_a_newer_revision_with_the_same_file_is_taken(hub: Hub, nobody: str) -> None:
    pull(nobody)
    hub.add(nobody, {"model.onnx": WEIGHTS, "more.md": b""}, OTHER)
    pull(nobody, revision="main")
    assert json.loads((folder(nobody) / "model.onnx.lock.json").read_text())["revision"] == OTHER


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


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100000, '{"files": 3}', '{"repository": "a/b"}'])
def test_a_damaged_lock_is_refused(hub: Hub, nobody: str, content: str) -> None:
    pull(nobody)
    (folder(nobody) / "model.onnx.lock.json").write_text(content)
    for ask in (locate, pull):
        with pytest.raises(CheckpointError, match="is damaged: remove it") as error:
            ask(nobody)
        one_line(error)


def test_a_lock_cannot_name_files_elsewhere(hub: Hub, nobody: str) -> None:
    pull(nobody)
    path = folder(nobody) / "model.onnx.lock.json"
    lock = json.loads(path.read_text())
    lock["files"]["../../secret"] = DIGEST
    path.write_text(json.dumps(lock))
    with pytest.raises(CheckpointError, match="is damaged"):
        locate(nobody)


@pytest.mark.parametrize("lfs", [True, False])
def test_the_digest_of_the_user_decides(hub: Hub, nobody: str, lfs: bool) -> None:
    hub.lfs = lfs
    with pytest.raises(CheckpointError, match=f"expected sha256 {'0' * 64} .* got {DIGEST}: not kept"):
        pull(nobody, sha256="0" * 64)
    assert not list(cache_folder().rglob("*.onnx*"))
    said: list[str] = []
    place = pull(nobody, sha256=DIGEST, say=said.append)
    assert "pinned" not in said[0]
    with pytest.raises(CheckpointError, match="the first fetch says"):
        pull(nobody, sha256="0" * 64)
    assert locate(nobody) == place


def test_what_arrives_is_checked_not_what_the_hub_says(hub: Hub, nobody: str) -> None:
    hub.swap = b"swapped on the way"
    with pytest.raises(CheckpointError, match="not kept"):
        pull(nobody, sha256=DIGEST)
    assert not list(cache_folder().rglob("*.onnx*"))


@pytest.mark.parametrize("name", ["made/net", "made_pack"])
def test_a_pinned_model(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    known = Known("made/net", "sub/model.safetensors", "MIT", COMMIT, DIGEST)
    monkeypatch.setattr(names, "KNOWN", {"made/net": known, "made_pack": known})
    files = {"sub/model.safetensors": WEIGHTS, "sub/config.json": b"{}", "sub/code.py": b"", "model.onnx": b""}
    hub.add("made/net", files)
    hub.add("made/net", {"sub/model.safetensors": b"newer"}, OTHER)
    place = pull(name)
    assert place == folder("made/net") / "sub" / "model.safetensors"
    assert (place.parent / "config.json").read_bytes() == b"{}"
    assert [file for _, file, _ in hub.fetched] == ["sub/model.safetensors", "sub/config.json"]
    assert {revision for _, _, revision in hub.fetched} == {COMMIT}
    lock = json.loads((place.parent / "model.safetensors.lock.json").read_text())
    assert lock["license"] == "MIT"
    assert lock["files"] == {"sub/model.safetensors": DIGEST, "sub/config.json": sha256(b"{}")}
    assert locate("made/net") == locate("made_pack") == place
    with pytest.raises(CheckpointError, match="the first fetch says"):
        pull(name, sha256="0" * 64)
    with pytest.raises(CheckpointError, match="not kept"):
        pull(name, revision=OTHER)
    (place.parent / "config.json").write_bytes(b'{"color_space": "BGR"}')
    with pytest.raises(CheckpointError, match=r"config\.json"):
        locate(name)


def test_a_pinned_digest_that_differs_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known("made/net", "model.onnx", "MIT", COMMIT, "0" * 64)
    monkeypatch.setattr(names, "KNOWN", {"made/net": known})
    hub.add("made/net", {"model.onnx": WEIGHTS})
    with pytest.raises(CheckpointError, match=f"expected sha256 {'0' * 64}"):
        pull("made/net")
    assert not hub.fetched


def test_a_pin_newer_than_the_fetch_is_heeded(hub: Hub, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(nobody)
    monkeypatch.setattr(names, "KNOWN", {nobody: Known(nobody, "model.onnx", "MIT", COMMIT, "0" * 64)})
    with pytest.raises(CheckpointError, match=f"expected sha256 {'0' * 64}"):
        locate(nobody)


def test_another_commit_than_the_one_asked_for(hub: Hub, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hub.info
    monkeypatch.setattr(hub, "info", lambda repository, revision: real(repository, None))
    with pytest.raises(CheckpointError, match=f"expected revision {OTHER} .* got {COMMIT}"):
        pull(nobody, revision=OTHER)


def test_several_files_that_may_be_meant(hub: Hub) -> None:
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


@pytest.mark.parametrize("file", ["pretrained_model/model.pt", "model.safetensors", "deep/er/net.onnx"])
def test_the_only_file_that_may_be_meant(hub: Hub, file: str) -> None:
    hub.add("some/one", {"config.json": b"", "model.pt": b"", file: WEIGHTS, "wrapper.py": b""})
    assert pull("some/one") == folder("some/one") / file


def test_no_file_that_may_be_meant(hub: Hub) -> None:
    hub.add("some/one", {"config.json": b"", "pytorch_model.bin": b""})
    with pytest.raises(UsageError, match="none that may be one"):
        pull("some/one")


@pytest.mark.parametrize(
    "file", ["../x.onnx", "/x.onnx", "a/../x.onnx", "a\\x.onnx", ".git/x", "C:x", "a//b", "x\n", ""]
)
def test_a_file_never_leads_out_of_the_cache(hub: Hub, nobody: str, file: str) -> None:
    with pytest.raises(UsageError, match="expected a file of the usual form"):
        pull(nobody, file=file)


@pytest.mark.parametrize("asked", [{"revision": "../main"}, {"sha256": "abc"}, {"sha256": DIGEST.upper()}])
def test_odd_pins(hub: Hub, nobody: str, asked: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="of the usual form"):
        pull(nobody, **asked)  # type: ignore[arg-type]


# --- the surroundings


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'arcinvert\[hub\]'") as error:
        pull("fal/AuraFace-v1")
    one_line(error)
    assert error.value.exit_code == 5
    put(home / ".insightface" / "models" / "buffalo_s" / "w600k_mbf.onnx")
    assert locate("buffalo_s").name == "w600k_mbf.onnx"


@pytest.mark.parametrize("kind", ["OfflineModeIsEnabled", "HTTPError", "OSError"])
@pytest.mark.parametrize("late", [False, True])
def test_no_network(hub: Hub, nobody: str, monkeypatch: pytest.MonkeyPatch, kind: str, late: bool) -> None:
    failure = OSError("no route\n\nto host") if kind == "OSError" else getattr(hub.errors, kind)("no route\n\nto host")

    def fail(*asked: object) -> str:
        raise failure

    if late:
        monkeypatch.setattr(hub, "download", fail)
    else:
        hub.fails = failure
    with pytest.raises(EnvironmentProblem, match=f"cannot fetch {nobody}: no route to host") as error:
        pull(nobody)
    one_line(error)
    with pytest.raises(CheckpointError, match="checkpoint pull"):
        locate(nobody)


def test_what_the_hub_does_not_have(hub: Hub, nobody: str) -> None:
    with pytest.raises(
        CheckpointError, match=r"expected no/body on the hub, got: 404 .* Repository Not Found"
    ) as error:
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
        (stand_in.module.hf_hub_download, real.hf_hub_download),
        (stand_in.module.HfApi.model_info, real.HfApi.model_info),
    ):
        known = inspect.signature(theirs).parameters
        for name, parameter in inspect.signature(ours).parameters.items():
            assert known[name].kind == parameter.kind
    for name in vars(stand_in.errors):
        if not name.startswith("_"):
            assert issubclass(getattr(errors, name), Exception)
    assert {"rfilename", "lfs"} <= set(inspect.signature(real.hf_api.RepoSibling).parameters)
