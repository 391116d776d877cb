"""Second moments: symmetric, additive, constant in memory, the same by the short way as by the long one."""

import pytest
import torch

from cl_core.linalg import (
    gram,
    gram_per_head,
    pulled_back_moment,
    second_moment,
    spectrum,
    unit_norm,
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def queries_and_keys(dtype=torch.float32, images=5, heads=4, tokens=9, width=6, model=24):
    queries = torch.randn(images, heads, tokens, width, generator=seeded(3), dtype=dtype) + 0.5
    return queries, torch.randn(heads, width, model, generator=seeded(4), dtype=dtype)


def test_a_second_moment_is_symmetric_positive_and_the_mean_of_outer_products():
    rows = torch.randn(3, 40, 7, generator=seeded(0), dtype=torch.float64)
    moment = second_moment(rows)
    by_hand = torch.stack([torch.stack([torch.outer(x, x) for x in group]).mean(0) for group in rows])
    torch.testing.assert_close(moment, by_hand)
    assert (moment - moment.mT).abs().max() <= 1e-15
    assert (torch.linalg.eigvalsh(moment) > 0).all()


def test_the_mean_is_not_removed():
    rows = torch.full((10, 3), 2.0)
    torch.testing.assert_close(second_moment(rows), torch.full((3, 3), 4.0))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_the_per_head_shortcut_equals_the_stacked_rows(dtype, tolerance):
    queries, keys = queries_and_keys(dtype)
    stacked = torch.einsum("bhnd,hdm->bhnm", queries, keys).flatten(0, 2)
    short = pulled_back_moment(gram_per_head(queries), keys)
    assert (short - gram(stacked)).abs().max() <= tolerance * gram(stacked).abs().max()
    full_width = queries.mean(1) @ keys.mean(0)  # heads mixed before the product: the tempting wrong way
    assert (short - gram(full_width.flatten(0, 1))).abs().max() > 0.1 * short.abs().max()


def test_the_shortcut_works_on_a_stack_of_layers():
    grams = torch.randn(3, 4, 10, 6, generator=seeded(5))
    grams, keys = grams.mT @ grams, queries_and_keys()[1]
    together = pulled_back_moment(grams, keys)
    one_by_one = torch.stack([sum(keys[h].mT @ layer[h] @ keys[h] for h in range(4)) for layer in grams])
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-4)


def test_attention_rows_give_a_moment_of_non_negative_entries_and_trace_below_one():
    attention = torch.softmax(torch.randn(200, 12, generator=seeded(9)), dim=-1)[:, :4]
    moment = second_moment(attention)
    assert (moment >= 0).all()
    assert moment.trace() < 1


def test_half_precision_and_autocast_accumulate_in_float32():
    rows = torch.randn(4000, 8, generator=seeded(10)) + 3
    assert gram(rows.bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(gram(rows), rows.double().mT.matmul(rows.double()).float(), rtol=1e-5, atol=1e-2)


def test_unit_norm_is_blind_to_scale_and_keeps_zero():
    moment = second_moment(torch.randn(30, 5, generator=seeded(11)))
    torch.testing.assert_close(unit_norm(7 * moment), unit_norm(moment))
    assert torch.linalg.matrix_norm(unit_norm(moment)).item() == pytest.approx(1, abs=1e-5)
    assert (unit_norm(torch.zeros(3, 3)) == 0).all()


def test_duplicating_rows_and_reordering_them_changes_nothing():
    rows = torch.randn(30, 5, generator=seeded(12))
    torch.testing.assert_close(second_moment(rows.repeat(2, 1)), second_moment(rows))
    torch.testing.assert_close(spectrum(second_moment(rows.flip(0))), spectrum(second_moment(rows)))


def test_errors_say_what_to_do():
    with pytest.raises(TypeError, match=r"rows must be a torch tensor, got list; wrap it"):
        gram([[1.0, 2.0]])
    with pytest.raises(ValueError, match="at least one row"):
        second_moment(torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"same H and d"):
        pulled_back_moment(torch.zeros(4, 5, 5), torch.zeros(4, 6, 24))
