"""conv3x3_chain on batches of narrow images, which the CPU kernel puts side by side in its registers."""

import pytest
import torch

from rirn.ops import conv3x3_chain
from rirn.ops._library import library
from tests.ops.cases import Case
from tests.ops.contract import isas
from tests.ops.test_conv3x3_chain import UPDATE, WIDE, Chain, check, run

pytestmark = pytest.mark.skipif(not library().loaded, reason=str(library().reason))

WIDTHS = (1, 3, 4, 5, 31, 32, 33, 48, 64, 80)
COUNTS = (1, 2, 3, 5)
TWO_INPUTS = Chain((3, 2), (5, 5), (0.1, 1), (False, True))


def images_alone(chain, parts, grad):
    """Results and gradients of the inputs of one call for each image, put together again."""
    images, weights, biases = parts
    outs, grads = [], []
    for i in range(len(grad)):
        alone = [image[i : i + 1].detach().requires_grad_() for image in images]
        out, found, _ = run(chain, (alone, weights, biases), "cpu", grad[i : i + 1])
        outs.append(out)
        grads.append(found[: len(images)])
    return [torch.cat(outs), *(torch.cat(each) for each in zip(*grads, strict=True))]


def check_same_bits_as_alone(chain, case):
    parts = chain.inputs(case)
    out, grads, grad = run(chain, parts, "cpu")
    for got, want in zip([out, *grads], images_alone(chain, parts, grad), strict=False):
        assert torch.equal(got, want)


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("count", COUNTS)
def test_against_reference(count, columns):
    check(UPDATE, Case(count, 0, 6, columns), "cpu", "cpu")


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("count", COUNTS)
def test_same_bits_as_one_by_one(count, columns):
    check_same_bits_as_alone(TWO_INPUTS, Case(count, 0, 9, columns))


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("chain", [TWO_INPUTS, WIDE], ids=str)
def test_every_variant(isa, chain, monkeypatch):
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    for columns in (5, 20, 33):
        check(chain, Case(3, 0, 9, columns), "cpu", "cpu")
        check_same_bits_as_alone(chain, Case(3, 0, 9, columns))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("layout", ["channels_last", "sliced", "strided", "transposed", "expanded"])
def test_same_bits_in_any_layout(dtype, layout):
    check_same_bits_as_alone(TWO_INPUTS, Case(3, 0, 5, 18, dtype, layout))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_image_does_not_see_its_neighbours(value):
    images, weights, biases = TWO_INPUTS.inputs(Case(3, 0, 8, 20))
    want, want_grads, grad = run(TWO_INPUTS, (images, weights, biases), "cpu")
    with torch.no_grad():
        for image in images:
            image[1] = value
    out, grads, _ = run(TWO_INPUTS, (images, weights, biases), "cpu", grad)
    for got, expected in zip([out, *grads[:2]], [want, *want_grads[:2]], strict=True):
        assert torch.equal(got[::2], expected[::2])
    assert not out[1].isfinite().any()


@pytest.mark.parametrize("before", [(2, 32), (3, 28), (1, 61), (5, 12)])
@pytest.mark.parametrize("after", [(1, 33), (2, 30), (3, 20), (5, 9)])
def test_nothing_is_left_of_the_call_before(before, after):
    """The kernel keeps its working memory: what other images left there must not be read."""
    images, weights, biases = UPDATE.inputs(Case(before[0], 0, 6, before[1]))
    with torch.no_grad():
        images[0].fill_(torch.nan)
    run(UPDATE, (images, weights, biases), "cpu")
    check(UPDATE, Case(after[0], 0, 6, after[1]), "cpu", "cpu")


def test_same_bits_on_any_number_of_threads(threads):
    results = []
    for count in (1, 2, 3):
        threads(count)
        out, grads, _ = run(WIDE, WIDE.inputs(Case(5, 0, 30, 23)), "cpu")
        results.append([out, *grads])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_batch_of_more_images_than_share_a_row():
    parts = TWO_INPUTS.inputs(Case(70, 0, 2, 3))
    out, _, grad = run(TWO_INPUTS, parts, "cpu")
    assert torch.equal(out, images_alone(TWO_INPUTS, parts, grad)[0])
    want = conv3x3_chain(*parts, TWO_INPUTS.slopes, TWO_INPUTS.skips, backend="reference")
    assert torch.allclose(out, want, atol=1e-5)
