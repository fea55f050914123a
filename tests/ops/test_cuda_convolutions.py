"""What can be said of the CUDA ops without a GPU: they are registered, and fake tensors on "cuda" pass through them."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rirn.ops._library import library

needs_cuda_kernels = pytest.mark.skipif(
    not library().build.get("cuda_archs"), reason=library().reason or "the library was built without CUDA"
)


@needs_cuda_kernels
@pytest.mark.parametrize("name", ["conv3x3_chain", "irm_update"])
def test_dispatch_keys(name):
    for op in (name, f"{name}_backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rirn::{op}", "CUDA")


def empty(*shape, memory_format=torch.contiguous_format):
    return torch.empty(*shape, dtype=torch.float16, device="cuda", memory_format=memory_format)


@needs_cuda_kernels
def test_fake_tensors_pass_through_irm_update():
    with FakeTensorMode():
        images = [empty(2, 20, 9, 7, memory_format=torch.channels_last) for _ in range(2)]
        outs = [40] * 5 + [20]
        weights, biases = [empty(o, 40, 3, 3) for o in outs], [empty(o) for o in outs]
        out = torch.ops.rirn.irm_update(*images, weights, biases)
        assert out.shape == (2, 20, 9, 7) and out.device.type == "cuda"
        assert out.is_contiguous(memory_format=torch.channels_last)
        inputs = [*images, *weights, *biases]
        grads = torch.ops.rirn.irm_update_backward(out, *images, weights, biases, (1 << 14) - 1)
        assert [(g.shape, g.device) for g in grads] == [(t.shape, t.device) for t in inputs]


@needs_cuda_kernels
def test_fake_tensors_pass_through_conv3x3_chain():
    with FakeTensorMode():
        images = [empty(2, c, 8, 6) for c in (4, 12)]
        weights, biases = [empty(20, 64, 3, 3), empty(8, 20, 3, 3)], [empty(20), empty(8)]
        options = [0.1, 1.0], [0, 0], True, True
        out = torch.ops.rirn.conv3x3_chain(images, weights, biases, *options)
        assert out.shape == (2, 2, 8, 6) and out.device.type == "cuda"
        inputs = [*images, *weights, *biases]
        grads = torch.ops.rirn.conv3x3_chain_backward(out, images, weights, biases, *options, (1 << 6) - 1)
        assert [(g.shape, g.device) for g in grads] == [(t.shape, t.device) for t in inputs]
