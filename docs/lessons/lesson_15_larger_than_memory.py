"""
15. Volumes larger than memory
==============================

A microscope or a scanner writes more data than fit in memory. A filter does not need all of it at
once: an output depends only on the samples near it. So a volume is read in slabs, filtered and
written, and the result is the same. This lesson first cuts a volume by hand, shows what goes wrong
at the cuts, and then filters a file within a memory limit that is smaller than the file.
"""

# %%
# A synthetic foam
# ----------------
# The volume is generated slab by slab, so that it is never in memory as a whole: a surface that
# winds through space (Schoen's gyroid), with noise, as 16-bit integers.
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import separable as sep
from separable import volumes
from separable.plot.style import ACCENT, COLOURS, MAIN, colour_scale

short = "--short" in sys.argv  # the short form takes a small volume
shape = (512, 128, 128) if short else (1024, 512, 512)
folder = tempfile.TemporaryDirectory()
source, target = (Path(folder.name, name) for name in ("foam.npy", "smooth.npy"))


def foam(z, shape):
    """Some planes of a foam, 16-bit numbers (z, y, x)."""
    rng = np.random.default_rng(int(z[0]))
    turns = (np.asarray(n, np.float32) * 2 * np.pi / 60 for n in (z, *map(np.arange, shape[1:])))
    z, y, x = np.meshgrid(*turns, indexing="ij", sparse=True)
    surface = np.sin(z) * np.cos(y) + np.sin(y) * np.cos(x) + np.sin(x) * np.cos(z)
    noise = rng.standard_normal(surface.shape, dtype=np.float32)
    return (20000 + 8000 * np.tanh(2 * surface) + 8000 * noise).clip(0, 65535).astype(np.uint16)


file = np.lib.format.open_memmap(source, "w+", np.uint16, shape)
for start in range(0, shape[0], 32):
    file[start : start + 32] = foam(np.arange(start, start + 32), shape)
del file  # which writes what is not yet on the disk
print(f"{source.name}: {' x '.join(map(str, shape))}, {source.stat().st_size / 2**20:.0f} MiB")

# %%
# The filter is a Gaussian. It is separable, and each of its three passes reaches eight voxels in
# both directions.
kernel = sep.kernels.gaussian(2, ndim=3)
print("strips of", [len(strip) for strip in kernel.terms[0]], "weights")
radius = len(kernel.terms[0][0]) // 2

# %%
# Cutting by hand
# ---------------
# First a part of the volume in memory, filtered as a whole and then in independent slabs of 16
# planes.
part = np.load(source, mmap_mode="r")[:64, :64, :96].astype(np.float32)
whole = sep.convolve(part, kernel)
slabs = range(0, len(part), 16)
alone = np.concatenate([sep.convolve(part[z : z + 16], kernel) for z in slabs])
print(f"largest difference: {np.abs(alone - whole).max():.0f} of {whole.max():.0f}")

# %%
# At the borders of an image something has to be assumed about the samples outside; here it is a
# reflection. But the border of a slab is not a border of the volume. So each slab must be *read*
# with as many additional planes as the kernel reaches, a **halo**, and *written* without them.


def slab(z):
    first, last = max(0, z - radius), min(len(part), z + 16 + radius)
    filtered = sep.convolve(part[first:last], kernel)
    return filtered[z - first : z - first + 16]


joined = np.concatenate([slab(z) for z in slabs])
print("the same to the last bit:", np.array_equal(joined, whole))

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), layout="constrained")
middle = part.shape[1] // 2
limit = np.abs(alone - whole)[:, middle].max()
axes[0].imshow(part[:, middle], cmap="gray")
axes[0].set_title("a cut across the slabs", size=10)
style = colour_scale(alone - whole, limit)
for ax, values, title in (
    (axes[1], alone - whole, "difference without a halo"),
    (axes[2], joined - whole, "difference with a halo"),
):
    drawn = ax.imshow(values[:, middle], **style)
    ax.set_title(title, size=10)
for ax in axes:
    ax.set(xticks=[], yticks=[], xlabel="x")
axes[0].set(yticks=list(slabs), ylabel="z")
bar = figure.colorbar(drawn, ax=axes, shrink=0.9, label=COLOURS)

# %%
# The cost of halos
# -----------------
# The samples in a halo are read more than once. How many depends on the cut and on how much fits
# in memory. In a volume of 512 x 512 x 512, cut into cubes, which have halos on all sides, or into
# slabs, which have two:
plane = 512 * 512
print("in memory       read, as cubes   as slabs")
for planes in (20, 32, 64, 128):
    side = (planes * plane) ** (1 / 3)
    cubes = side**3 / (side - 2 * radius) ** 3
    slabs_alone = planes / (planes - 2 * radius)
    amount = f"{planes * plane / 1e6:.0f} M voxels"
    print(f"{amount:14}{cubes:14.2f} x{slabs_alone:9.2f} x")

