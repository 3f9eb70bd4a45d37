// Backward of the sums over an emotion basis, on the CPU: over a block of one field, its part of the basis' gradient
// (the largest tensor of the call) and of the emotion's. The block's basis is still in the cache that forward read it
// into.
#pragma once

#include "project/block.h"

namespace emogs {
namespace EMOGS_ISA {
namespace {

/// How gradients come to tensors that are not filled with zeros: by storing, the first time.
enum class Writing { kStream, kStore, kAdd };

/// Nobody has written what element 0 (image 0) of `writers` writes; alone, it may write past the caches.
template <class T>
Writing writing_of(const ProjectBackward<T>& p, int64_t writer, int64_t writers) {
  if (writer > 0) return Writing::kAdd;
  const int64_t scalars = (p.grad_basis_means ? 3 : 0) + (p.grad_basis_rotations ? 3 : 0) +
                          (p.grad_basis_log_scales ? 3 : 0) + (p.grad_basis_logit_opacities ? 1 : 0) +
                          (p.grad_basis_colors ? p.channels : 0);
  const bool large = p.components * p.count * scalars * int64_t(sizeof(T)) > kStreamBytes;
  return writers == 1 && large ? Writing::kStream : Writing::kStore;
}

/// Where the gradients that an emotion's sums give go: the sums of one slice and the rows of one field of the basis.
template <class T>
struct BasisGrad {
  const MaybeHalf<T>& basis;
  T* grad_basis;  // or null
  int64_t width;
  Writing writing;
};

/// grad_basis_k += weight grad over `values` scalars. The first is stored, with the bits of a sum with zeros: that
/// saves filling and reading the largest tensor of the call.
template <class T>
void add_component(T weight, const T* grad, int64_t values, Writing writing, T* to) {
  using V = Lanes<T>;
  const V zero = V(T(0));
  const bool none = weight == T(0);  // times infinity or NaN would not be zero
  const auto share = [&](int64_t j, auto lanes) {
    return none ? zero : multiply_add(V(weight), load(grad + j, lanes), zero);
  };
  if (writing == Writing::kStream)
    stream_row(values, to, share);
  else if (writing == Writing::kStore)
    for_each_register<T>(values, [&](int64_t j, auto lanes) { store(share(j, lanes), to + j, lanes); });
  else if (!none)
    for_each_register<T>(values, [&](int64_t j, auto lanes) {
      store(multiply_add(V(weight), load(grad + j, lanes), load(to + j, lanes)), to + j, lanes);
    });
}

/// <basis_k, grad> of kTerms components over `values` scalars. Entries without a gradient are left out: those of a
/// culled Gaussian may be infinite or NaN.
template <int kTerms, class T, class Stored>
Terms<T, kTerms> products(const Stored* basis, int64_t stride, const T* grad, int64_t values) {
  using V = Lanes<T>;
  return row_sums<T, kTerms>(values, [&](int64_t j, auto lanes, Terms<V, kTerms>& sums) {
    const V own = load(grad + j, lanes), zero = V(T(0));
    for (int k = 0; k < kTerms; k++) {
      const V entry = select(own == zero, zero, load_basis<T>(basis + k * stride + j, lanes));
      sums.values[k] = multiply_add(entry, own, sums.values[k]);
    }
  });
}

/// emotion_sums_k += <basis_k, grad>, four components at a time, which share the gradient.
template <class T, class Stored>
void add_products(int64_t components, const Stored* basis, int64_t stride, const T* grad, int64_t values,
                  T* emotion_sums) {
  constexpr int kTogether = 4;
  int64_t k = 0;
  for (; k + kTogether <= components; k += kTogether) {
    const Terms<T, kTogether> sums = products<kTogether>(basis + k * stride, stride, grad, values);
    for (int i = 0; i < kTogether; i++) emotion_sums[k + i] += sums.values[i];
  }
  for (; k < components; k++) emotion_sums[k] += products<1>(basis + k * stride, stride, grad, values).values[0];
}

/// Adds e_k grad to the basis, and <basis_k, grad> to the emotion sums, over `block` of one field; `grad` has records.
template <class T>
void add_components_backward(const ProjectBackward<T>& p, const BasisGrad<T>& to, int64_t row, Block block,
                             const T* grad, T* emotion_sums) {
  const int64_t values = block.size * to.width, begin = block.begin * to.width, stride = p.count * to.width;
  for (int64_t k = 0; to.grad_basis && k < p.components; k++)
    add_component(p.emotion[row * p.components + k], grad, values, to.writing, to.grad_basis + k * stride + begin);
  if (!emotion_sums || !to.basis) return;
  if (to.basis.half)
    add_products(p.components, to.basis.half + begin, stride, grad, values, emotion_sums);
  else
    add_products(p.components, to.basis.full + begin, stride, grad, values, emotion_sums);
}

/// Zeros in a block of a field of the basis' gradient.
template <class T>
void clear_components(const ProjectBackward<T>& p, T* grad_basis, int64_t width, Block block) {
  for (int64_t k = 0; k < p.components; k++)
    memset(grad_basis + (k * p.count + block.begin) * width, 0, sizeof(T) * block.size * width);
}

}  // namespace
}  // namespace EMOGS_ISA
}  // namespace emogs
