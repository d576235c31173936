"""``arcinvert eval identification|templates|retrieval|angles`` through the command line."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcinvert.cli import run
from arcinvert.evaluation.embedding import embed_folder
from arcinvert.evaluation.protocols.angles import angle_statistics
from arcinvert.evaluation.protocols.identification import identify
from arcinvert.evaluation.protocols.labeled_sets import identify_folder, retrieve_folder, template_folder
from arcinvert.recognizer import Recognizer

pytestmark = pytest.mark.usefixtures("as_found")

COMMANDS = ("identification", "templates", "retrieval", "angles")


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings are out of the way."""
    for name in [name for name in os.environ if name.startswith("ARCINVERT_CHECKPOINT")]:
        monkeypatch.delenv(name)


def save(folder: Path, name: str, rows: np.ndarray, labels: list[str]) -> tuple[str, str]:
    np.save(folder / f"{name}.npy", rows)
    (folder / f"{name}.txt").write_text("".join(f"{label}\n" for label in labels))
    return str(folder / f"{name}.npy"), str(folder / f"{name}.txt")


def people(seed: int, labels: np.ndarray) -> np.ndarray:
    centers = np.random.default_rng(9).normal(size=(50, 12))
    rows = centers[labels] + 0.8 * np.random.default_rng(seed).normal(size=(len(labels), 12))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


LABELS = np.repeat(np.arange(12), 4)
ROWS = people(0, LABELS)


