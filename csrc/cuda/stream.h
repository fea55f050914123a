// The stream that torch works on.
#pragma once
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include "../checks.h"

namespace rirn {
namespace cuda {
// The cudaStream_t of the current stream of a device. torch's stable C++ interface has it only from 2.13 on, and the C function
// behind it is in libtorch_cuda, which a CPU-only torch lacks: so it is not linked but looked up, in the libtorch_cuda that is loaded
// wherever there is a tensor on a GPU.
inline void* current_stream_of(int32_t device) {
  using Function = AOTITorchError (*)(int32_t device, void** stream);
  static const Function function = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<Function>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  void* stream = nullptr;
  if (!function || function(device, &stream) != AOTI_TORCH_SUCCESS) fail("torch does not tell the current stream of cuda:", device);
  return stream;
}
}  // namespace cuda
}  // namespace rirn
