"""Rows of a table say what they rest on, and nothing where there is nothing."""

import numpy as np

from arcinvert.evaluation.metrics import operating_points
from arcinvert.evaluation.protocols.retrieval import Retrieval
from arcinvert.evaluation.tables import TableRow, markdown, point_rows, retrieval_rows


def test_a_rate_with_all_it_rests_on_and_one_that_is_missing() -> None:
    impostor = np.arange(100) / 100
    points = operating_points((0.1, 0.01), genuine=np.array([0.85, 0.95]), impostor=impostor)
    lines = markdown(point_rows("TAR@FAR", points))
    assert lines[2].startswith("| TAR@FAR=0.1 | 0.5000 | 0.0945 to 0.9055 | 0.8900 | 2 genuine, 100 impostor pairs |")
    assert lines[3].startswith("| TAR@FAR=0.01 | null |  |  | 2 genuine, 100 impostor pairs | 1 of 100")


def test_remarks_of_a_retrieval() -> None:
    found = retrieval_rows(Retrieval(0.5, 100, 7, 2, 900, 1, None))
    assert found == [
        TableRow(
            "MAP@100",
            0.5,
            "7 queries, 900 videos",
            note="2 queries without a video are left out; 1 queries have more than 100 videos and cannot reach 1",
        )
    ]
