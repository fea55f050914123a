// In place of torch's header of this name: tensors of the CPU have no device to switch to.
#pragma once
#include <cstdint>

namespace torch::stable::accelerator {
using DeviceIndex = int32_t;

struct DeviceGuard {
  explicit DeviceGuard(DeviceIndex) {}
  ~DeviceGuard() {}  // so that a guard is no unused variable
};
}  // namespace torch::stable::accelerator
