from pathlib import Path

import pytest

from arcinvert.errors import InputError
from arcinvert.evaluation.readers.ijb_lists import is_published, read_published, read_published_sets, read_scores

FACES = "1.jpg 7 500\n2.jpg 7 500\n3.jpg 7 501\n4.jpg 3 502\n5.jpg 12 503\n6.jpg 20 504\n"
PAIRS = "7 3 1\n3 12 1\n7 20 0\n7 12 1\n"


def write(folder: Path, faces: str, pairs: str) -> tuple[Path, Path]:
    (folder / "faces.txt").write_text(faces)
    (folder / "pairs.txt").write_text(pairs)
    return folder / "faces.txt", folder / "pairs.txt"


def test_lists_as_published(tmp_path: Path) -> None:
    faces, pairs = write(tmp_path, FACES, PAIRS)
    assert is_published(faces)
    members, compared = read_published(faces, pairs)
    assert members.templates.tolist() == [1, 1, 1, 0, 2, 3]
    assert members.media.tolist() == [0, 0, 1, 2, 3, 4]
    assert members.rows.tolist() == list(range(6))
    assert compared.tolist() == [[1, 0], [0, 2], [1, 3], [1, 2]]
    same = members.subjects[compared[:, 0]] == members.subjects[compared[:, 1]]
    assert same.tolist() == [True, True, False, True]


def test_our_own_lists_are_not_such(tmp_path: Path) -> None:
    faces, _ = write(tmp_path, "template,subject,media,row\na,A,m,0\n", "")
    assert not is_published(faces)


@pytest.mark.parametrize(
    ("faces", "pairs", "message"),
    [
        (FACES, "7 9 1\n", "pair 1: no face makes template 9"),
        (FACES, "7 99 0\n", "pair 1: no face makes template 99"),
        (FACES, PAIRS.replace("7 12 1", "7 12 0"), "pair 4: templates 7 and 12 are two people"),
        (FACES, "7 3 2\n", "expected 0 or 1, got 2"),
        (FACES, "template_a,template_b\n7,3\n", "expected lines 'template template 0|1'"),
        (FACES + "7.jpg x 1\n", PAIRS, "'x'"),
        (FACES, "", "found none"),
    ],
)
def test_what_is_no_such_list(faces: str, pairs: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_published(*write(tmp_path, faces, pairs))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n"


def write_sets(folder: Path, **sets: str) -> list[Path]:
    for name, lines in sets.items():
        (folder / f"ijbc_1N_{name}.csv").write_text(HEADER + lines)
    return sorted(folder.glob("*.csv"))


def test_sets_of_1_to_n(tmp_path: Path) -> None:
    faces, _ = write(tmp_path, FACES, PAIRS)
    lists = write_sets(
        tmp_path, probe_mixed="7,40,img/1.jpg\n7,40,img/2.jpg\n", gallery_G1="3,40,a\n", gallery_G2="12,41,b\n"
    )
    subjects, probes, galleries = read_published_sets(lists, faces)
    assert subjects.tolist() == [0, 0, 1, 2]  # templates 3, 7, 12 and 20, which is in no list
    assert probes.tolist() == [1]
    assert [gallery.tolist() for gallery in galleries] == [[0], [2]]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"probe_mixed": "7,40\n"}, "no list of a gallery"),
        ({"gallery_G1": "7,40\n"}, "`probe` in its name"),
        ({"probe_mixed": "7,40\n", "gallery_G1": "9,40\n"}, "no face makes template 9"),
        ({"probe_mixed": "7,40\n", "gallery_G1": "7,41\n"}, "of subjects"),
        ({"probe_mixed": "7;40\n", "gallery_G1": "7,41\n"}, "template,subject"),
    ],
)
def test_what_are_no_sets(sets: dict[str, str], message: str, tmp_path: Path) -> None:
    faces, _ = write(tmp_path, FACES, PAIRS)
    with pytest.raises(InputError) as caught:
        read_published_sets(write_sets(tmp_path, **sets), faces)
    assert message in str(caught.value)


def test_scores_of_faces(tmp_path: Path) -> None:
    points = " ".join(["1.5"] * 10)
    path = tmp_path / "ijbc_name_5pts_score.txt"
    path.write_text(f"1.jpg {points} 0.5\n2.jpg {points} 0.875\n")
    assert read_scores(path, 2).tolist() == [0.5, 0.875]
    for count, bad, message in (
        (3, "", "each of 3 faces"),
        (3, f"3.jpg {points} -1\n", "face 3"),
        (3, "3.jpg 1\n", "5"),
    ):
        (tmp_path / "bad.txt").write_text(path.read_text() + bad)
        with pytest.raises(InputError, match=message):
            read_scores(tmp_path / "bad.txt", count)
