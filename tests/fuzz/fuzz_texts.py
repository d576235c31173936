"""Lists of evaluations, journals, manifests and reports."""

import dataclasses
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

from fuzz_target import Target, folder_of_tests

from arcinvert import safe_pickle
from arcinvert.audit.report import LeakageReport
from arcinvert.evaluation.readers.ijb_lists import is_published, read_published, read_published_sets, read_scores
from arcinvert.evaluation.readers.lists import read_labels, read_pairs
from arcinvert.evaluation.readers.template_lists import read_members, read_sets, read_template_pairs
from arcinvert.synthesis.journal import append, finished, refuse_other_run

with folder_of_tests("audit/page"):
    from page_report import example

RUN = {"version": 2, "targets": "0" * 64, "settings": {"steps": 3}}
ROW = {"target": 0, "variation": 1, "sha256": "0" * 64, "cosine": 0.5}
TEMPLATES = ("a", "b", "c")


def _labels(folder: Path) -> Sequence[bytes]:
    return [b"anna\nanna\nbert\n", "ä\r\nö\r\n".encode()]


def _pairs(folder: Path) -> Sequence[bytes]:
    for name in ("a/a_0001.jpg", "a/a_0002.jpg", "b/b_0001.jpg", "b/b_0002.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    lfw = "1\t1\na\t1\t2\na\t1\tb\t1\n"
    return [lfw.encode(), b"a/a_0001.jpg,a/a_0002.jpg,1\na/a_0001.jpg b/b_0001.jpg 0\n", b"2\na 1 2\nb 1 2\na 1 b 1\n"]


def _members(folder: Path) -> Sequence[bytes]:
    return [b"template,subject,media,row,score\na,s,m,0,0.5\na,s,n,1,0.25\nb,t,m,2,1\n"]


def _template_pairs(folder: Path) -> Sequence[bytes]:
    return [b"template_a,template_b\na,b\nb,c\n"]


def _sets(folder: Path) -> Sequence[bytes]:
    return [b"template,set\na,probe\nb,G1\nc,G2\n"]


def _faces(folder: Path) -> Sequence[bytes]:
    (folder / "pairs.txt").write_text("1 2 1\n1 3 0\n")
    return [b"0.jpg 1 10\n1.jpg 2 11\n2.jpg 3 11\n"]


def _template_labels(folder: Path) -> Sequence[bytes]:
    (folder / "faces.txt").write_text("0.jpg 1 10\n1.jpg 2 11\n2.jpg 3 11\n")
    return [b"1 2 1\n1 3 0\n"]


def _scores(folder: Path) -> Sequence[bytes]:
    return ["".join(f"{i}.jpg {' '.join(['1.5'] * 10)} 0.{i}\n" for i in range(3)).encode()]


def _searched(folder: Path) -> Sequence[bytes]:
    _template_labels(folder)
    (folder / "probes.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,7,0.jpg\n2,8,1.jpg\n")
    return [b"TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,7,0.jpg\n3,9,2.jpg\n"]


def _read_gallery(path: Path) -> None:
    read_published_sets([path.with_name("probes.csv"), path], path.with_name("faces.txt"))


def _read_faces(path: Path) -> None:
    is_published(path)
    read_published(path, path.with_name("pairs.txt"))


def _journal(folder: Path) -> Sequence[bytes]:
    return [b"".join(json.dumps(line).encode() + b"\n" for line in ({"run": RUN}, ROW, ROW | {"variation": 2}))]


def _manifest(folder: Path) -> Sequence[bytes]:
    return [json.dumps({"run": RUN, "results": [ROW]}).encode()]


def _resume(path: Path) -> None:
    """As a job does that finds its folder."""
    try:
        refuse_other_run(path.parent, RUN)
    finally:
        finished(path.parent, RUN)
    if path.suffix == ".jsonl":
        append(path.parent, 0, RUN, ROW)


def _report(folder: Path) -> Sequence[bytes]:
    made = example()
    judges = tuple(dataclasses.replace(judge, digest="0" * 64) for judge in made.judges)
    return [json.dumps(dataclasses.replace(made, judges=judges).to_json()).encode()]


def _pickles(folder: Path) -> Sequence[bytes]:
    import numpy as np

    values = [([b"jpeg"] * 3, [True, False]), np.arange(6, dtype="u1").reshape(2, 3), {"a": 1.5, "b": [None, {2, 3}]}]
    return [pickle.dumps(value, protocol) for value in values for protocol in (0, 2, 4)]


def _read_pickle(path: Path) -> None:
    found = safe_pickle.read_pickle(path.read_bytes(), "the pickle")
    for use in (safe_pickle.items, lambda value: safe_pickle.blob(value, 1 << 20), safe_pickle.truth, safe_pickle.text):
        try:
            use(found)
        except safe_pickle.DAMAGED:
            continue


TARGETS = [
    Target("labels", "labels.txt", _labels, read_labels),
    Target("pair list", "pairs.txt", _pairs, lambda path: read_pairs(path, path.parent)),
    Target("template members", "members.csv", _members, read_members),
    Target("template pairs", "pairs.csv", _template_pairs, lambda path: read_template_pairs(path, TEMPLATES)),
    Target("template sets", "sets.csv", _sets, lambda path: read_sets(path, TEMPLATES)),
    Target("faces of IJB", "faces.txt", _faces, _read_faces),
    Target("pairs of IJB", "pairs.txt", _template_labels, lambda p: read_published(p.with_name("faces.txt"), p)),
    Target("scores of IJB", "scores.txt", _scores, lambda path: read_scores(path, 3)),
    Target("gallery of IJB", "gallery.csv", _searched, _read_gallery),
    Target("journal", "journal.0.jsonl", _journal, _resume),
    Target("manifest", "manifest.json", _manifest, _resume),
    Target("report", "report.json", _report, LeakageReport.read),
    Target("pickle", "file.pkl", _pickles, _read_pickle),
]
