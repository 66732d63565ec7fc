"""`bank` plans several filters of one image together; a `Bank` explains itself and runs."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.arrays import array_of, is_gpu_array, package_of
from separable.borders import Modes
from separable.engine import Problem
from separable.engine.availability import EngineError
from separable.engine.methods.compiled_sweeps import stores_type
from separable.engine.result_memory import empty
from separable.errors import ArgumentError, ArgumentTypeError, KernelError, OutputError
from separable.factors import Factors
from separable.filter_bank import bank_text
from separable.filter_bank.bank_sweep import Sweep
from separable.filter_bank.sweep_groups import Group, groups_of, seconds_alone, widest
from separable.filtering import missing_options
from separable.kernels import parse
from separable.machine import Machine, current
from separable.masked import filter_missing
from separable.plan import Plan, plan
from separable.request.filter_parameter_docs import documented
from separable.run import readable, store
from separable.value import Value

__all__ = ["Bank", "Group", "bank"]

Array = NDArray[Any]
KernelLike: TypeAlias = ArrayLike | Factors | str

# Packages that filter images of other kinds. They stand above this one, so they are imported by name.
PACKAGES = {"torch": "separable.tensors.tensor_banks", "dask": "separable.volumes.dask_banks"}
GPU_ARRAYS = "separable.tensors.exchanged_arrays"  # of other libraries than PyTorch


@dataclass(frozen=True, eq=False, repr=False)
class Bank(Value):
    """Several filters of one image, and the plan to run them together.

    Attributes
    ----------
    names : tuple of str
        Names of the bands, in order.
    plans : tuple of Plan
        Plan of each kernel alone.
    groups : tuple of Group
        Bands that run together.
    machine : str
        Whose rates the predictions are made with: ``Machine.origin``.

    Notes
    -----
    Banks are compared, hashed, copied and pickled like plans.

    Examples
    --------
    >>> import separable as sep
    >>> b = sep.bank(["gaussian:2", "gaussian:2,order=0x1", "log:2"], (512, 512))
    >>> b.names, b.multiplications, b.multiplications_alone
    (('gaussian:2', 'gaussian:2,order=0x1', 'log:2'), 102.0, 136.0)
    """

    names: tuple[str, ...]
    plans: tuple[Plan, ...]
    groups: tuple[Group, ...]
    machine: str

    @property
    def problem(self) -> Problem:
        """Problem of the first kernel. All properties but the kernel's size hold for every band."""
        return self.plans[0].problem

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: the bands first, then the image's axes."""
        return (len(self.names), *self.problem.shape)

    @property
    def multiplications(self) -> float:
        """Multiplications per sample of the image, for all bands, with shared passes counted once."""
        return sum(self._cost(group) for group in self.groups)

    @property
    def multiplications_alone(self) -> float:
        """Multiplications per sample of the image if each kernel ran alone."""
        return float(sum(p.chosen.multiplications for p in self.plans))

    @property
    def seconds(self) -> float:
        """Predicted time."""
        return sum(group.seconds for group in self.groups)

    @property
    def seconds_alone(self) -> float:
        """Predicted time if each kernel ran alone."""
        return sum(seconds_alone(p) for p in self.plans)

    @property
    def bound(self) -> float:
        """Upper bound of ``max|out - exact| / (sum|kernel| * max|input|)`` in every band."""
        return max(p.bound for p in self.plans)

    def __call__(
        self,
        image: ArrayLike,
        out: Array | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        mask: ArrayLike | None = None,
        nan: str = "propagate",
        fill: complex = math.nan,
        nodata: Any = "auto",
    ) -> Array:
        """Filter an image with every kernel.

        Parameters
        ----------
        image : array_like, tensor or Dask array
            Image of the planned shape and type, with any strides. Bands of a Dask array are computed
            lazily; those of a tensor have gradients if it requires one.
        out : ndarray, optional
            Array of shape (bands, ...) and of the planned output type.
        progress : callable, optional
            Function that is called with the fraction of the work just done.
        mask, nan, fill, nodata
            Missing samples, as for `separable.convolve`. Each band is then a filter of its own, because
            weights of valid samples are those of one kernel.

        Returns
        -------
        ndarray, shape (bands, ...)
            The bands; ``dict(zip(bank.names, result))`` has them by name.

        Raises
        ------
        ArgumentError
            If the image is not of the planned shape and type, or the mask does not fit.
        ArgumentTypeError
            If the image or `out` is not an array.
        OutputError
            If `out` has another shape or type, or is read-only.
        """
        # Step 1: check the image and the output.
        missing = missing_options(mask, nan, fill, nodata)
        package = PACKAGES.get(package_of(image))
        if package is None and is_gpu_array(image) and importlib.util.find_spec("torch"):
            package = GPU_ARRAYS
        if package is not None:
            found: Array = importlib.import_module(package).run_bank(
                self, image, out, missing, progress
            )
            return found
        p, array = self.problem, array_of(image)
        if array.shape != p.shape or array.dtype != p.dtype:
            raise ArgumentError(
                f"this bank is for shape {p.shape}, {p.dtype}; got shape {array.shape}, "
                f"{array.dtype}. Make a bank for this image"
            )
        if out is None:
            out = empty(self.shape, p.out)
        self._check_output(out)
        out = np.asarray(out)
        if p.size == 0:
            return out
        if np.may_share_memory(array, out):
            array = array.copy()
        if missing.keys() - {"fill"} or isinstance(array, np.ma.MaskedArray):
            for single, band in zip(self.plans, out, strict=True):
                _fill_valid(single, array, band, missing)
            return out

        # Step 2: run each group into the output.
        total = self.seconds
        source: Array | None = None
        for group in self.groups:
            if group.graph is None:
                (band,) = group.members
                self.plans[band](array, out[band])
            else:
                if source is None:
                    source = np.ascontiguousarray(readable(array, p))
                self._sweep(group, array, source, out)
            if progress is not None:
                progress(group.seconds / total if total > 0 else 1 / len(self.groups))
        return out

    def __str__(self) -> str:
        return bank_text.bank_text(self)

    def _repr_html_(self) -> str:
        return bank_text.bank_html(self)

    def __repr__(self) -> str:
        p = self.problem
        return (
            f"<Bank of {len(self.names)} kernels on {p.shape} {p.dtype}: "
            f"predicted {bank_text.duration(self.seconds)}>"
        )

    def _cost(self, group: Group) -> float:
        if group.graph is None:
            return self.plans[group.members[0]].chosen.multiplications
        return float(group.graph.multiplications)

    def _sweep(self, group: Group, image: Array, source: Array, out: Array) -> None:
        assert group.graph is not None
        problem = widest([self.plans[band].problem for band in group.members])
        graph = group.graph
        sweep = group.cached.get_or_build("sweep", lambda: Sweep(problem, graph))
        bands = [out[band] for band in group.members]
        direct = stores_type(problem.out) and bands[0].flags.c_contiguous
        made = bands if direct else list(empty((len(bands), *problem.shape), problem.work))
        try:
            sweep(source, made)
        except EngineError:  # this computer cannot compile, which is found at the first run
            for band in group.members:
                self.plans[band](image, out[band])
            return
        if direct:
            return
        for band, values in zip(bands, made, strict=True):
            store(values, band, problem.threads)

    def _check_output(self, out: Array) -> None:
        if not isinstance(out, np.ndarray):
            raise ArgumentTypeError(f"`out` must be an ndarray; got {type(out).__name__}")
        if out.shape != self.shape:
            raise OutputError(
                f"`out` must have shape {self.shape}, the bands first; got {out.shape}"
            )
        if out.dtype != self.problem.out:
            raise OutputError(f"`out` must have dtype {self.problem.out}; got {out.dtype}")
        if not out.flags.writeable:
            raise OutputError("`out` is read-only; give a writeable array, for instance out.copy()")


