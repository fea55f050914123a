"""The ops inside torch.compile(fullgraph=True) and torch.export: no graph break, no recompile storm, same numbers."""

import threading

import pytest
import torch

from rirn.errors import RirnError
from rirn.ops import atb_blend, backends, conv3x3_chain, irm_update, use_backend
from tests.ops.calls import arguments, call
from tests.ops.cases import Case, atb_inputs, irm_inputs
from tests.ops.contract import as_tuple
from tests.tolerances import TABLE, assert_close

SIZES = [(2, 6, 9), (3, 7, 11), (2, 5, 13), (4, 8, 6)]


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def step(f_prev, f_cur, logit_prev, logit_cur, weights, biases):
    blended = atb_blend(f_prev, f_cur, logit_prev, logit_cur, max_weight=1.5)
    return irm_update(blended, f_cur, weights, biases).square().mean() + blended.mean()


def blend_step(f_prev, f_cur, logit_prev, logit_cur, weights, biases):
    blended = atb_blend(f_prev, f_cur, logit_prev, logit_cur, max_weight=1.5)
    return blended.square().mean() + sum(w.mean() for w in (*weights, *biases))


def inputs_of(n, h, w, layout="contiguous"):
    case = Case(n, 3, h, w, layout=layout)
    flat = irm_inputs(case)
    return [*atb_inputs(case), flat[2:8], flat[8:]]


def train(function, args):
    leaves = [*args[:4], *args[4], *args[5]]
    loss = function(*args)
    return [loss, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("columns", (9, 64))
def test_the_choice_of_auto_is_no_graph_break(columns):
    """Narrow images are torch's; wide ones are a kernel's, but for that of a processor without AVX."""
    x, weight, bias = torch.rand(1, 4, 3, columns), torch.rand(4, 4, 3, 3), torch.rand(4)

    def chain(x):
        return conv3x3_chain([x], [weight], [bias], [0], [False])

    with torch.no_grad():
        compiled = torch.compile(chain, fullgraph=True, backend="eager")
        assert_close(compiled(x), chain(x), TABLE["conv3x3_chain", "output", "fp32"])


@pytest.mark.parametrize(("function", "backend"), [(blend_step, "reference"), (step, "auto")])
def test_training_step_with_changing_sizes(function, backend):
    with use_backend(backend):
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        for size in SIZES:
            args = inputs_of(*size)
            for got, want in zip(train(compiled, args), train(function, args), strict=True):
                assert_close(got, want, TABLE["irm_update", "gradient", "fp32"])
    assert graphs() <= 2, "one graph for the first size, one for all later ones"


def test_inductor_training_step():
    compiled = torch.compile(step, fullgraph=True)
    args = inputs_of(2, 6, 9, "channels_last")
    for got, want in zip(train(compiled, args), train(step, args), strict=True):
        assert_close(got, want, TABLE["irm_update", "gradient", "fp32"])


def test_a_change_of_backend_is_seen(monkeypatch):
    compiled = torch.compile(lambda *t: atb_blend(*t), fullgraph=True, backend="eager")
    inputs = [t.detach() for t in atb_inputs(Case(1, 2, 3, 4))]

    def run():
        compiled(*inputs)
        return graphs()

    monkeypatch.setattr(backends, "_environment", "auto")
    assert run() == 1
    with use_backend("reference"):
        assert run() == 2
        assert run() == 2
    assert run() == 2
    monkeypatch.setattr(backends, "_environment", "reference")
    assert run() == 3


def test_use_backend_of_another_thread_does_not_leak_in():
    """The choice is guarded per thread: what one thread compiled must not answer for another."""
    chosen = []

    def watch(graph, example_inputs):
        targets = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        chosen.append("fused" if any("rirn" in t for t in targets) else "reference")
        return graph.forward

    compiled = torch.compile(lambda *t: atb_blend(*t, max_weight=0.5), fullgraph=True, backend=watch)
    inputs = [t.detach() for t in atb_inputs(Case(1, 2, 3, 4))]
    with use_backend("reference"):
        compiled(*inputs)
        thread = threading.Thread(target=lambda: compiled(*inputs))
        thread.start()
        thread.join()
        compiled(*inputs)
    assert chosen[0] == "reference"
    assert len(chosen) == 2, "the other thread has to compile for its own backend"


def test_refusal_keeps_its_words():
    compiled = torch.compile(lambda x: atb_blend(x, x, x, x, backend="cuda"), fullgraph=True, backend="eager")
    with pytest.raises(
        Exception, match=r"'cuda' .* cannot run atb_blend: it works on CUDA tensors"
    ) as caught:
        compiled(torch.zeros(1, 1, 2, 2))
    assert isinstance(caught.value, RirnError) or "RirnError" in str(caught.value)


@pytest.mark.parametrize("strict", [False, True])
def test_export_with_a_dynamic_size(strict):
    class Blend(torch.nn.Module):
        def forward(self, f_prev, f_cur, logit_prev, logit_cur):
            return atb_blend(f_prev, f_cur, logit_prev, logit_cur, max_weight=2.0)

    inputs = tuple(t.detach() for t in atb_inputs(Case(2, 3, 8, 6)))
    width = torch.export.Dim("width", min=2, max=64)
    program = torch.export.export(Blend(), inputs, dynamic_shapes=[{3: width}] * 4, strict=strict)
    other = [t.detach() for t in atb_inputs(Case(2, 3, 8, 11))]
    assert torch.equal(program.module()(*other), Blend()(*other))


@pytest.mark.parametrize("backend", ["cpu", "reference", "auto"])
@pytest.mark.parametrize("op", backends.OPS)
def test_everything_about_the_inputs_may_be_dynamic(op, backend):
    """One graph for all sizes; of numbers torch makes constants."""
    if backend != "auto" and backends.why_not(backend, op) is not None:
        pytest.skip(backends.why_not(backend, op))

    def run(args):
        return as_tuple(call(op, args, backend))

    compiled = torch.compile(run, dynamic=True, fullgraph=True, backend="aot_eager")
    for case in (Case(2, 3, 8, 40), Case(3, 3, 6, 64), Case(4, 3, 9, 50)):
        args = arguments(op, case)
        for got, want in zip(compiled(args), run(args), strict=True):
            assert torch.equal(got, want)
    assert graphs() <= 2


@pytest.mark.parametrize("max_weight", [-0.5, float("nan"), float("inf")])
def test_a_dynamic_number_is_checked(max_weight):
    compiled = torch.compile(
        lambda x, w: atb_blend(x, x, x, x, max_weight=w), dynamic=True, fullgraph=True, backend="eager"
    )
    x = torch.rand(1, 2, 3, 4)
    assert torch.equal(compiled(x, 0.5), atb_blend(x, x, x, x, max_weight=0.5))
    with pytest.raises(Exception, match="max_weight must be finite"):
        compiled(x, max_weight)
