"""Images as files."""

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcinvert.errors import EnvironmentProblem
from arcinvert.synthesis.sheets import ROWS, contact_sheet, read_png, sheet_of_files, write_png


def test_sheets_of_many_targets_have_eight_in_a_row() -> None:
    images = [torch.full((112, 112, 3), i, dtype=torch.uint8) for i in range(10)]
    sheet = contact_sheet(images, 1)
    assert sheet.shape == (228, 8 * 116 - 4, 3)
    assert int(sheet[10, 7 * 116 + 10, 0]) == 7
    assert int(sheet[120, 116 + 10, 0]) == 9
    assert (sheet[120:, 2 * 116 :] == 255).all()
    assert contact_sheet(images[:3], 1).shape == (112, 3 * 116 - 4, 3)


def test_what_is_written_is_read_and_named_by_its_digest(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (112, 112, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    digest = write_png(tmp_path / "a.png", image)
    assert torch.equal(read_png(tmp_path / "a.png"), image)
    assert digest == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()


@pytest.mark.parametrize(("variations", "targets", "shown"), [(2, 70, ROWS * 2), (2, 3, 6), (1, 600, ROWS * 8)])
def test_a_sheet_of_files_ends_after_its_last_row(tmp_path: Path, variations: int, targets: int, shown: int) -> None:
    count = variations * targets
    for i in range(shown):  # the others are not even opened
        write_png(tmp_path / f"{i}.png", torch.full((2, 2, 3), i % 256, dtype=torch.uint8))
    paths = [tmp_path / f"{i}.png" for i in range(count)]
    columns = variations if variations > 1 else 8
    rows = -(-count // columns)
    assert sheet_of_files(paths, variations, tmp_path / "sheet.png") == {"rows": min(64, rows), "rows_in_all": rows}
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (min(64, rows) * 6 - 4, columns * 6 - 4, 3)
    assert pixels[-1, -1, 0] == (shown - 1) % 256


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        write_png(tmp_path / "a.png", torch.zeros(112, 112, 3, dtype=torch.uint8))
    assert list(tmp_path.iterdir()) == []
