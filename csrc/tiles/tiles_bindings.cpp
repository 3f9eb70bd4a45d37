#include "common/registry.h"
#include "tiles/tiles.h"

namespace emogs {

static const Operation count = operation<IntersectCount>(
    "intersect_tiles_count", on_cpu<float, double>([](const auto& p) { return intersect_tiles_count_cpu(p); }),
    on_cuda<>([](const auto&) {}));

static const Operation fill = operation<IntersectFill>(
    "intersect_tiles_fill", on_cpu<float, double>([](const auto& p) { intersect_tiles_fill_cpu(p); }),
    on_cuda<>([](const auto&) {}));

}  // namespace emogs
