"""A pretended CUDA device: tensors that say `cuda:0`, computed on the CPU by CUDA's rules, without a GPU.

Inside `with pretend() as device:` torch.cuda says that there is one GPU, `tensor.to("cuda:0")` works, and

- an operation that mixes devices raises what CUDA raises (CPU scalars pass where CUDA lets them pass), and so does
  `.numpy()` of a tensor on the device;
- `LOG` counts every kernel launch, everything that makes the host wait for the device with the line of ours that asked
  for it, every copy from pageable memory, and every kernel that does not repeat bit for bit on CUDA.

Code that asks for `tensor.device.type` takes its CUDA branch, with real numbers, so that both branches can be compared.
Launches are those of torch's operators, a lower bound of a GPU's: a sort is one here and several there.
"""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any
from unittest import mock

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CUDA = torch.device("cuda", 0)
MEMORY = 80 * 2**30

WAITING = frozenset(
    [
        "_linalg_check_errors",
        "_local_scalar_dense",
        "_unique2",
        "bincount",
        "equal",
        "histc",
        "is_nonzero",
        "item",
        "linalg_eigh",
        "linalg_svd",
        "masked_select",
        "multinomial",
        "nonzero",
        "unique_consecutive",
        "unique_dim",
    ]
)
"""Operators that make the host wait, whatever their arguments."""

UNREPEATABLE = frozenset(
    [
        "_adaptive_avg_pool2d_backward",
        "_index_put_impl_",
        "adaptive_avg_pool2d_backward",
        "adaptive_max_pool2d_backward",
        "avg_pool2d_backward",
        "avg_pool3d_backward",
        "bincount",
        "cumsum",
        "embedding_dense_backward",
        "gather",
        "grid_sampler_2d_backward",
        "grid_sampler_3d_backward",
        "histc",
        "index_add",
        "index_add_",
        "index_put",
        "index_put_",
        "kthvalue",
        "max_pool2d_with_indices_backward",
        "max_pool3d_with_indices_backward",
        "median",
        "nll_loss2d_backward",
        "nll_loss2d_forward",
        "put_",
        "reflection_pad2d_backward",
        "replication_pad2d_backward",
        "replication_pad3d_backward",
        "scatter",
        "scatter_",
        "scatter_add",
        "scatter_add_",
        "scatter_reduce",
        "scatter_reduce_",
        "upsample_bilinear2d_backward",
        "upsample_nearest2d_backward",
        "upsample_nearest3d_backward",
        "upsample_trilinear3d_backward",
    ]
)
"""Operators whose kernels on CUDA do not repeat bit for bit, or have a slower form that does, for those who ask."""

REFUSED = frozenset(
    [
        "_adaptive_avg_pool2d_backward",
        "_adaptive_avg_pool3d_backward",
        "adaptive_avg_pool2d_backward",
        "adaptive_max_pool2d_backward",
        "avg_pool3d_backward",
        "cumsum",
        "grid_sampler_2d_backward",
        "grid_sampler_3d_backward",
        "histc",
        "nll_loss2d_backward",
        "nll_loss2d_forward",
        "reflection_pad2d_backward",
        "upsample_bicubic2d_backward",
        "upsample_bilinear2d_backward",
        "upsample_linear1d_backward",
        "upsample_trilinear3d_backward",
    ]
)
"""Those of them that torch refuses on CUDA while `use_deterministic_algorithms` is on; cumsum of floats only."""

NO_KERNEL = frozenset(
    [
        "_reshape_alias",
        "_unsafe_view",
        "alias",
        "as_strided",
        "chunk",
        "detach",
        "diagonal",
        "empty",
        "empty_like",
        "empty_strided",
        "expand",
        "is_pinned",
        "is_same_size",
        "lift_fresh",
        "mT",
        "movedim",
        "narrow",
        "new_empty",
        "new_empty_strided",
        "numpy_T",
        "permute",
        "real",
        "record_stream",
        "resize_",
        "select",
        "set_",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "sym_size",
        "t",
        "transpose",
        "unbind",
        "unfold",
        "unsqueeze",
        "view",
        "view_as",
    ]
)
"""Views, allocations and bookkeeping."""

INDEXING = ("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_")
NO_HOST_SCALARS = frozenset(
    ["bmm", "cat", "gather", "index_select", "lerp", "mm", "scatter", "scatter_", "scatter_add", "stack"]
)

Places = Counter[tuple[str, str]]
"""How often, by operator and line of ours."""


@dataclass
class Log:
    """What happened on the pretended device."""

    launches: Counter[str] = field(default_factory=Counter)
    waits: Places = field(default_factory=Counter)
    pageable: Places = field(default_factory=Counter)
    unrepeatable: Places = field(default_factory=Counter)
    host_scalars: Places = field(default_factory=Counter)

    def clear(self) -> None:
        """Count from zero."""
        for one in fields(self):
            getattr(self, one.name).clear()


