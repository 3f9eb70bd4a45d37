#include "common/registry.h"
#include "tiles/tiles.h"

namespace emogs {

static const Operation scratch("intersect_tiles_scratch", [](FieldReader& field) -> int64_t {
  const bool single = field.text("dtype") == "float32";
  int64_t slots = 0, count = 0, parts = 0;
  field("slots", slots), field("count", count), field("parts", parts);
  field.finish();
  return single ? intersect_tiles_scratch<float>(slots, count, parts)
                : intersect_tiles_scratch<double>(slots, count, parts);
});

static const Operation count = operation<IntersectCount>(
    "intersect_tiles_count", on_cpu<float, double>([](const auto& p) { return intersect_tiles_count_cpu(p); }),
    on_cuda<>([](const auto&) {}));

static const Operation fill = operation<IntersectFill>(
    "intersect_tiles_fill", on_cpu<float, double>([](const auto& p) { intersect_tiles_fill_cpu(p); }),
    on_cuda<>([](const auto&) {}));

static const Operation order_scratch = operation<IntersectOrderScratch>(
    "intersect_tiles_order_scratch", on_cpu<>([](const auto&) {}),
    on_cuda<float>([](const auto& p) { return intersect_tiles_order_scratch_cuda(p); }));

static const Operation order =
    operation<IntersectOrder>("intersect_tiles_order", on_cpu<>([](const auto&) {}),
                              on_cuda<float>([](const auto& p) { return intersect_tiles_order_cuda(p); }));

static const Operation emit_scratch =
    operation<IntersectEmitScratch>("intersect_tiles_emit_scratch", on_cpu<>([](const auto&) {}),
                                    on_cuda<float>([](const auto& p) { return intersect_tiles_emit_scratch_cuda(p); }));

static const Operation emit =
    operation<IntersectEmit>("intersect_tiles_emit", on_cpu<>([](const auto&) {}),
                             on_cuda<float>([](const auto& p) { return intersect_tiles_emit_cuda(p); }));

}  // namespace emogs
