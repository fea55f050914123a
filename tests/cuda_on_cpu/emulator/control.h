// What Python sees of the emulator.
#pragma once
#include <string>
#include <vector>

namespace cuda_on_cpu {
// "fwd", "rev" or "rand:SEED": the order in which blocks, and the threads of a block, take their turns.
void set_order(const std::string& order);

struct Record {
  std::string kernel;
  unsigned grid[3], block[3];
  size_t shared;
};
std::vector<Record> take_launches();  // since the last call
}  // namespace cuda_on_cpu