@documented
def bank(
    kernels: Mapping[str, KernelLike] | Sequence[KernelLike],
    shape: Sequence[int],
    dtype: DTypeLike = np.float64,
    *,
    axes: int | Sequence[int] | None = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    output: DTypeLike | None = None,
    operation: str = "convolve",
    threads: int | None = None,
    machine: Machine | None = None,
) -> Bank:
    """Plan several filters of one image together; passes that they share run only once.

    Parameters
    ----------
    kernels : mapping of str to kernel, or sequence of kernels
        Each kernel is dense, factored or a text for `kernels.parse`, such as ``"log:2"``. All
        have as many axes as are filtered. A mapping names the bands; in a sequence the text of a
        kernel is its name.
    shape : sequence of int
        Shape of the image. No data is needed.
    dtype : dtype
        Type of the image.
    %(axes)s
    %(mode)s
    %(cval)s
    %(origin)s
    %(output_dtype)s
    %(operation)s
    %(threads)s
    %(machine)s

    Returns
    -------
    Bank
        A value to call with an image, which returns an array of shape (bands, ...). Print it to
        see the shared passes.

    Raises
    ------
    %(raises)s

    Notes
    -----
    An error message about a kernel names it. Every band equals the single filter, ``sep.convolve(image, kernel, ...)``, to rounding. Kernels
    share passes if their taps along an axis are proportional: derivatives of one Gaussian, the
    bands of a wavelet, Laws' textures, the terms of a Laplacian of Gaussian. Kernels that share
    nothing, such as Gaussians of different sigma, run one after the other.

    Examples
    --------
    The eight bands of a step of the Haar wavelet take 14 passes instead of 24:

    >>> import numpy as np, separable as sep
    >>> low, high = np.array([1, 1]) / 2**0.5, np.array([1, -1]) / 2**0.5
    >>> bands = {
    ...     a + b + c: sep.Factors.from_terms(
    ...         "zyx -> z,y,x", [[high if letter == "H" else low for letter in a + b + c]]
    ...     )
    ...     for a in "LH" for b in "LH" for c in "LH"
    ... }
    >>> b = sep.bank(bands, (32, 64, 64), "float32", mode="wrap")
    >>> b(np.ones((32, 64, 64), "float32")).shape
    (8, 32, 64, 64)
    """
    named = _named(kernels)
    ndim = len(shape) if axes is None else np.size(axes)
    options = {
        "axes": axes, "mode": mode, "cval": cval, "origin": origin, "operation": operation,
        "threads": threads, "machine": machine,
    }  # fmt: skip
    read = {name: _read(name, kernel, ndim) for name, kernel in named.items()}
    plans = [_planned(name, kernel, shape, dtype, output, options) for name, kernel in read.items()]
    dtypes = {p.problem.out for p in plans}
    if len(dtypes) > 1:  # one of the kernels is complex
        common = np.result_type(*dtypes)
        plans = [_planned(n, k, shape, dtype, common, options) for n, k in read.items()]
    profile = machine if machine is not None else current()
    groups = groups_of(plans, profile)
    return Bank(tuple(named), tuple(plans), groups, profile.origin)


