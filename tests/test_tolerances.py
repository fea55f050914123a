"""The comparison itself: it must pass what is equal and go red on anything else."""

import pytest
import torch

from tests.tolerances import TABLE, Tolerance, assert_close, errors

STRICT = Tolerance(1e-6, 0, 1e-7, 0, "for this test")


def test_equal_passes():
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert_close(x, x.clone(), STRICT)
    assert_close(x[:0], x[:0], STRICT)


@pytest.mark.parametrize("bad", [1.01, float("nan"), float("inf"), float("-inf")])
def test_one_wrong_element_goes_red(bad):
    truth = torch.ones(1000)
    got = truth.clone()
    got[617] = bad
    with pytest.raises(AssertionError, match="max error"):
        assert_close(got, truth, STRICT)


def test_small_error_everywhere_goes_red():
    with pytest.raises(AssertionError, match="rms error"):
        assert_close(torch.ones(1000) + 5e-7, torch.ones(1000), STRICT)


def test_broadcast_is_not_equality():
    with pytest.raises(AssertionError, match="shape"):
        errors(torch.ones(1), torch.ones(4))


def test_limits_stay_near_what_was_seen():
    for key, row in TABLE.items():
        assert row.max_seen < row.max <= 12 * row.max_seen, key
        assert row.rms_seen < row.rms <= 12 * row.rms_seen, key
