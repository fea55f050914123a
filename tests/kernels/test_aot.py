"""The Triton kernels compiled ahead of time: what comes out for each architecture, without a GPU."""

import re
import subprocess

import pytest

import rirn.kernels
from rirn.ops.spec import OPS

pytestmark = [
    pytest.mark.skipif(rirn.kernels.why_not() is not None, reason=str(rirn.kernels.why_not())),
    pytest.mark.skipif(rirn.kernels.interpreted(), reason="TRITON_INTERPRET=1 replaces the compiler"),
]
if rirn.kernels.why_not() is None:
    from rirn.kernels.aot import ARCHS, SHARED_LIMIT, compile_one, variants

    VARIANTS = list(variants())
else:
    ARCHS, VARIANTS = (), []
# One of each kind for `make test`; all of them are slow.
QUICK = {
    "atb_blend_forward-bf16-planar-channel-gates",
    "gru_update_backward-fp32",
    "lstm_update_forward-fp16-planar",
    "fac_forward-fp32-planar",
    "conv3x3_forward-fp16-32",
    "conv3x3_weights-bf16-32",
}
HALF = ("fp16", "bf16")
# Bytes: around its four nested loops fac_backward_features may keep half of an offset there, stored once before and loaded once
# after them, as ptxas does for sm_80 in two variants.
STACK = 8


def compiled(variant, arch, tmp_path_factory):
    """Compile into a cache of its own, so that nothing stale passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        return compile_one(variant, arch)


def dump(cubin, path, what):
    """Return what the assembler's own tool reads off a kernel."""
    import triton

    path.write_bytes(cubin)
    command = [triton.knobs.nvidia.cuobjdump.path, what, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def resources(cubin, path):
    """Return stack and local memory of a kernel in bytes."""
    found = re.search(r"STACK:(\d+).*LOCAL:(\d+)", dump(cubin, path, "-res-usage"))
    return int(found[1]), int(found[2])


def spills_in_loops(code):
    """Return how many instructions of machine code between a jump back and its target access the stack."""
    lines = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]+;)", code)]
    jumps = [
        (int(found[1], 16), at)
        for at, text in lines
        if (found := re.search(r"\bBRA\b.*?\b0x([0-9a-f]+)", text))
    ]
    accesses = [at for at, text in lines if re.search(r"\b(?:STL|LDL)\b", text)]
    return sum(any(target <= at <= jump for target, jump in jumps) for at in accesses)


def all_and_quick():
    for arch in ARCHS:
        for variant in VARIANTS:
            is_quick = variant.name in QUICK and arch == 80 + 10 * (len(variant.name) % 3 > 0)
            yield pytest.param(
                variant, arch, id=f"sm_{arch}-{variant.name}", marks=() if is_quick else pytest.mark.slow
            )


@pytest.mark.parametrize(("variant", "arch"), list(all_and_quick()))
def test_code(variant, arch, tmp_path_factory, tmp_path):
    """No spills, shared memory within the limit, wide loads, tensor cores in half precision, 64-bit offsets."""
    done = compiled(variant, arch, tmp_path_factory)
    ptx, name = done.asm["ptx"], variant.name
    assert f".target sm_{arch}" in ptx
    stack, local = resources(done.asm["cubin"], tmp_path / "kernel.cubin")
    assert local == 0 and stack <= (STACK if name.startswith("fac_backward_features") else 0), "spills"
    assert stack == 0 or not spills_in_loops(dump(done.asm["cubin"], tmp_path / "kernel.cubin", "-sass")), (
        "spills in a loop"
    )
    assert done.shared <= SHARED_LIMIT[arch]
    assert not re.search(r"^\s*(?:@\S+\s+)?(?:atom|red)\.", ptx, re.M), "atomics would not repeat"
    first = done.asm["ttir"].split("tt.load")[0]
    assert "sum_rows" in name or "i64" in first, "the first product of an offset must be wide already"

    loads = re.findall(r"(?:ld\.global|cp\.async\.c[ag]\.shared\.global)\S*(?:[^;]*, (?:0x10|16),)?", ptx)
    is_wide = [bool(re.search(r"v4\.b32|v2\.b64|v2\.f64|v4\.f32|0x10|16,", load)) for load in loads]
    if "planar-channel" in name or name.startswith("gru"):
        assert loads and all(ok or "dtb" in name for ok in is_wide), (
            f"{name}: every tensor in 128-bit loads; got {loads}"
        )
    if name.startswith("conv3x3"):
        assert any(is_wide), f"{name}: 128-bit loads; got {set(loads)}"
        dots = re.findall(r"mma\.sync\S*|wgmma\.mma_async\S*|tcgen05\.mma\S*", ptx)
        if any(f"-{dtype}-" in name for dtype in HALF):
            assert dots, f"{name}: no tensor cores"
        if "-fp32-" in name:
            assert not dots, f"{name}: float32 would be multiplied as TF32"


def test_spills_in_loops_are_told_from_those_around_them():
    line = "        /*{:04x}*/                   {} ;                /* 0x0 */\n"
    loop = ["STL [R1], R2", "LDG.E R3, [R4]", "@P1 BRA 0x10", "LDL.LU R2, [R1]", "EXIT", "BRA 0x50"]
    assert spills_in_loops("".join(line.format(16 * i, text) for i, text in enumerate(loop))) == 0
    loop[1] = "LDL R3, [R1]"
    assert spills_in_loops("".join(line.format(16 * i, text) for i, text in enumerate(loop))) == 1


def test_every_op_declares_variants():
    for name, op in OPS.items():
        stem = "conv3x3_" if name == "conv3x3_chain" or op.triton else name
        assert any(variant.name.startswith(stem) for variant in VARIANTS), name


def test_a_kernel_that_does_not_compile_ends_with_one_sentence(monkeypatch):
    from rirn.kernels import aot

    good = VARIANTS[0]
    broken = good._replace(name="broken", signature=good.signature | {"p_out": "*nonsense"})
    monkeypatch.setattr(aot, "variants", lambda: iter([broken]))
    with pytest.raises(SystemExit, match="The Triton kernel broken does not compile for sm_80: "):
        aot.main(["80"])


def test_too_much_shared_memory_ends_with_one_sentence(monkeypatch):
    from rirn.kernels import aot

    monkeypatch.setattr(aot, "variants", lambda: iter(VARIANTS[:1]))
    monkeypatch.setattr(aot, "SHARED_LIMIT", {80: -1})
    with pytest.raises(SystemExit, match="needs 0 bytes of shared memory, more than sm_80 has: -1"):
        aot.main(["80"])
