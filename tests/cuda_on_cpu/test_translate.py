"""The translation from CUDA C++ to C++."""

from __future__ import annotations

import pytest

from tests.cuda_on_cpu.build import ROOT
from tests.cuda_on_cpu.translate import TranslationError, translate, without_other_dtypes


def body(source: str) -> str:
    return translate(source).split("\n", 1)[1]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "k<<<grid, 256>>>(a, b);",
            'cuda_on_cpu::launch("k", cuda_on_cpu::address(k), grid, 256, [&] { k(a, b); });',
        ),
        (
            "else k<T, kPack<T>><<<s.grid_for(n / 2, f(1, 2)), dim3(8, 8), 0, s>>>(t, g(n));",
            'else cuda_on_cpu::launch("k<T, kPack<T>>", cuda_on_cpu::address(k<T, kPack<T>>), '
            "s.grid_for(n / 2, f(1, 2)), dim3(8, 8), 0, s, [&] { k<T, kPack<T>>(t, g(n)); });",
        ),
        (
            "x = 1; cuda::k<3>\n    <<<1, 2>>>(a);\ny",
            'x = 1; cuda_on_cpu::launch("cuda::k<3>", cuda_on_cpu::address(cuda::k<3>), 1, 2, [&] { cuda::k<3>(a); })\n;\ny',
        ),
        (
            "extern __shared__ __align__(32) unsigned char smem[];",
            "unsigned char* const smem = static_cast<unsigned char*>(cuda_on_cpu::dynamic_shared(32));",
        ),
        (
            "extern __shared__ float s[];",
            "float* const s = static_cast<float*>(cuda_on_cpu::dynamic_shared(16));",
        ),
        (
            "__shared__ Pair<T, 4> tile[2][kHalo<3, 4> + 1];",
            "__shared__ Pair<T, 4> tile[2][kHalo<3, 4> + 1] = {}; "
            "cuda_on_cpu::poison_shared(&tile, sizeof tile);",
        ),
        ("STABLE_TORCH_LIBRARY_IMPL(rirn, CUDA, m) {}", "STABLE_TORCH_LIBRARY_IMPL(rirn_on_cpu, CPU, m) {}"),
        ("STABLE_TORCH_LIBRARY(rirn, m) {}", "STABLE_TORCH_LIBRARY(rirn_on_cpu, m) {}"),
        ("// k<<<1, 2>>>(x); __shared__ int a, b;", "// k<<<1, 2>>>(x); __shared__ int a, b;"),
        ('f("<<<", __LINE__); a << b << c;', 'f("<<<", __LINE__); a << b << c;'),
    ],
)
def test_translation(source, expected):
    assert body(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "__shared__ int a, b;",
        "__shared__ int a = 0;",
        "extern __shared__ int a[4];",
        "k<<<1, 2;",
        "k<<<1, 2>>>;",
        "k<<<1, 2>>>(a;",
        "+ <<<1, 2>>>(a);",
    ],
)
def test_what_it_does_not_know_is_an_error(source):
    with pytest.raises(TranslationError, match=r"^kernel\.cu: "):
        translate(source, "kernel.cu")


def test_lines_keep_their_numbers():
    source = "a\n/* b\n c */ k<T>\n<<<1,\n 2>>>(x,\n y);\n__shared__ int s[2];\nlast"
    assert body(source).split("\n")[-1] == "last"
    assert body(source).count("\n") == source.count("\n")


def test_kernels_for_some_dtypes_alone():
    dispatch, chains = (
        without_other_dtypes((ROOT / "csrc" / "cuda" / name).read_text(), ["fp32", "fp16"])
        for name in ("binding.h", "conv3x3_chain.h")
    )
    assert 'case ScalarType::BFloat16: throw std::logic_error("compiled without bf16");' in dispatch
    assert "return f(double{})" not in dispatch
    assert "return f(__half{})" in dispatch and "return f(float{})" in dispatch
    assert "RIRN_CHAINS(PREFIX, double)" not in chains
    assert "RIRN_CHAINS(PREFIX, __half)" in chains and "RIRN_CHAINS(PREFIX, float)" in chains
