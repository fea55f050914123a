// The ops that open and close packed_weights.h.
#include "packed_weights.h"

namespace rirn {
namespace {
using namespace cuda;

void open_packed() { packed_weights().push_back(std::make_unique<PackedWeights>()); }

PackedWeights& innermost(const char* op) {
  if (packed_weights().empty()) fail(op, " belongs behind open_packed");
  return *packed_weights().back();
}

void pack_again() {
  innermost("pack_again").pack_again();
  check_launch("pack_again");
}

Tensors close_packed() {
  const Tensors held = innermost("close_packed").held();
  packed_weights().pop_back();
  return held;
}
}  // namespace
}  // namespace rirn

STABLE_TORCH_LIBRARY_IMPL(rirn, CompositeExplicitAutograd, m) {
  m.impl("open_packed", TORCH_BOX(&rirn::open_packed));
  m.impl("pack_again", TORCH_BOX(&rirn::pack_again));
  m.impl("close_packed", TORCH_BOX(&rirn::close_packed));
}
