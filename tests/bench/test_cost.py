"""Launches, bytes and operations counted without a GPU: against small cases counted by hand, and the bars at full size."""

import doctest
import json

import pytest
import torch

from rirn import ops
from rirn.bench import cost, kernel_costs, launches
from rirn.bench.__main__ import main
from rirn.bench.cases import DTYPES, Sizes
from rirn.bench.kernel_costs import CUDA, TRITON, covered
from rirn.bench.launches import Cost, LaunchCounter, total
from rirn.errors import RirnError
from rirn.nn import ATB, IRM
from rirn.ops import use_backend
from rirn.ops._library import Library, library
from rirn.ops.backends import INFERENCE_OPS, OPS, assume

pytestmark = pytest.mark.skipif(not library().loaded, reason=str(library().reason))

FORMS = [CUDA, TRITON]
forms = pytest.mark.parametrize("formulas", FORMS, ids=["cuda", "triton"])


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def counted(call, *inputs, formulas=None):
    with LaunchCounter(formulas) as counter:
        call(*inputs)
    return counter.cost


@pytest.mark.parametrize(
    ("call", "launched", "elements"),
    [
        (lambda x: x.view(6).reshape(2, 3).T.detach().expand(4, 3, 2), 0, 0),
        (lambda x: torch.empty_like(x).new_empty(3), 0, 0),
        (lambda x: x + 1, 1, 12),
        (lambda x: x.relu_(), 1, 12),
        (lambda x: x + x[:, :1], 1, 6 + 2 + 6),
        (lambda x: x[:1].expand(5, 3) * 2, 1, 3 + 15),
        (lambda x: torch.cat([x, x]), 1, 24),
        (lambda x: x.clone().zero_(), 2, 12 + 6),
        (lambda x: torch.empty_like(x).copy_(x), 1, 12),
        (lambda x: x.new_zeros(3), 1, 3),
        (lambda x: torch.sigmoid(x).mul(x).sum(), 3, 12 + 18 + 7),
    ],
)
def test_library_calls_by_hand(call, launched, elements):
    assert counted(call, meta(2, 3)) == Cost(launched, 4 * elements, 0)


def test_products_count_as_operations():
    weight, bias, x = meta(5, 3, 3, 3), meta(5), meta(2, 3, 4, 7)
    moved = weight.numel() + 5 + x.numel() + 2 * 5 * 4 * 7
    found = counted(lambda: torch.nn.functional.conv2d(x, weight, bias, padding=1))
    assert found == Cost(1, 4 * moved, 2 * weight.numel() * 2 * 4 * 7)
    in_place = counted(lambda: meta(1, 2, 4).baddbmm_(meta(1, 2, 3), meta(1, 3, 4)))
    assert in_place == Cost(1, 4 * (8 + 6 + 12 + 8), 2 * 2 * 3 * 4)


def test_eager_irm_by_hand():
    """Concatenation, six convolutions, three rectifiers and two sums of images of 2c channels; the last layer makes c."""
    c, pixels = 2, 5 * 7
    with torch.device("meta"), use_backend("reference"), torch.no_grad():
        irm, x = IRM(c), torch.empty(1, c, 5, 7)
        found = counted(lambda: irm(hidden=x, inner=x))
    images = 4 * c + 5 * 4 * c + 3 * 4 * c + 2 * 6 * c + 3 * c
    parameters = sum(p.numel() for p in irm.parameters())
    weights = sum(p.numel() for p in irm.parameters() if p.dim() == 4)
    assert found == Cost(12, 4 * (images * pixels + parameters), 2 * weights * pixels)


def test_eager_blend_by_hand():
    x = meta(1, 3, 4, 5)
    with use_backend("reference"):
        found = counted(ops.atb_blend, x, x, x, x)
    assert found == Cost(
        6, 4 * 60 * (2 + 2 + 3 + 2 + 3 + 3), 0
    )  # two sigmoids, three products (one by max_weight), a sum


