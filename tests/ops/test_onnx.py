"""A module with ops is exported on the reference backend, and computes the same in onnxruntime."""

import pytest
import torch
from torch import nn

from rirn.nn import ATB
from rirn.ops import use_backend


class Blend(nn.Module):
    """Tensors by position, as the exporter wants them for dynamic shapes."""

    def __init__(self):
        super().__init__()
        self.atb = ATB(8)

    def forward(self, f_prev, f_cur):  # the state goes in and comes out: the graph has no memory
        return self.atb(f_prev=f_prev, f_cur=f_cur)


def test_a_module_for_any_size(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    module, tensors = Blend().eval(), torch.rand(2, 1, 8, 12, 16).unbind(0)
    free = {2: "height", 3: "width"}
    with use_backend("reference"):
        program = torch.onnx.export(
            module,
            tensors,
            dynamo=True,
            verbose=False,
            input_names=["f_prev", "f_cur"],
            dynamic_shapes=(free, free),
        )
    program.save(tmp_path / "blend.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "blend.onnx")
    f_prev, f_cur = torch.rand(2, 1, 8, 20, 10)
    (blended,) = session.run(None, {"f_prev": f_prev.numpy(), "f_cur": f_cur.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(blended), module(f_prev, f_cur), atol=1e-5, rtol=0
    )  # by the fused ops
