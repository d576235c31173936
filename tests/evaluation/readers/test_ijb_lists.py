from pathlib import Path

import pytest

from arcinvert.errors import InputError
from arcinvert.evaluation.readers.ijb_lists import is_published, read_published

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
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_what_is_no_such_list(faces: str, pairs: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_published(*write(tmp_path, faces, pairs))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