@forms
def test_every_op_has_formulas(formulas):
    inference = set(INFERENCE_OPS) if formulas is CUDA else set()
    assert set(formulas) == {name for op in OPS for name in (op, f"{op}_backward")} | inference


@forms
def test_the_blend_moves_five_tensors(formulas):
    for dtype in DTYPES.values():
        x = meta(2, 3, 4, 5, dtype=dtype)
        (launch,) = formulas["atb_blend"](x, x, x, x, 1.0)
        assert [a.tensor for a in launch.reads] == ["f_prev", "f_cur", "logit_prev", "logit_cur"]
        assert total([launch]) == Cost(1, 5 * x.numel() * dtype.itemsize, 0)
        assert (
            total(formulas["atb_blend_backward"](x, x, x, x, x, 1.0, 15)).bytes
            == 9 * x.numel() * dtype.itemsize
        )


def test_one_map_is_read_once_and_asked_for_by_every_channel():
    x, gate = meta(2, 3, 4, 5), meta(2, 1, 4, 5)
    (launch,) = CUDA["atb_blend"](x, x, gate, gate, 1.0)
    assert total([launch]).bytes == 4 * (3 * 120 + 2 * 40)
    assert launch.reads[2].requested == 3 * launch.reads[2].bytes == 4 * 120


def test_unwanted_gradients_are_neither_written_nor_read_for():
    x = meta(2, 3, 4, 5)
    (launch,) = CUDA["atb_blend_backward"](x, x, x, x, x, 1.0, 0b0001)
    assert [a.tensor for a in launch.reads] == ["grad", "logit_prev"]
    assert [a.tensor for a in launch.writes] == ["grad_f_prev"]


def test_gradients_of_fac_share_a_launch_on_cuda():
    x, kernels = meta(2, 3, 4, 5), meta(2, 75, 4, 5)
    once = total(CUDA["fac_backward"](x, x, kernels, 0b11))
    assert once == Cost(1, 4 * (3 * 120 + 2 * kernels.numel()), 0)
    assert total(TRITON["fac_backward"](x, x, kernels, 0b11)) == Cost(2, once.bytes + 4 * 120, 0)
    assert total(CUDA["fac_backward"](x, x, kernels, 0b01)) == Cost(1, 4 * (2 * 120 + kernels.numel()), 0)


