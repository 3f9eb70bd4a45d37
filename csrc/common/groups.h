// A stable counting sort that keeps its structure: which items share a key. Sums over the items of a key, taken in this
// order, do not depend on threads.
#pragma once

#include <stdint.h>

namespace emogs {

/// Items [0, items) with keys key(item) in [0, keys): those of key k get the places [starts[k], starts[k + 1]), in
/// order of items, and place(item, position) is called for each. `starts` has keys + 1 entries.
template <class Key, class Place>
static inline void group_by_key(int64_t items, int64_t keys, int64_t* starts, const Key& key, const Place& place) {
  for (int64_t k = 0; k <= keys; k++) starts[k] = 0;
  for (int64_t i = 0; i < items; i++) starts[key(i) + 1]++;
  for (int64_t k = 0; k < keys; k++) starts[k + 1] += starts[k];
  for (int64_t i = 0; i < items; i++) place(i, starts[key(i)]++);
  for (int64_t k = keys; k > 0; k--) starts[k] = starts[k - 1];
  starts[0] = 0;
}

}  // namespace emogs
