// How the operating system backs memory that is about to be written for the first time.
#pragma once

#include <stdint.h>

namespace emogs {

/// Asks for huge pages in what [address, address + bytes) holds of them: each page's first write is a fault, and there
/// are 512 times fewer then. A hint, without effect where there are none or where memory was touched before.
void prefer_huge_pages(uint64_t address, uint64_t bytes);

}  // namespace emogs
