"""One tensor whose rows have gaps between them, among others that have none."""

import pytest
import torch
from torch import Tensor

from rirn.ops.spec import OPS
from tests.ops.calls import arguments
from tests.ops.cases import Case, lay_out
from tests.ops.contract import as_tuple

SIZE = (2, 4, 3, 5)
CALLS = [(name, Case(*SIZE)) for name, op in OPS.items() if op.operations]
CALLS += [("atb_blend", Case(*SIZE, logits="11"))]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(("op", "case"), CALLS, ids=str)
def test_rows_with_gaps(op, case, backward):
    args = arguments(op, case, backward=backward)
    function = getattr(torch.ops.rirn, f"{op}_backward" if backward else op)
    want = as_tuple(function(*args))
    for i, arg in enumerate(args):
        if isinstance(arg, Tensor) and arg.ndim == 4:
            got = as_tuple(function(*args[:i], lay_out(arg, "row_gaps"), *args[i + 1 :]))
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
