// What Python sees of the emulator.
#pragma once
#include <string>
#include <vector>

namespace cuda_on_cpu {
// "fwd", "rev" or "rand:SEED": the order in which blocks, and the threads of a block, take their turns.
void set_order(const std::string& order);

void set_shared_limit(size_t bytes);  // that a block may ask for on the device
void set_device(int number);          // that is current
int take_requests();                  // of cudaFuncSetAttribute for more shared memory, since the last call
void set_capturing(bool capturing);   // whether launches go into a graph, as the runtime says

struct Record {
  std::string kernel;
  unsigned grid[3], block[3];
  size_t shared;
};
std::vector<Record> take_launches();  // since the last call
}  // namespace cuda_on_cpu
