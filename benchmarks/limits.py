"""Limit this library and its peers to AVX2, which is what most laptops and desktops have.

The variables are read when a library is loaded, so a limited run is a process of its own. What is limited:

* `separable`: Numba compiles for `haswell` with the features of AVX2. The name alone would keep AVX-512.
* OpenCV: its own code by `OPENCV_CPU_DISABLE`, and the part of IPP inside it by `OPENCV_IPP`. The names have hyphens;
  OpenCV ignores `AVX512_SKX` with an underscore, after a line on stderr.
* NumPy and OpenBLAS: `NPY_DISABLE_CPU_FEATURES` and `OPENBLAS_CORETYPE`. They only provide copies and a matrix product.
* IPP: the library for AVX2 is loaded, instead of the one for AVX-512.
* PyTorch: its own kernels and the code of `torch.compile` by `ATEN_CPU_CAPABILITY`, oneDNN by `ONEDNN_MAX_CPU_ISA`, MKL by
  `MKL_ENABLE_INSTRUCTIONS`. Keras runs on PyTorch.
* OpenVINO: the oneDNN inside it reads the same variable.

What cannot be limited, because it does not choose code by processor: the filters and FFTs of SciPy (no vectors longer than 128
bits in the wheel), DIPlib (no vectors longer than 256 bits), SimpleITK. They run the same code in both tables. ONNX Runtime
and LiteRT (XNNPACK) choose by processor and have no variable: they use AVX-512 in both tables.
"""

from __future__ import annotations

from typing import Any

WIDTHS = {"native": "native", "avx2": "limited to AVX2"}
"""Names of the two tables, and their titles."""

UNLIMITED = "SciPy, DIPlib and SimpleITK do not choose code by processor: the same in both tables"
UNLIMITED_LAYERS = "ONNX Runtime and LiteRT cannot be limited"


def environment(width: str) -> dict[str, str]:
    """Return the variables that limit a process to `width`."""
    if width == "native":
        return {}
    return {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+f16c,+fma",
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX512-COMMON,AVX512-CNL,AVX512-CLX,AVX512-ICL",
        "OPENCV_IPP": "avx2",
        "NPY_DISABLE_CPU_FEATURES": " ".join(wide_numpy_features()),
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }


def wide_numpy_features() -> list[str]:
    """Return NumPy's names of the instruction sets beyond AVX2, which depend on its version."""
    try:
        from numpy._core import _multiarray_umath as umath
    except ImportError:  # before NumPy 2
        from numpy.core import _multiarray_umath as umath
    return [f for f in umath.__cpu_dispatch__ if f.startswith(("AVX512", "X86_V4", "AVX10"))]


def has_avx512() -> bool:
    """Return whether this process compiles for vectors of 512 bits."""
    from separable.engine.compiled.jit import vector_bits

    return vector_bits() == 512


def in_force(cv2: Any) -> list[str]:
    """Return what each library of this process uses, in words, to be printed with the results."""
    from separable.engine.compiled.jit import vector_bits

    told = [f"separable: vectors of {vector_bits()} bits"]
    if cv2 is not None:
        wide = opencv_has_avx512(cv2)
        ipp = f", {cv2.ipp.getIppVersion()}" if cv2.ipp.useIPP() else ", no IPP"
        told.append(f"OpenCV: {'AVX-512' if wide else 'no AVX-512'}{ipp}")
    return told


def layers_in_force(width: str, openvino_kernels: list[str]) -> list[str]:
    """Return what the libraries of layers use, in words; raise an error if a limit was not effective."""
    import torch

    from separable.engine.compiled.jit import vector_bits

    torch_uses = torch.backends.cpu.get_cpu_capability()
    wide = [name for name in openvino_kernels if "avx512" in name]
    if width == "avx2" and (has_avx512() or "512" in torch_uses or wide):
        raise SystemExit(
            f"the limit to AVX2 was not effective: {vector_bits()} bits, PyTorch {torch_uses}, {wide}"
        )
    told = [f"separable: vectors of {vector_bits()} bits", f"PyTorch: {torch_uses}"]
    if openvino_kernels:
        told.append(f"OpenVINO: {'AVX-512' if wide else 'no AVX-512'}")
    return told + ([UNLIMITED_LAYERS] if width == "avx2" else [])


def opencv_has_avx512(cv2: Any) -> bool:
    """Return whether OpenCV uses AVX-512: in its list `*` marks what is compiled, `?` what is disabled."""
    return any(
        f.startswith("*AVX512") and not f.endswith("?") for f in cv2.getCPUFeaturesLine().split()
    )


def check(width: str, cv2: Any) -> None:
    """Raise an error if a limit was not effective."""
    if width != "avx2":
        return
    if has_avx512() or (cv2 is not None and opencv_has_avx512(cv2)):
        raise SystemExit(f"the limit to AVX2 was not effective: {'; '.join(in_force(cv2))}")
