#include "isa.h"

#include <cstdlib>
#include <cstring>

#include "../checks.h"

namespace rirn {
namespace {
Isa best_isa() {
#if RIRN_X86_VARIANTS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return __builtin_cpu_supports("avx512bf16") ? Isa::avx512_bf16 : Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::generic;
}
}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16: return "avx512_bf16";
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    default: return "generic";
  }
}

const char* built_isas() { return RIRN_X86_VARIANTS ? "generic,avx2,avx512,avx512_bf16" : "generic"; }

Isa current_isa() {
  static const Isa best = best_isa();
  const char* wanted = std::getenv("RIRN_CPU_ISA");
  if (!wanted || !*wanted) return best;
  for (Isa isa : {Isa::generic, Isa::avx2, Isa::avx512, Isa::avx512_bf16}) {
    if (std::strcmp(wanted, isa_name(isa)) != 0) continue;
    if (isa > best) fail("RIRN_CPU_ISA is ", wanted, " but this processor runs at most ", isa_name(best));
    return isa;
  }
  fail("RIRN_CPU_ISA must be generic, avx2, avx512 or avx512_bf16; got ", wanted);
}
}  // namespace rirn
