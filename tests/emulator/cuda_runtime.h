// Takes the place of CUDA's header when kernels are compiled as C++ to run on the CPU; see README.md.
#pragma once

#include "atomics.h"
#include "intrinsics.h"
#include "language.h"
#include "launch.h"
#include "runtime.h"
#include "synchronization.h"
#include "vector_types.h"