def test_the_gradient_of_beta_takes_a_second_launch():
    x, beta = meta(2, 3, 40, 50), meta()
    both = CUDA["dtb_blend_backward"](x, x, x, x, beta, 15)
    blocks = -(-x.numel() // (4 * 256))
    assert [launch.kernel for launch in both] == ["dtb_blend_backward", "sum_totals"]
    assert total(both).bytes == 4 * 7 * x.numel() + 4 + 2 * 8 * blocks + 4
    assert len(CUDA["dtb_blend_backward"](x, x, x, x, beta, 7)) == 1


@pytest.mark.parametrize(
    ("length", "tile", "rim"), [(10, 4, 1), (33, 32, 3), (5, 8, 2), (16, 8, 2), (1, 8, 1)]
)
def test_covered_counts_every_pixel_of_every_tile(length, tile, rim):
    by_hand = sum(
        1
        for start in range(0, length, tile)
        for x in range(start - rim, min(start + tile, length) + rim)
        if 0 <= x < length
    )
    # A last tile that is not full has its rim where a full one would: nothing of the image lies there.
    assert covered(length, tile, rim) == by_hand


def irm_arguments(c, height, width, dtype):
    irm = IRM(c).to("meta", dtype)
    layers = (irm.joint, irm.res1.conv1, irm.res1.conv2, irm.res2.conv1, irm.res2.conv2, irm.out)
    x = meta(1, c, height, width, dtype=dtype)
    return x, x, [layer.weight for layer in layers], [layer.bias for layer in layers]


def test_a_layer_per_launch():
    c, pixels = 2, 5 * 7
    launched = CUDA["irm_update"](*irm_arguments(c, 5, 7, torch.float32))
    assert [launch.kernel for launch in launched] == ["conv3x3"] * 6
    parameters = 5 * (16 * 9 + 4) + 8 * 9 + 2
    assert total(launched) == Cost(6, 4 * (27 * c * pixels + parameters), 2 * (5 * 16 + 8) * 9 * pixels)


def test_three_layers_per_launch():
    c, (height, width), (tile_h, tile_w) = 20, (40, 70), kernel_costs.IRM_TILES[20]
    pack, front, back = CUDA["irm_update"](*irm_arguments(c, height, width, torch.float16))
    images = sum(
        a.bytes for launch in (front, back) for a in (*launch.reads, *launch.writes) if a.tensor[0] == "x"
    )
    assert images == 2 * 7 * c * height * width
    layer = 2 * 9 * (2 * c) ** 2
    rims = [covered(height, tile_h, r) * covered(width, tile_w, r) for r in range(4)]
    assert front.flops == layer * (rims[2] + rims[1] + height * width)
    assert back.flops == layer * (rims[2] + rims[1] + height * width / 2)
    assert front.reads[0].requested == 2 * 2 * c * rims[3] and not pack.flops


def test_the_whole_of_atb_moves_thirteen_images():
    """The joint convolution two and two, the first of both branches likewise, the last four and their result."""
    c, height, width = 16, 40, 70
    atb = ATB(c).to("meta", torch.float16)
    x = meta(1, c, height, width, dtype=torch.float16)
    with assume("cuda"), torch.no_grad(), LaunchCounter(CUDA) as counter:
        atb(f_prev=x, f_cur=x)
    parameters = sum(p.numel() for p in atb.parameters())
    weights = sum(p.numel() for p in atb.parameters() if p.dim() == 4)
    moved = 13 * x.numel() + parameters + 2 * weights  # the last of these to bring them in order
    assert counter.cost == Cost(4, 2 * moved, 2 * weights * height * width)
    with LaunchCounter(CUDA) as counter, assume("cuda"):
        atb(f_prev=x, f_cur=x)  # with a gradient it is taken apart
    assert "atb_update" not in [name for name, _ in counter.calls]


def test_the_backward_pass_computes_again_and_sums_in_two_steps():
    x, _, weights, biases = irm_arguments(2, 5, 7, torch.float32)
    everything = CUDA["irm_update_backward"](x, x, x, weights, biases, (1 << 14) - 1)
    kernels = [launch.kernel for launch in everything]
    assert kernels == ["conv3x3"] * 5 + ["weight_gradient", "sum_parts", "conv3x3"] * 6
    forward = total(CUDA["irm_update"](x, x, weights, biases)).flops
    assert total(everything).flops == 3 * forward - 2 * weights[-1].numel() * 35
    last = CUDA["irm_update_backward"](x, x, x, weights, biases, 1 << 13)  # the bias of the last layer
    assert [launch.kernel for launch in last] == ["conv3x3"] * 5 + ["weight_gradient", "sum_parts"]
    assert CUDA["irm_update_backward"](x, x, x, weights, biases, 0) == []


def test_gradients_count_what_autograd_calls():
    def build(dtype):
        x = torch.empty(1, 3, 4, 5, dtype=dtype, requires_grad=True)
        return cost.Subject(ops.gru_reset, (x, x.detach().requires_grad_()))

    assert cost.fused(build, torch.float16, "backward", "cuda") == Cost(1, 2 * 5 * 60, 0)
    eager = cost.eager(build, torch.float16, "backward")
    assert eager == Cost(3, 2 * 60 * (3 + 3 + 3), 0)  # two products and the sigmoid's own


def test_floors_are_the_longer_of_two():
    gpu = cost.Gpu(1e12, {"fp32": 1e12})
    assert gpu.floor(Cost(1, 2_000_000, 1_000_000), "fp32") == (2.0, "memory")
    assert gpu.floor(Cost(1, 2_000_000, 3_000_000), "fp32") == (3.0, "arithmetic")


def test_a_step_on_a_gpu_needs_no_phases():
    with torch.device("meta"), assume("cuda"):
        subject = cost.step("ifi-rnn+rirn", 48, 160)(torch.float32)
        with torch.no_grad(), LaunchCounter(CUDA) as counter:
            subject.call(*subject.inputs)
    called = [name for name, _ in counter.calls]
    assert {"irm_update", "atb_blend", "convolution"} <= set(called)
    assert not {"pixel_unshuffle", "baddbmm", "flip", "stack"} & set(called)


MISSED = {
    *(
        f"irm_update c={c} {where}, bytes over eager's"
        for c in (16, 20, 32)
        for where in ("fp32 cuda", "fp32 triton", "fp16 triton")
    ),
    *(
        f"{cost.ADDED} {where}, launches over eager's"
        for where in ("fp32 cuda", "fp32 triton", "fp16 triton")
    ),
}
"""Bars that do not hold: a launch per layer stores what lies between the layers; docs/cost-model.md says why it stays so."""


@pytest.fixture(scope="module")
def rows():
    return cost.count(["fp32", "fp16"], Sizes())


def test_bars_at_full_size(rows):
    found = {bar.what: bar for bar in cost.bars(rows, Sizes())}
    assert {what for what, bar in found.items() if not bar.holds} == MISSED
    for form in cost.FORMS:
        for dtype in ("fp32", "fp16"):
            assert found[f"{cost.FULL_MAPS} {dtype} {form}, tensors moved"].value == cost.BLEND_TENSORS
    for c in (16, 20, 32):
        assert found[f"irm_update c={c} fp16 cuda, bytes over eager's"].value < 0.15


def test_rows_are_complete(rows):
    cases = {(row["case"], row["passes"]) for row in rows}
    assert {name.split()[0] for name, _ in cases} >= set(OPS) - {"IRM"}
    assert {("step of ifi-rnn+rirn", "forward"), ("step of rdbn+rirn", "forward")} <= cases
    assert len(rows) == len(cases) * 2 * 3
    for row in rows:
        assert row["launches"] > 0 and row["bytes"] > 0
        assert all(row["floor_us"][gpu] > 0 for gpu in cost.GPUS)


def test_the_command_writes_json_and_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cost, "MODELS", ("gru+rirn",))
    paths = tmp_path / "cost.json", tmp_path / "cost.md"
    command = [
        "--model-cost",
        "--quick",
        "--dtype",
        "bf16",
        "--json",
        str(paths[0]),
        "--markdown",
        str(paths[1]),
    ]
    assert main(command) == 0
    found = json.loads(paths[0].read_text())
    assert found["label"] == "counted, not measured" and found["features"] == "24x40"
    assert {row["form"] for row in found["results"]} == {"eager", "cuda", "triton"}
    text = paths[1].read_text()
    assert f"Made by `python -m rirn.bench --model-cost --quick --dtype bf16 --json {paths[0]}" in text
    assert "**Counted, not measured.**" in text and "| step of gru+rirn | forward | bf16 |" in text
    assert "Counted, not measured" in capsys.readouterr().out


def test_without_compiled_ops_there_is_nothing_to_count(monkeypatch):
    missing = Library(reason="rirn was installed without its compiled library")
    monkeypatch.setattr(cost, "library", lambda: missing)
    with pytest.raises(RirnError, match="installed without its compiled library"):
        main(["--model-cost", "--quick"])


@pytest.mark.parametrize(
    ("option", "value"), [("--rounds", "3"), ("--compare", "old.json"), ("--only", "ops")]
)
def test_options_of_timing_are_refused(option, value):
    with pytest.raises(RirnError, match=r"it takes --dtype, --size, .* alone"):
        main(["--model-cost", option, value, "--device", "cpu"])


@pytest.mark.parametrize("module", [launches, kernel_costs], ids=["launches", "kernel_costs"])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
