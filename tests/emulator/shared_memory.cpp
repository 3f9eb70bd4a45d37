#include "shared_memory.h"

#include <link.h>

#include <algorithm>
#include <cstring>

#include "sanitizers.h"

namespace emulator {
namespace {

thread_local char anchor;  // somewhere in this module's thread-local memory, which is all static shared memory

constexpr size_t kMargin = EMULATOR_ASAN ? 0 : 256;  // AddressSanitizer has its own
constexpr char kPoison = char(0xff);

struct Search {
  char* inside;
  char* begin;
  size_t bytes;
};

int find_thread_local_memory(dl_phdr_info* module, size_t, void* data) {
  Search& search = *static_cast<Search*>(data);
  char* const begin = static_cast<char*>(module->dlpi_tls_data);
  if (!begin) return 0;
  for (int i = 0; i < module->dlpi_phnum; ++i) {
    if (module->dlpi_phdr[i].p_type != PT_TLS) continue;
    const size_t bytes = module->dlpi_phdr[i].p_memsz;
    if (search.inside < begin || search.inside >= begin + bytes) continue;
    search.begin = begin, search.bytes = bytes;
    return 1;
  }
  return 0;
}

// Not memset, which ThreadSanitizer watches.
void fill(char* begin, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) static_cast<volatile char*>(begin)[i] = kPoison;
}

}  // namespace

StaticShared::StaticShared() {
#if !EMULATOR_ASAN  // static memory there, whose bounds nobody knows
  Search search{&anchor, nullptr, 0};
  dl_iterate_phdr(find_thread_local_memory, &search);
  begin_ = search.begin, bytes_ = search.bytes;
#endif
}

void StaticShared::poison() const {
  if (begin_ && EMULATOR_TSAN)
    fill(begin_, bytes_);
  else if (begin_)
    memset(begin_, kPoison, bytes_);
}

DynamicShared::DynamicShared(size_t bytes) : bytes_(bytes), memory_(new char[bytes + kMargin]) {}

void DynamicShared::poison() const {
  if (EMULATOR_TSAN)
    fill(memory_.get(), bytes_ + kMargin);
  else
    memset(memory_.get(), kPoison, bytes_ + kMargin);
}

bool DynamicShared::overrun() const {
  const char* const margin = memory_.get() + bytes_;
  return std::any_of(margin, margin + kMargin, [](char byte) { return byte != kPoison; });
}

}  // namespace emulator