# %%
# With little memory slabs are mostly halo. But if slabs are processed in order, most of the next
# halo is already in memory and only has to be *kept*: then nothing is read twice, and slabs are
# best for any memory that holds a few more planes than the kernel is long. If even that is too
# much, a separable kernel offers another way: each pass uses one axis, so that a pass needs a halo
# only along that axis. :func:`separable.volumes.needs` says which samples a region of the result
# depends on:
region = (slice(128, 192),) * 3
for name, weights, axes in (
    ("the whole kernel", kernel, None),
    ("the pass along z", kernel.terms[0][0], 0),
    ("the pass along y", kernel.terms[0][1], 1),
):
    p = sep.plan(weights, shape=(512,) * 3, dtype="uint16", axes=axes, method="separable")
    needed = [s.stop - s.start for s in volumes.needs(p, region)]
    print(f"{name}: for 64 x 64 x 64 it needs {' x '.join(map(str, needed))}")

# %%
# A memory limit
# --------------
# The library takes all this into account and chooses the slabs from the memory limit. The
# interpreter and the libraries count too, so we plan in a separate process that imports nothing
# else:
ASK = """
import sys
import separable as sep
from separable import volumes

source, target, *limits = sys.argv[1:]
for limit in limits:
    try:
        with volumes.Run(source, target, sep.kernels.gaussian(2, ndim=3), memory=limit) as run:
            print(f"{limit}: {run.schedule}", end="\\n\\n")
    except sep.errors.ArgumentError as error:
        print(f"{limit}: {error}", end="\\n\\n")
"""


def python(program, *arguments):
    """Run a program in a process of its own; return what it prints, and how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    return done.stdout, done.returncode


said, _ = python(ASK, source, target, "64MiB", "350MiB", "400MiB")
print("\n".join(textwrap.fill(line, 78) for line in said.splitlines()))

# %%
# A limit that is too small is rejected before anything is read, and the message says how much is
# needed.
#
# Interrupted half-way
# --------------------
# Large volumes take long, and computers are switched off. So now the filter runs with the largest
# of these limits. The first process kills itself when half of the work is done, without a chance
# to clean up. The second one receives the same request.
FILTER = """
import os, signal, sys, time
import separable as sep
from separable import volumes

source, target, limit, most = sys.argv[1:]
done = 0.0

def told(part):
    global done
    done += part
    if done >= float(most):
        print(f"killed with {done:.0%} done", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

with volumes.Run(source, target, sep.kernels.gaussian(2, ndim=3), memory=limit) as run:
    if run.resumed:
        print(f"{run.resumed} of {run.schedule.slabs} slabs are there already")
    begin = time.perf_counter()
    run(told)
    print(f"finished in {time.perf_counter() - begin:.1f} s")
    print(f"allowed {run.schedule.limit / 2**20:.0f} MiB, predicted {run.schedule.memory / 2**20:.0f}")
try:
    lines = open("/proc/self/status").read().splitlines()
    most = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(f"taken at most {most / 1024:.0f} MiB, all in all")
except OSError:
    print("how much was taken is only known on Linux")
"""
for stop in (0.5, 2):
    said, status = python(FILTER, source, target, "400MiB", stop)
    names = sorted(path.name for path in Path(folder.name).iterdir())
    print(said + f"ended with {status}; in the folder:\n  {', '.join(names)}\n")

# %%
# As long as a result is incomplete its name ends in ``.partial``, so a file with the final name is
# always complete.
size = 2 * source.stat().st_size  # of input and output
print(f"input and output have {size / 2**20:.0f} MiB together")

# %%
# Check of the result
# -------------------
# Some planes in the middle, filtered in memory with a halo, compared with those on disk:
before, after = (np.load(path, mmap_mode="r") for path in (source, target))
z = shape[0] // 2
near = sep.convolve(np.array(before[z - radius : z + radius + 1]), kernel)
same = np.array_equal(near[radius], after[z])
assert same
print("the same to the last bit:", same)

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.5), layout="constrained")
window = (slice(0, 192), slice(0, 192))
for ax, values, title in (
    (axes[0], before[z][window], "as recorded"),
    (axes[1], after[z][window], "filtered"),
):
    ax.imshow(values, cmap="gray", vmin=5000, vmax=35000)
    ax.set_title(title, size=10)
    ax.set_axis_off()
for values, colour, label in ((before, ACCENT, "as recorded"), (after, MAIN, "filtered")):
    axes[2].hist(
        values[z].ravel(), bins=np.linspace(0, 50000, 80), color=colour, alpha=0.6, label=label
    )
axes[2].set(yticks=[], xticks=[0, 20000, 40000], xlabel="value of a voxel")
axes[2].spines[["top", "right", "left"]].set_visible(False)
axes[2].legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 1.18))

# %%
# The histogram of the noisy volume has one broad peak, and a narrow one at 0, where noise was cut off.
# That of the filtered volume has two, inside and outside the foam.
#
# In one line
# -----------
# Usually no process is killed, and one line is enough: :func:`separable.convolve` accepts names of
# files (NPY, Zarr, HDF5, NIfTI, TIFF ...) and Dask arrays, too. Here from file to file:
again = Path(folder.name, "again.npy")
if not short:  # a smaller file will do
    source = Path(folder.name, "part.npy")
    np.save(source, before[:128])
sep.convolve(source, kernel, output=again)
print(again.name, np.load(again, mmap_mode="r").shape)

# %%
# On the command line:
# ``separable filter foam.npy smooth.npy --kernel gaussian:2 --memory 400MiB``.
del before, after
folder.cleanup()