LOG = Log()


def our_line() -> str:
    """Return file, line and function of the innermost frame of ours, or of the innermost that is not torch's."""
    frame = sys._getframe(1)
    found = ""
    while frame is not None:
        code = frame.f_code
        known = code.co_filename != __file__
        if (
            known
            and ("/tuner/" in code.co_filename or "/api/" in code.co_filename)
            and "site-packages" not in code.co_filename
        ):
            return f"{'/'.join(code.co_filename.rsplit('/', 3)[1:])}:{frame.f_lineno} {code.co_name}"
        if known and not found and "/torch/" not in code.co_filename and "contextlib" not in code.co_filename:
            found = f"{'/'.join(code.co_filename.rsplit('/', 2)[1:])}:{frame.f_lineno} {code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return found or "(backward)"


class Pretended(torch.Tensor):
    """A CPU tensor, `inner`, that says it is on cuda:0."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Pretended":
        # To torch's C++ it is a meta tensor with CUDA's dispatch keys, so that autocast takes it for CUDA's: a CPU
        # build has neither CUDA's device guard nor its allocator, and is asked for neither.
        with _disable_current_modes():
            shape, strides, offset = inner.size(), inner.stride(), inner.storage_offset()
            extent = offset
            if inner.numel():
                extent += 1 + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
            shell = torch.empty(extent, dtype=inner.dtype, device="meta").as_strided(shape, strides, offset)
            self = torch.Tensor._make_subclass(cls, shell, False, device_for_backend_keys=CUDA)
        self.inner = inner
        return self

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def numpy(self, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it to host memory first."
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def new_tensor(self, data: Any, dtype: Any = None, **_: Any) -> torch.Tensor:  # type: ignore[override]
        return torch.tensor(data, dtype=dtype or self.dtype, device=CUDA)

    def tolist(self) -> Any:
        LOG.waits["tolist", our_line()] += 1
        return self.inner.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Pretended({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return run(func, args, kwargs or {})


def home(value: Any) -> Any:
    """Take all pretended tensors in a value to the CPU without counting it."""
    return tree_map(lambda one: one.inner if isinstance(one, Pretended) else one, value)


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operator by CUDA's rules. Raises RuntimeError where tensors of both devices meet."""
    flat, spec = tree_flatten((args, kwargs))
    there = [one for one in flat if isinstance(one, Pretended)]
    here = [one for one in flat if isinstance(one, torch.Tensor) and not isinstance(one, Pretended)]
    name = func._schema.name.split("::")[-1]
    wanted = kwargs.get("device")
    to_device, to_host = _is_pretended(wanted), wanted is not None and torch.device(wanted).type == "cpu"
    if not there and not to_device:
        return func(*args, **kwargs)
    if name == "_to_copy":
        _note_copy(args[0], to_device=to_device, to_host=to_host, waits=not kwargs.get("non_blocking"))
    elif name == "copy_" and isinstance(args[1], torch.Tensor):
        device = isinstance(args[0], Pretended)
        _note_copy(args[1], to_device=device, to_host=not device, waits=not (len(args) > 2 and args[2]))
    elif there and here:
        _check_mixture(name, here)
    _note(name, args, kwargs)
    bare_args, bare_kwargs = tree_unflatten([_bare(one) for one in flat], spec)
    if isinstance(bare_kwargs.get("device"), str | int):
        bare_kwargs["device"] = torch.device("cpu")
    bare_kwargs.pop("pin_memory", None)
    out = func(*bare_args, **bare_kwargs)
    if to_host or (name == "_to_copy" and wanted is None and not there):
        return out
    if name == "copy_" and not isinstance(args[0], Pretended):
        return args[0]
    own = {id(one.inner): one for one in there}

    def wrap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, Pretended):
            return value
        kept = own.get(id(value))
        return Pretended(value) if kept is None else kept

    return tree_map(wrap, out)


def _is_pretended(device: Any) -> bool:
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _bare(value: Any) -> Any:
    if isinstance(value, Pretended):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) and _is_pretended(value) else value


def _check_mixture(name: str, here: list[torch.Tensor]) -> None:
    large = [list(one.shape) for one in here if one.dim()]
    if name in INDEXING:
        if large:
            LOG.waits["index on the host", our_line()] += len(large)
        return
    if large:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"({name}, {large} on the CPU; at {our_line()})"
        )
    if name in NO_HOST_SCALARS:
        raise RuntimeError(f"CPU scalar in {name} with CUDA tensors at {our_line()}")
    if name == "where":
        LOG.waits["scalar of the host in where", our_line()] += 1
    LOG.host_scalars[name, our_line()] += 1


