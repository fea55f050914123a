// What this binary was built with, for the environment report.
#include <torch/csrc/stable/library.h>

#include <string>

#include "cpu/isa.h"

#define RIRN_TEXT_(...) #__VA_ARGS__
#define RIRN_TEXT(...) RIRN_TEXT_(__VA_ARGS__)

#ifndef RIRN_CUDA_VERSION  // set by setup.py when CUDA sources are part of the build
#define RIRN_CUDA_VERSION none
#endif
#ifndef RIRN_CUDA_ARCHS  // a list such as 8.0,9.0+PTX
#define RIRN_CUDA_ARCHS
#endif

namespace {
std::string json_list(const std::string& commas) {
  std::string out = "[", item;
  for (char c : commas + ",") {
    if (c != ',') item += c;
    else if (!item.empty()) {
      out += (out.size() > 1 ? ", \"" : "\"") + item + "\"";
      item.clear();
    }
  }
  return out + "]";
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

std::string build_info() {
  return "{\"compiler\": \"" + compiler() + "\", \"cpu_isas\": " + json_list(rirn::built_isas()) +
         ", \"cuda_version\": \"" RIRN_TEXT(RIRN_CUDA_VERSION) "\", \"cuda_archs\": " +
         json_list(RIRN_TEXT(RIRN_CUDA_ARCHS)) + ", \"torch_target\": \"" RIRN_TEXT(TORCH_TARGET_VERSION) "\"}";
}

std::string cpu_isa() { return rirn::isa_name(rirn::current_isa()); }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rirn, CompositeExplicitAutograd, m) {
  m.impl("build_info", TORCH_BOX(&build_info));
  m.impl("cpu_isa", TORCH_BOX(&cpu_isa));
}
