// Records of a few scalars (arrays of structures, as tensors hold them) turned into columns and back, a block at a
// time, so that registers take one field of consecutive records. Records beyond the last of a block are zeros.
#pragma once

#include "common/row.h"

namespace emogs {
namespace EMOGS_ISA {

template <class T, int kWidth, int kCount>
struct Columns {
  T at[kWidth][kCount] __attribute__((aligned(64)));

  EMOGS_HD_MEMBER Lanes<T> get(int column, int first) const { return Lanes<T>::load(at[column] + first); }
  EMOGS_HD_MEMBER void set(int column, int first, Lanes<T> value) { value.store(at[column] + first); }

  /// Zeros in the first `columns`.
  EMOGS_HD_MEMBER void clear(int64_t columns = kWidth) {
    for (int64_t column = 0; column < columns; column++)
      for (int i = 0; i < kCount; i += Lanes<T>::count) set(column, i, Lanes<T>(T(0)));
  }

  /// Adds where `mask` is true.
  EMOGS_HD_MEMBER void add(int column, int first, LaneMask<T> mask, Lanes<T> value) {
    set(column, first, get(column, first) + select(mask, value, Lanes<T>(T(0))));
  }

  /// The first kFields columns from `count` records of as many scalars, one after the other.
  template <int kFields = kWidth>
  EMOGS_HD_MEMBER void read(const T* from, int count) {
    if (count == kCount) return read_all<kFields>(from);
    T padded[kCount * kFields];
    for (int j = 0; j < kCount * kFields; j++) padded[j] = j < count * kFields ? from[j] : T(0);
    read_all<kFields>(padded);
  }

  /// Adds the first kFields columns to `count` records.
  template <int kFields = kWidth>
  EMOGS_HD_MEMBER void add_to(T* to, int count) const {
    T rows[kCount * kFields];
    write_all<kFields>(rows);
    for (int j = 0; j < count * kFields; j++) to[j] += rows[j];
  }

  EMOGS_HD_MEMBER void write(T* to, int count) const {
    if (count == kCount) return write_all<kWidth>(to);
    T padded[kCount * kWidth];
    write_all<kWidth>(padded);
    for (int j = 0; j < count * kWidth; j++) to[j] = padded[j];
  }

 private:
  // Lengths are constants, so that compilers shuffle registers: 0.2 ns for a record of 3 floats, 0.6 ns for one of 8.
  template <int kFields>
  EMOGS_HD_MEMBER void read_all(const T* __restrict from) {
    for (int i = 0; i < kCount; i++)
      for (int column = 0; column < kFields; column++) at[column][i] = from[kFields * i + column];
  }

  template <int kFields>
  EMOGS_HD_MEMBER void write_all(T* __restrict to) const {
    for (int i = 0; i < kCount; i++)
      for (int column = 0; column < kFields; column++) to[kFields * i + column] = at[column][i];
  }
};

}  // namespace EMOGS_ISA
}  // namespace emogs
