"""Modules and models within torch.compile(dynamic=True, fullgraph=True): any size with few graphs, and the same numbers."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from rirn.nn import ATB, DTB, FAC, GSA, IRM, ConvGRU, ConvLSTM, ConvSequential, Fuse, ResBlock
from tests.models.cases import quick, small

CONVOLUTIONS = (
    torch.nn.Conv2d(4, 4, 3, padding=1),
    torch.nn.LeakyReLU(0.2),
    torch.nn.Conv2d(4, 4, 5, stride=2, padding=2),
    torch.nn.Conv2d(4, 4, 1),
)
MODULES = {
    "ATB": (lambda: ATB(4), {"f_prev": 4, "f_cur": 4}),
    "ATB with decay": (lambda: ATB(4, decay=0.9, max_weight=1.2), {"f_prev": 4, "f_cur": 4}),
    "DTB": (lambda: DTB(4), {"f_prev": 4, "f_cur": 4}),
    "DTB of ESTRNN": (lambda: DTB(4, variant="estrnn-repo"), {"f_prev": 4, "f_cur": 4}),
    "IRM": (lambda: IRM(4), {"hidden": 4, "inner": 4}),
    "FAC": (FAC, {"features": 2, "kernels": 50}),
    "ConvGRU": (lambda: ConvGRU(3, 4), {"x": 3, "hidden": 4}),
    "ConvLSTM": (lambda: ConvLSTM(3, 4), {"x": 3, "hidden": 4, "cell": 4}),
    "ConvSequential": (lambda: ConvSequential(*CONVOLUTIONS), {"x": 4}),
    "GSA": (lambda: GSA(4, 3, 1), {"features": [4, 4, 4]}),
    "Fuse": (lambda: Fuse(8, 4, 1), {"tensors": [4, 4]}),
    "ResBlock": (lambda: ResBlock(4, 0.1), {"x": 4}),
}


def check(module, inputs, sizes):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(module, dynamic=True, fullgraph=True, backend="aot_eager")
    for size in sizes:
        named = inputs(*size)
        with torch.no_grad():
            found, wanted = tree_leaves(compiled(**named)), tree_leaves(module(**named))
        for got, want in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, want)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    torch._dynamo.reset()


@pytest.mark.parametrize("name", quick("ATB", "IRM", "ConvGRU", among=MODULES))
def test_modules(name):
    make, channels = MODULES[name]

    def inputs(n, h, w):
        def image(c):
            return [torch.rand(n, k, h, w) for k in c] if isinstance(c, list) else torch.rand(n, c, h, w)

        return {key: image(c) for key, c in channels.items()}

    torch.manual_seed(0)
    check(make(), inputs, [(2, 8, 12), (3, 12, 16), (4, 16, 10)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ifi-rnn+rirn", "strcnn+rirn", "stfan+rirn", "rdbn+rirn", "gru+rirn", "lstm+rirn", "estrnn"]
)
def test_models(name):
    check(
        small(name, torch.float32),
        lambda n, h, w: {"clip": torch.rand(n, 3, 3, h, w)},
        [(2, 16, 24), (3, 24, 32)],
    )
