"""The native module, and where an operation runs. Import `_C` from here, never from `emogs` itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch  # first: the native module then shares torch's OpenMP threads instead of loading its own
from torch import Tensor
from torch.autograd import forward_ad

try:
    from emogs import _C
except ImportError as error:
    raise ImportError(
        "emogs's native module is missing or does not load; build it with `pip install .` "
        f"(in a checkout: `make build`). The loader said: {error}"
    ) from error
if not getattr(_C, "cpu", False):
    raise ImportError(
        "emogs's native module is of an older emogs, or has no CPU kernels (EMOGS_CUDA=emulate is for tests/emulator); "
        "rebuild it with `EMOGS_CUDA=auto pip install .` (in a checkout: `make build`)"
    )

__all__ = ["_C", "aligned", "choose_route", "launch", "needs_gradients", "new_empty", "on_cuda", "routed"]


def launch(like: Tensor, dtype: torch.dtype | str | None = None) -> dict[str, Any]:
    """The keyword arguments that every native operation begins with: kernel type, device, stream, threads.

    Args:
        like: a tensor on the device where the operation runs.
        dtype: which instantiation to run, or its name; `like.dtype` if None.
    """
    name = dtype if isinstance(dtype, str) else str(dtype or like.dtype).removeprefix("torch.")
    if like.is_cuda:
        stream = torch.cuda.current_stream(like.device).cuda_stream
        return {"dtype": name, "device": like.device.index, "stream": stream, "threads": 1}
    return {"dtype": name, "device": -1, "stream": 0, "threads": torch.get_num_threads()}


def on_cuda(like: Tensor) -> bool:
    """Whether CUDA kernels run on this tensor; unlike `launch`, it may stand for none, as in a graph being traced."""
    return like.is_cuda


def aligned(tensor: Tensor) -> Tensor:
    """Itself, or a copy that is contiguous and begins at a multiple of 16 bytes, for kernels that read so many."""
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.data_ptr() % 16 else tensor


def new_empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """`like.new_empty` for what a kernel writes: on the CPU, in huge pages if it is large.

    Fresh memory costs a page fault every 4 KiB, 37 ms for 66 MB where writing takes 3; in pages of 2 MiB it is 7. NumPy
    asks for them from the same size on.
    """
    made = like.new_empty(shape, dtype=dtype)
    if made.nbytes >= _LARGE and made.is_cpu:
        _C.prefer_huge_pages(made.data_ptr(), made.nbytes)
    return made


_LARGE = 4 << 20  # bytes


def needs_gradients(*tensors: Tensor | None) -> bool:
    """Whether a backward pass may follow, so that forward must keep what it needs."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def choose_route(*tensors: Tensor | None) -> Literal["native", "autograd", "dispatcher"]:
    """The shortest way to a kernel that this call may take; a registered operation costs 30 us more than its kernel.

    "native": nothing records the call, the kernel may be called at once. "autograd": through an autograd function.
    "dispatcher": through the registered operation, since somebody listens there: a compiler, a mode, a transform, a
    profiler, a tensor subclass. What is not a tensor goes "native", where the arguments are checked.
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or torch.autograd.profiler._is_profiler_enabled
    ):
        return "dispatcher"
    recorded = False
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            continue
        if type(tensor) not in _PLAIN or not (tensor.is_cpu or tensor.is_cuda):
            return "dispatcher"
        recorded = recorded or tensor.requires_grad
    if (recorded and torch.is_grad_enabled()) or forward_ad._current_level >= 0:
        return "autograd"
    return "native"


_PLAIN = (Tensor, torch.nn.Parameter)


def routed(
    name: str,
    native: Callable[..., Any],
    save: Callable[..., None] | None = None,
    differentiate: Callable[..., Any] | None = None,
    vmap: bool = True,
) -> Callable[..., Any]:
    """The operation `emogs::name` as a function that takes the shortest route to its kernel, arguments by position.

    Args:
        name: of an operation that is defined.
        native: its implementation.
        save, differentiate: as `torch.library.register_autograd` takes them. What that makes of them looks defaults up
            in a time quadratic in the number of arguments, 200 us for the 28 of `emogs::rasterize`; this does not.
            None: where a gradient may be asked for, the registered operation has the last word.
        vmap: whether torch.func.vmap may call it, once a sample, as torch does with operations of which it knows no
            more. False where the sizes of results depend on the data, so that they could be stacked by luck only.
    """
    operation = getattr(torch.ops.emogs, name).default
    record = operation
    if save is not None and differentiate is not None:

        def forward(ctx, *arguments):
            output = native(*arguments)
            save(ctx, arguments, output)
            return output

        methods = {"forward": staticmethod(forward), "backward": staticmethod(differentiate)}
        record = cast(Any, type(name, (torch.autograd.Function,), methods)).apply

    def call(*arguments):
        route = choose_route(*arguments)
        refused = _has_tangent if vmap else _has_tangent_or_is_batched
        if route == "dispatcher" and not torch.compiler.is_compiling() and any(map(refused, arguments)):
            raise _transforms_refused(name, vmap)  # the registered operation would leave a tangent out without a word
        try:
            return (native if route == "native" else record if route == "autograd" else operation)(*arguments)
        except RuntimeError as error:
            if any(map(_is_transformed, arguments)):
                raise _transforms_refused(name, vmap) from error
            raise

    return call


def _has_tangent(value: object) -> bool:
    """Whether forward-mode differentiation carries a derivative along."""
    if forward_ad._current_level < 0 or not isinstance(value, Tensor):
        return False
    return forward_ad.unpack_dual(value).tangent is not None


def _has_tangent_or_is_batched(value: object) -> bool:
    """Whether forward-mode differentiation or torch.func.vmap stands behind it."""
    return _has_tangent(value) or (isinstance(value, Tensor) and torch._C._functorch.is_batchedtensor(value))


def _is_transformed(value: object) -> bool:
    """Whether it stands for other tensors: under torch.func, or as a batch of gradients of torch.autograd."""
    return isinstance(value, Tensor) and (
        torch._C._functorch.is_functorch_wrapped_tensor(value)
        or torch._C._functorch.is_legacy_batchedtensor(value)
        or _has_tangent(value)
    )


def _transforms_refused(name: str, vmap: bool) -> NotImplementedError:
    return NotImplementedError(
        f"{name}: torch.func's {'derivatives' if vmap else 'transforms'}, forward-mode derivatives and batched "
        "gradients are not supported; use torch.autograd for gradients and leading dimensions for batches"
    )