def _fill_valid(single: Plan, image: Array, out: Array, missing: dict[str, Any]) -> None:
    """Filter the valid samples of an image with one kernel."""
    request, p = single.request, single.problem
    kernel = request.kernel if request.factors is None else request.factors
    filter_missing(
        image, kernel, out, operation=request.operation, axes=p.axes, mode=p.modes, cval=p.cval,
        origin=request.origins, threads=p.threads, **missing,
    )  # fmt: skip


def _named(kernels: Any) -> dict[str, Any]:
    """Return the kernels by name, in order."""
    if isinstance(kernels, (str, Factors)) or not isinstance(kernels, (Mapping, Sequence)):
        raise ArgumentTypeError(
            "`kernels` must be a list of kernels or a mapping of names to kernels; got "
            f"{type(kernels).__name__}. For one kernel use sep.plan"
        )
    if isinstance(kernels, Mapping):
        wrong = [name for name in kernels if not isinstance(name, str)]
        if wrong:
            raise ArgumentTypeError(f"`kernels` must be named by strings; got {wrong[0]!r}")
        found = dict(kernels)
    else:
        names = [k if isinstance(k, str) else f"kernel {n}" for n, k in enumerate(kernels)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ArgumentError(f"`kernels` must be different; got {twice!r} twice")
        found = dict(zip(names, kernels, strict=True))
    if not found:
        raise ArgumentError("`kernels` must hold at least one kernel; got none")
    return found


def _read(name: str, kernel: Any, ndim: int) -> Any:
    if not isinstance(kernel, str):
        return kernel
    try:
        return parse(kernel, ndim)
    except (ArgumentError, KernelError) as error:
        raise type(error)(f"kernel {name!r} of the bank: {error}") from None


def _planned(name: str, kernel: Any, shape: Any, dtype: Any, output: Any, options: Any) -> Plan:
    try:
        return plan(kernel, shape, dtype, output=output, **options)
    except KernelError as error:
        raise KernelError(f"kernel {name!r} of the bank: {error}") from None
