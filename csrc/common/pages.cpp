#include "common/pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace emogs {

constexpr uint64_t kHugePage = 2 << 20;  // bytes, on x86-64 and on aarch64 with pages of 4 KiB

void prefer_huge_pages([[maybe_unused]] uint64_t address, [[maybe_unused]] uint64_t bytes) {
#if defined(MADV_HUGEPAGE)
  const uint64_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const uint64_t end = (address + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // what fails changes nothing
#endif
}

}  // namespace emogs