@pytest.fixture
def stored(tmp_path: Path) -> list[str]:
    """Options that name twelve identities of four embeddings."""
    rows, labels = save(tmp_path, "e", ROWS, [f"p{n:02d}" for n in LABELS])
    return ["--embeddings", rows, "--labels", labels]


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["-q", "eval", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def as_json(value: Any) -> Any:
    import dataclasses

    return json.loads(json.dumps(dataclasses.asdict(value)))


def test_json_of_stored_embeddings_is_that_of_the_functions(
    stored: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(capsys, "identification", *stored)
    one, among = identify_folder(ROWS, LABELS)
    assert found["identification"] == as_json(one)
    assert found["megaface"] == as_json(among)
    found = ask(capsys, "templates", *stored)
    assert [found["verification"], found["identification"]] == [as_json(part) for part in template_folder(ROWS, LABELS)]
    found = ask(capsys, "retrieval", *stored, "--top", "3")
    assert found["retrieval"] == as_json(retrieve_folder(ROWS, LABELS, top=3))
    found = ask(capsys, "angles", *stored)
    assert found["angles"] == as_json(angle_statistics(ROWS, LABELS))
    for source, path in zip(found["sources"], stored[1::2], strict=True):
        assert source["file"] == path
        assert source["sha256"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
        assert source["rows"] == 48
    assert found["protocol"] == "angles"


@pytest.mark.parametrize("command", COMMANDS)
def test_without_json_a_markdown_table(command: str, stored: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-q", "eval", command, *stored]) == 0
    lines = capsys.readouterr().out.splitlines()
    end = lines.index("")
    assert lines[0] == "| figure | value | 95 % | threshold | over | remark |"
    assert {line.count("|") for line in lines[:end]} == {7}
    assert end > 2
    assert len(lines) == end + 3
    assert "sha256" in lines[-1]


def test_gallery_probes_and_distractors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = np.array([4, 1, 2, 3])
    wanted = np.array([2, 2, 7, 4, 1, 1, 9])
    gallery = save(tmp_path, "g", people(1, names), [f"p{n}" for n in names])
    probes = save(tmp_path, "p", people(2, wanted), [f"p{n}" for n in wanted])
    distractors = save(tmp_path, "d", people(3, np.arange(20, 50)), [])
    options = ["--gallery", gallery[0], "--gallery-labels", gallery[1], "--probes", probes[0]]
    options += ["--probe-labels", probes[1], "--distractors", distractors[0], "--engine", "numpy", "--max-rank", "4"]
    found = ask(capsys, "identification", *options)
    expected = identify(
        people(1, names),
        people(2, wanted),
        gallery_labels=names,
        probe_labels=wanted,
        distractors=people(3, np.arange(20, 50)),
        max_rank=4,
        engine="numpy",
    )
    assert found["identification"] == as_json(expected)
    assert found["identification"]["mated"] == 5
    assert found["megaface"]["pairs"] == 2 * (3 + 3 + 1)  # 1 and 2 have three pictures each, 4 has two
    assert len(found["sources"]) == 5


def test_templates_by_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.repeat(np.eye(4), 2, axis=0)  # persons 0..3, two pictures each
    embeddings, _ = save(tmp_path, "e", rows, [])
    lines = [f"t{row},s{row // 2},m{row},{row}" for row in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["template,subject,media,row", *lines]))
    every = [f"t{a},t{b}" for a in range(8) for b in range(a)]
    (tmp_path / "p.csv").write_text("\n".join(["template_a,template_b", *every]))
    sets = ["t0,g1", "t2,g1", "t4,g2", "t6,g2", *(f"t{row},probe" for row in (1, 3, 5, 7))]
    (tmp_path / "s.csv").write_text("\n".join(["template,set", *sets]))
    options = ["--embeddings", embeddings, "--templates", str(tmp_path / "t.csv"), "--pairs", str(tmp_path / "p.csv")]
    found = ask(capsys, "templates", *options, "--galleries", str(tmp_path / "s.csv"))
    assert found["verification"]["points"][0]["tar"] is None  # 24 impostor pairs do not make a rate of 0.1
    assert found["verification"]["points"][0]["genuine_pairs"] == 4
    assert found["identification"]["rank1"] == 1.0
    assert len(found["identification"]["galleries"]) == 2
    assert len(found["sources"]) == 4
    plain = ask(capsys, "templates", *options)
    assert plain["identification"] is None
    (tmp_path / "faces.txt").write_text("\n".join(f"{row}.jpg {row} {row}" for row in range(8)))
    labels = [f"{a} {b} {int(a // 2 == b // 2)}" for a in range(8) for b in range(a)]
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    options[3], options[5] = str(tmp_path / "faces.txt"), str(tmp_path / "labels.txt")
    assert ask(capsys, "templates", *options)["verification"] == plain["verification"]
    for name, templates in {"gallery_G1": (0, 2), "gallery_G2": (4, 6), "probe_mixed": (1, 3, 5, 7)}.items():
        (tmp_path / f"1N_{name}.csv").write_text("T,S\n" + "".join(f"{t},{t // 2}\n" for t in templates))
        options += ["--galleries", str(tmp_path / f"1N_{name}.csv")]
    (tmp_path / "scores.txt").write_text("".join(f"{row}.jpg {'1 ' * 10}0.5\n" for row in range(8)))
    published = ask(capsys, "templates", *options, "--scores", str(tmp_path / "scores.txt"))
    assert published["identification"] == found["identification"]
    assert len(published["sources"]) == 7


def test_queries_and_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = save(tmp_path, "q", np.eye(3)[:2], ["b", "c"])
    videos = save(tmp_path, "v", np.eye(3)[[0, 1, 2]], ["b", "a", "c"])
    options = ["--queries", queries[0], "--query-labels", queries[1]]
    options += ["--videos", videos[0], "--video-labels", videos[1]]
    found = ask(capsys, "retrieval", *options)
    assert found["retrieval"]["map"] == pytest.approx((1 + 1 / 3) / 2)  # c ties with a, and comes after it and b


def test_class_centers(tmp_path: Path, stored: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    centers, _ = save(tmp_path, "w", people(5, np.arange(12)), [])
    found = ask(capsys, "angles", *stored, "--centers", centers)
    assert found["angles"] == as_json(angle_statistics(ROWS, LABELS, centers=people(5, np.arange(12))))
    assert len(found["sources"]) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_crops(
    command: str, tiny_faces: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(capsys, command, "--data", str(tiny_faces), "--checkpoint", str(tiny_checkpoint), "--device", "cpu")
    network, folder = found["sources"]
    rows, labels, files, digest, _ = embed_folder(Recognizer.load(tiny_checkpoint), tiny_faces)
    assert (folder["sha256"], folder["pictures"], folder["identities"]) == (digest, len(files), 6)
    assert network["checkpoint"] == str(tiny_checkpoint)
    expected: dict[str, Any] = {
        "identification": lambda: as_json(identify_folder(rows, labels)[0]),
        "templates": lambda: as_json(template_folder(rows, labels)[1]),
        "retrieval": lambda: as_json(retrieve_folder(rows, labels)),
        "angles": lambda: as_json(angle_statistics(rows, labels)),
    }
    key = "identification" if command == "templates" else command
    assert found[key] == expected[command]()


def test_a_damaged_picture_is_left_out(
    tiny_faces: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_faces, tmp_path / "in")
    (tmp_path / "in" / "id0" / "1.png").write_bytes((tiny_faces / "id0" / "1.png").read_bytes()[:500])
    for command in ("angles", "verification"):
        words = ["eval", command, "--data", str(tmp_path / "in"), "--checkpoint", str(tiny_checkpoint), "--json"]
        assert run(words) == 4
        shown = capsys.readouterr()
        assert json.loads(shown.out)["sources"][1]["skipped"] == 1
        assert "id0/1.png" in shown.err
        assert run([*words, "--strict"]) == 3


# --- bad input


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert run(["-q", "eval", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_bad_embeddings_end_with_3(tmp_path: Path, stored: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = ROWS.copy()
    rows[7, 3] = np.nan
    broken, _ = save(tmp_path, "nan", rows, [])
    assert "row 7" in refused(capsys, 3, "angles", "--embeddings", broken, *stored[2:])
    short, _ = save(tmp_path, "short", ROWS[:9], [])
    assert "9 rows, but" in refused(capsys, 3, "angles", "--embeddings", short, *stored[2:])
    assert "gone.npy" in refused(capsys, 3, "angles", "--embeddings", str(tmp_path / "gone.npy"), *stored[2:])
    assert "gone.txt" in refused(capsys, 3, "angles", *stored[:2], "--labels", str(tmp_path / "gone.txt"))
    assert "folder of identities" in refused(capsys, 3, "angles", "--data", str(tmp_path / "gone"))


def test_one_identity_gives_null_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, labels = save(tmp_path, "one", ROWS[:4], ["p"] * 4)
    options = ["--embeddings", rows, "--labels", labels]
    found = ask(capsys, "identification", *options)["identification"]
    assert (found["cmc"], "one identity" in found["note"]) == (None, True)
    found = ask(capsys, "templates", *options)["verification"]
    assert [point["tar"] for point in found["points"]] == [None] * 6
    assert "no impostor pairs" in found["note"]
    found = ask(capsys, "retrieval", *options)["retrieval"]
    assert (found["map"], "one identity" in found["note"]) == (None, True)
    found = ask(capsys, "angles", *options)["angles"]
    assert (found["inter"], "one identity" in found["notes"][0]) == (None, True)
    for command in COMMANDS:
        assert run(["-q", "eval", command, *options]) == 0
        assert "| null |" in capsys.readouterr().out


def test_sets_of_different_size_end_with_3(
    tmp_path: Path, stored: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other, _ = save(tmp_path, "other", np.eye(5), [])
    assert "12-d" in refused(capsys, 3, "identification", *stored, "--distractors", other)
    assert "(12, 12)" in refused(capsys, 3, "angles", *stored, "--centers", other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["identification"], "expected --data DIR"),
        (["angles", "--embeddings", "e.npy"], "--embeddings and --labels together"),
        (["retrieval", "--embeddings", "e.npy", "--labels", "l.txt", "--data", "d"], "--data does not go with"),
        (["angles", "--embeddings", "e.npy", "--labels", "l.txt", "--flip", "average"], "--flip does not go with"),
        (["identification", "--probes", "p.npy"], "--probes needs --gallery"),
        (["identification", "--gallery", "g.npy"], "expected --gallery-labels"),
        (["identification", "--gallery", "g.npy", "--data", "d"], "--data does not go with --gallery"),
        (["templates", "--pairs", "p.csv"], "--pairs needs --templates"),
        (["templates", "--templates", "t.csv"], "expected --embeddings and --pairs"),
        (["retrieval", "--videos", "v.npy"], "--videos needs --queries"),
        (["retrieval", "--queries", "v.npy"], "expected --query-labels"),
        (["retrieval", "--top", "0"], "--top"),
    ],
)
def test_options_that_do_not_go_together_end_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, 2, *arguments)


def test_names_with_control_characters_stay_on_their_line(
    tmp_path: Path, stored: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    odd, _ = save(tmp_path, "odd\n\x1b[31m", ROWS, [])
    assert run(["-q", "eval", "angles", "--embeddings", odd, *stored[2:]]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "odd\\n\\x1b[31m.npy" in out
