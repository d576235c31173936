import pytest
import torch

from arcinvert.quantize import dequantize, quantize

ROWS = torch.tensor([1e-3, 1, 1e3, 0])[:, None, None]


@pytest.mark.parametrize("bits", [2, 8])
def test_symmetric_rows_are_right_to_half_a_level(bits: int) -> None:
    values = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)) * ROWS
    stored, scale = quantize(values, bits)
    assert stored.dtype == torch.int8
    assert stored[:3].flatten(1).abs().amax(1).tolist() == [2 ** (bits - 1) - 1] * 3
    assert bool(((dequantize(stored, scale) - values).abs() <= 0.501 * scale.view(-1, 1, 1)).all())


def test_rows_with_an_offset_use_all_levels() -> None:
    values = (torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0)) + 9) * ROWS
    stored, scale = quantize(values, offset=True)
    assert stored.dtype == torch.int8
    assert stored.shape == values.shape
    assert stored[:3].flatten(1).amin(1).tolist() == [-127] * 3
    assert stored[:3].flatten(1).amax(1).tolist() == [127] * 3
    apart = (dequantize(stored, scale) - values).abs() - 1e-6 * values.abs()
    assert bool((apart <= 0.501 * scale[:, 1].view(-1, 1, 1)).all())


@pytest.mark.parametrize("shape", [(3,), (4, 1), (4, 5), ()])
def test_a_scale_of_another_tensor_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="scale for each row"):
        dequantize(torch.zeros(4, 5, dtype=torch.int8), torch.ones(shape))
