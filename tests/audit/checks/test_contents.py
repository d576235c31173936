"""What lies beside the embeddings."""

from types import SimpleNamespace
from typing import Any

from arcinvert.audit.checks.contents import contents_findings
from arcinvert.audit.checks.finding import Finding
from arcinvert.audit.stores import Contents


def findings(**contents: Any) -> dict[str, Finding]:
    store: Any = SimpleNamespace(contents=Contents(**contents), count=7)
    return {finding.code: finding for finding in contents_findings(store)}


def test_faces_names_and_paths_beside_the_embeddings() -> None:
    row = {
        "face": b"raw", "img_blob": None, "x": b"\x89PNG....", "faces": 3, "jpg": {"bytes": b"..."}, "picture": 7,
        "e_mail": "a@b", "email": "a@b", "image_path": "/a", "who": "me",
    }  # fmt: skip
    found = findings(columns=row, identity="who")
    assert set(found) == {"faces", "names", "paths"}
    assert found["faces"].count == 4
    assert all(name in found["faces"].text for name in ("'face'", "'img_blob'", "'x'", "'jpg'"))
    assert found["faces"].severity == "problem"
    assert "'email', 'who'" in found["names"].text
    assert "'image_path'" in found["paths"].text
    assert findings(columns={"id": 1, "n": 2}) == {}


def test_what_the_format_reveals() -> None:
    found = findings(label_file="a.txt", tables=("b", "c"), quantization="stored as int8", normalized_on_load=True)
    assert {code: finding.count for code, finding in found.items()} == {
        "names": 1, "tables": 2, "quantized": 7, "distance": 7,
    }  # fmt: skip
    assert "'a.txt'" in found["names"].text
    assert findings(unread={"names": "it holds pickles"})["unread"] == Finding(
        "unread", "warning", "it holds pickles", 1
    )
