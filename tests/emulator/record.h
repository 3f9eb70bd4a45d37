// Which kernels have run: every template instantiation is a kernel of its own.
#pragma once

namespace emulator {

/// Appends the kernel's offset in its module, a line `0x1234`, to the file that EMOGS_EMULATOR_RECORD names, unless
/// that file has it from this process; sanitize.py finds names for them. Without the variable it does nothing.
void record_launch(const void* kernel);

}  // namespace emulator
