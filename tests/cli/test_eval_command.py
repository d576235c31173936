"""``arcinvert eval verification``, from the command line."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from arcinvert.cli import run
from arcinvert.evaluation.metrics import score_pairs
from arcinvert.recognizer import Recognizer

pytestmark = pytest.mark.usefixtures("as_found")


@pytest.fixture
def stored(tmp_path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The options for stored embeddings, the rows and the labels."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 25, 200)
    rows = generator.normal(size=(25, 16))[labels] + generator.normal(size=(200, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    np.save(tmp_path / "e.npy", rows)
    (tmp_path / "l.txt").write_text("".join(f"person {label}\n" for label in labels))
    return ["--embeddings", str(tmp_path / "e.npy"), "--labels", str(tmp_path / "l.txt")], rows, labels


def evaluate(*arguments: str) -> int:
    return run(["-q", "eval", "verification", *arguments])


def test_stored_embeddings(stored: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, rows, labels = stored
    assert evaluate(*options, "--far", "0.01", "--far", "1e-3", "--far", "1e-9", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    scored = score_pairs(rows, labels)
    truth = np.repeat([1, 0], [len(scored.genuine), len(scored.impostor)])
    scores = np.concatenate([scored.genuine, scored.impostor])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert found["auc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    assert 0 < found["eer"] < 0.5
    high, low, none = found["tar"]
    assert [high["far"], low["far"], none["far"]] == [0.01, 1e-3, 1e-9]
    for point in (high, low):
        assert point["tar"] == pytest.approx(true[false <= point["far"]].max(), abs=1e-3)
        assert point["false_matches"] <= point["far"] * point["impostor_pairs"]
        assert point["impostor_pairs"] == len(scored.impostor)
        assert point["tar"] == point["true_matches"] / point["genuine_pairs"]
        for ends in (point["interval"], point["by_identity"]):
            assert ends[0] < point["tar"] < ends[1]
    assert high["warning"] is None
    assert "fewer than 30" in low["warning"]
    assert none["tar"] is none["threshold"] is none["interval"] is None
    assert "fewer than 3" in none["reason"]
    digest = hashlib.sha256((tmp_path / "e.npy").read_bytes()).hexdigest()
    assert found["sources"][0] | {"sha256": digest, "rows": 200} == found["sources"][0]
    assert found["identities"] == 25


def test_the_table(stored: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*stored[0]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["| figure | value |", "|---|---|"]
    assert any(line.startswith("| on | 25 identities, 200 embeddings") for line in lines)
    table = lines[lines.index("") + 1 :]
    assert [line.split(" | ")[0] for line in table[2:]] == [
        "| 0.1",
        "| 0.01",
        "| 0.001",
        "| 0.0001",
        "| 1e-05",
        "| 1e-06",
    ]
    assert {line.count("|") for line in table} == {9}
    assert "fewer than 3 fix no threshold" in table[-1]


def test_norms_are_said(stored: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, rows, _ = stored
    np.save(tmp_path / "e.npy", 20 * rows)
    assert run(["eval", "verification", *options]) == 0
    assert "they were normalized" in capsys.readouterr().err


def test_a_folder_with_each_flip(tiny_faces: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for flip in ("none", "average", "concatenate"):
        given = ["--data", str(tiny_faces), "--checkpoint", str(tiny_checkpoint), "--flip", flip, "--far", "0.1"]
        assert evaluate(*given, "--json") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert len({answer["auc"] for answer in found}) > 1
    for answer, flip in zip(found, ("none", "average", "concatenate"), strict=True):
        assert (answer["identities"], answer["embeddings"]) == (6, 36)
        assert answer["genuine_pairs"] == 6 * 15
        assert answer["sources"][0]["flip"] == flip
        assert answer["sources"][1]["pictures"] == 36


def test_a_pair_list(
    tiny_faces: Path,
    tiny_recognizer: Recognizer,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [f"id{a}/0.png id{b}/1.png {int(a == b)}" for a in range(6) for b in range(6)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    given = ["--data", str(tiny_faces), "--checkpoint", str(tiny_checkpoint), "--pairs", str(tmp_path / "pairs.txt")]
    assert evaluate(*given, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["genuine_pairs"], found["impostor_pairs"], found["embeddings"]) == (6, 30, 12)
    assert found["accuracy"] is None
    assert found["sources"][1]["pairs"] == 36


def test_a_bin(tiny_faces: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pickle

    pictures = [(tiny_faces / f"id{n % 6}" / f"{n % 5}.png").read_bytes() for n in range(40)]
    pictures[1::4] = pictures[::4]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((pictures, [n % 2 == 0 for n in range(20)])))
    given = ["--bin", str(tmp_path / "set.bin"), "--checkpoint", str(tiny_checkpoint)]
    assert evaluate(*given, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["genuine_pairs"], found["impostor_pairs"]) == (10, 10)
    assert len(found["accuracy"]["folds"]) == 10
    assert evaluate(*given) == 0
    assert "| accuracy, 10 folds |" in capsys.readouterr().out
    (tmp_path / "set.bin").write_bytes((tmp_path / "set.bin").read_bytes()[:3000])
    assert evaluate(*given) == 3
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "expected one of --embeddings, --data and --bin, got none"),
        (["--data", "x", "--bin", "y"], "got --data and --bin"),
        (["--embeddings", "x"], "--embeddings and --labels together"),
        (["--bin", "x", "--pairs", "y"], "--data with --pairs"),
        (["--embeddings", "x", "--labels", "y", "--flip", "average"], "--flip does not go with"),
        (["--bin", "x", "--far", "nan"], "--far between 0 and 1"),
        (["--bin", "x", "--flip", "twice"], "none, average, concatenate"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("one identity", "only one kind"),
        ("nan", "NaN or infinity in row 7"),
        ("few labels", "200 rows"),
        ("no embeddings", "e.npy"),
        ("cut off", "e.npy"),
        ("blank", "line 3 is blank"),
    ],
)
def test_bad_input(stored: tuple, spoil: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, rows, labels = stored
    names = [str(label) for label in labels]
    array, text = tmp_path / "e.npy", tmp_path / "l.txt"
    if spoil == "nan":
        rows[7] = np.nan
        np.save(array, rows)
    elif spoil == "cut off":
        array.write_bytes(array.read_bytes()[:-5])
    elif spoil == "no embeddings":
        array.unlink()
    else:
        names = {
            "one identity": ["a"] * 200,
            "few labels": names[:-1],
            "blank": [*names[:2], "", *names[3:]],
        }[spoil]
        text.write_text("\n".join(names) + "\n")
    assert evaluate(*options) == 3
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.count("\n") == 1
    assert not shown.out


@pytest.mark.slow
def test_torchrun_shares_the_pairs_and_speaks_once(stored: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*stored[0], "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "arcinvert", "eval", "verification", *stored[0], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == alone
