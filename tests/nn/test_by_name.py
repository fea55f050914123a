"""Tensors of one shape are given by name, in the modules whose call would otherwise hide a swap."""

import inspect

import pytest
import torch

from rirn import nn, ops
from rirn.nn import ATB, DTB, IRM

NAMES = {ATB: ("f_prev", "f_cur"), DTB: ("f_prev", "f_cur"), IRM: ("hidden", "inner")}
CALLS = [(ATB, ""), (ATB, "maps"), (ATB, "logits"), (DTB, ""), (DTB, "maps"), (DTB, "logits"), (IRM, "")]


@pytest.mark.parametrize("kind, method", CALLS)
def test_tensors_by_position_are_refused(kind, method):
    module, (a, b) = kind(4), torch.rand(2, 1, 4, 6, 6)
    call = getattr(module, method) if method else module
    first, second = NAMES[kind]
    name = f"{kind.__name__}.{method}" if method else kind.__name__
    for args, named in (((a, b), {}), ((a,), {second: b}), ((a,), {})):
        with pytest.raises(
            TypeError, match=rf"^{name} takes its tensors by name.*\({first}=\.\.\., {second}=\.\.\.\)$"
        ):
            call(*args, **named)
    call(**{first: a, second: b})
    assert list(inspect.signature(call).parameters)[-2:] in ([first, second], ["args", "kwargs"])


@torch.no_grad()
def test_names_are_those_of_the_ops():
    f_prev, f_cur = torch.rand(2, 1, 4, 6, 6)
    atb, dtb, irm = ATB(4, max_weight=1.5), DTB(4), IRM(4)
    logits = atb.logits(f_prev=f_prev, f_cur=f_cur)
    want = ops.atb_blend(f_prev, f_cur, *logits, max_weight=1.5)
    assert torch.equal(atb(f_cur=f_cur, f_prev=f_prev), want)
    want = ops.dtb_blend(f_prev, f_cur, dtb.logits(f_prev=f_prev, f_cur=f_cur), dtb.beta)
    assert torch.equal(dtb(f_cur=f_cur, f_prev=f_prev), want)
    layers = (irm.joint, irm.res1.conv1, irm.res1.conv2, irm.res2.conv1, irm.res2.conv2, irm.out)
    weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
    assert torch.equal(irm(inner=f_prev, hidden=f_cur), ops.irm_update(f_cur, f_prev, weights, biases))


def test_no_other_module_takes_two_frames_by_position():
    for name in nn.__all__:
        kind = getattr(nn, name)
        if inspect.isclass(kind) and issubclass(kind, torch.nn.Module):
            parameters = inspect.signature(kind.forward).parameters.values()
            by_position = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
            assert not {"f_prev", "f_cur", "inner"} & set(by_position), name