def _note_copy(source: torch.Tensor, *, to_device: bool, to_host: bool, waits: bool) -> None:
    if to_host and isinstance(source, Pretended):
        LOG.waits["copy to the host", our_line()] += 1
    elif to_device and not isinstance(source, Pretended):
        if not getattr(source, "_pinned", False):
            LOG.pageable["copy to the device", our_line()] += 1
        if waits:
            LOG.waits["copy to the device", our_line()] += 1


def _note(name: str, args: Any, kwargs: dict[str, Any]) -> None:
    if name in WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        LOG.waits[name, our_line()] += 1
    elif name in INDEXING and any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1]):
        LOG.waits["boolean index", our_line()] += 1
    is_whole = name == "cumsum" and not (kwargs.get("dtype") or args[0].dtype).is_floating_point
    if name in REFUSED and not is_whole and torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(f"{name}_cuda does not have a deterministic implementation, but you set ...")
    if name in UNREPEATABLE:
        LOG.unrepeatable[name, our_line()] += 1
    if name not in NO_KERNEL and not name.startswith("sym_"):
        LOG.launches[name] += 1


class _Mode(TorchDispatchMode):
    """Sends every operator through `run`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


T = torch.Tensor
HALVED = frozenset(
    (
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        F.conv1d,
        F.conv2d,
        F.conv3d,
        F.conv_transpose2d,
        F.conv_transpose3d,
        torch.conv_transpose2d,
        torch.conv_transpose3d,
        F.linear,
        torch.matmul,
        T.matmul,
        T.__matmul__,
        torch.mm,
        T.mm,
        torch.bmm,
        T.bmm,
        torch.addmm,
        torch.baddbmm,
        torch.einsum,
        torch.prelu,
        F.prelu,
        F.scaled_dot_product_attention,
    )
)
"""What autocast runs in half precision."""

RAISED = frozenset(
    (
        F.softmax,
        torch.softmax,
        T.softmax,
        F.log_softmax,
        torch.log_softmax,
        F.layer_norm,
        torch.layer_norm,
        F.group_norm,
        torch.group_norm,
        torch.exp,
        T.exp,
        torch.log,
        T.log,
        torch.pow,
        T.pow,
        T.__pow__,
        torch.sum,
        T.sum,
        torch.cumsum,
        torch.norm,
        F.normalize,
        F.cross_entropy,
        F.nll_loss,
        F.mse_loss,
        F.softplus,
        torch.rsqrt,
        torch.reciprocal,
        torch.prod,
        F.cosine_similarity,
    )
)
"""What autocast runs in float32."""


class _Autocast(TorchFunctionMode):
    """Does what autocast does on CUDA: it knows nothing of meta tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (func in HALVED or func in RAISED) and torch.is_autocast_enabled("cuda"):
            wanted = torch.get_autocast_dtype("cuda") if func in HALVED else torch.float32
            floats = (torch.float32, torch.float16, torch.bfloat16)

            def cast(one: Any) -> Any:
                return one.to(wanted) if isinstance(one, Pretended) and one.dtype in floats else one

            args, kwargs = tree_map(cast, args), tree_map(cast, kwargs)
        return func(*args, **kwargs)


def _pinned(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    copy = tensor.clone()
    copy._pinned = True  # type: ignore[attr-defined]
    return copy


class _Generator(torch.Generator):
    """A generator of the CPU that says where it was asked for."""

    where: torch.device

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        self = super().__new__(cls)
        self.where = torch.device(device)
        return self

    def __init__(self, device: Any = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.where


class _Properties:
    name, major, minor, multi_processor_count, total_memory = "Pretended GPU", 9, 0, 132, MEMORY


def _answers(free: int) -> dict[str, Callable[..., Any]]:
    """What torch.cuda answers."""
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: _Properties.name,
        "get_device_properties": lambda device=None: _Properties,
        "get_device_capability": lambda device=None: (_Properties.major, _Properties.minor),
        "is_bf16_supported": lambda including_emulation=True: True,
        "is_current_stream_capturing": lambda: False,
        "mem_get_info": lambda device=None: (free, MEMORY),
        "memory_allocated": lambda device=None: 2**29,
        "memory_reserved": lambda device=None: 2**29,
        "max_memory_allocated": lambda device=None: 2**30,
        "max_memory_reserved": lambda device=None: 2**30,
        "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": lambda: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "synchronize": lambda device=None: LOG.waits.update([("synchronize", our_line())]),
    }


@contextlib.contextmanager
def pretend(*, free: int = MEMORY) -> Iterator[str]:
    """Yield the name of the pretended device, of whose memory so many bytes are free; `LOG` begins anew."""
    LOG.clear()
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    lift = torch._C._only_lift_cpu_tensors()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lift)
        torch._C._set_only_lift_cpu_tensors(True)
        for name, answer in _answers(free).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", _pinned))
        stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
        # backward on this thread, where the modes are
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(_Autocast())
        stack.enter_context(_Mode())
        yield "cuda:0"
