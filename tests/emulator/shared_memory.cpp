#include "shared_memory.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

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

void fill(char* begin, size_t bytes) {
  if (!EMULATOR_TSAN) {
    memset(begin, kPoison, bytes);
    return;
  }
  for (size_t i = 0; i < bytes; ++i) static_cast<volatile char*>(begin)[i] = kPoison;  // not watched, as memset is
}

}  // namespace

StaticShared::StaticShared() {
  if (EMULATOR_ASAN) return;  // static memory there, whose bounds nobody knows
  Search search{&anchor, nullptr, 0};
  dl_iterate_phdr(find_thread_local_memory, &search);
  begin_ = search.begin, bytes_ = search.bytes;
}

void StaticShared::poison() const {
  if (begin_) fill(begin_, bytes_);
}

// ThreadSanitizer would take the end of an allocation for an access, and the next block's for the same memory. What is
// mapped anew it knows nothing of.
DynamicShared::DynamicShared(size_t bytes) : bytes_(bytes) {
  if (!EMULATOR_TSAN) {
    memory_ = new char[bytes + kMargin];
    return;
  }
  void* mapped = mmap(nullptr, bytes + kMargin, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(mapped);
}

DynamicShared::~DynamicShared() {
  if (EMULATOR_TSAN)
    munmap(memory_, bytes_ + kMargin);
  else
    delete[] memory_;
}

void DynamicShared::poison() const {
  fill(memory_, bytes_ + kMargin);
}

bool DynamicShared::overrun() const {
  const char* const margin = memory_ + bytes_;
  return std::any_of(margin, margin + kMargin, [](char byte) { return byte != kPoison; });
}

}  // namespace emulator
