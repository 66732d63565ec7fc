"""Cases of MetaImage and NRRD: written by SimpleITK and pynrrd, and read by SimpleITK."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from statement_cases import Run, case
from volume_statements import ITK, RNG, VOLUME, box, close, of

sitk = pytest.importorskip("SimpleITK")
nrrd = pytest.importorskip("nrrd")

TURN = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
SPACING, ORIGIN = (1.0, 2.0, 4.0), (10.0, -20.0, 30.0)  # x, y, z


def same_place(found: Any) -> None:
    np.testing.assert_allclose(found.GetSpacing(), SPACING, rtol=1e-6)
    np.testing.assert_allclose(found.GetOrigin(), ORIGIN, rtol=1e-6)
    np.testing.assert_allclose(found.GetDirection(), TURN.ravel(), atol=1e-6)


@of(ITK, "spacing", "position and direction", "other metadata")
def oblique(run: Run, suffix: str) -> None:
    image = sitk.GetImageFromArray(VOLUME.astype("f4"))
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(TURN.ravel())
    image.SetMetaData("Scanner", "one")
    source = run.folder / f"in{suffix}"
    sitk.WriteImage(image, str(source))
    found = sitk.ReadImage(str(run(source, "gaussian:4mm")))
    wanted = ndimage.gaussian_filter(VOLUME.astype(float), (1, 2, 4), truncate=4)
    close(sitk.GetArrayFromImage(found), wanted)
    same_place(found)
    before = sitk.ReadImage(str(source))
    for key in ("Scanner", "Modality"):
        if before.HasMetaDataKey(key):
            assert found.GetMetaData(key) == before.GetMetaData(key)


@of(ITK, "several bands")
def vectors(run: Run, suffix: str) -> None:
    values = np.stack([VOLUME, 2 * VOLUME], axis=-1)
    source = run.folder / f"in{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(source))
    found = sitk.ReadImage(str(run(source)))
    assert found.GetNumberOfComponentsPerPixel() == 2
    close(sitk.GetArrayFromImage(found), box(values, (0, 1, 2)))


@case("NRRD", "colour samples", "axis names")
def colours(run: Run) -> None:
    values = np.stack([VOLUME % 256] * 3).astype("u1")
    own = {"kinds": ["RGB-color", "domain", "domain", "domain"], "labels": ["rgb", "a", "b", "c"]}
    own["encoding"] = "raw"
    nrrd.write(str(run.folder / "in.nrrd"), values, own)
    found, header = nrrd.read(str(run(run.folder / "in.nrrd")))
    close(found, box(values, (1, 2, 3)))
    assert (header["kinds"], header["labels"]) == (own["kinds"], own["labels"])


@case("NRRD", "alpha", "planar colour")
def opacity(run: Run) -> None:
    values = np.stack([VOLUME[0] % 256] * 4)
    values[3] = 255
    values[3, :, 6:] = 0
    values[:3, :, 6:] = 200  # a colour that nobody should see
    own = {"kinds": ["RGBA-color", "domain", "domain"], "encoding": "raw"}
    nrrd.write(str(run.folder / "in.nrrd"), values.astype("u1"), own)
    found, header = nrrd.read(str(run(run.folder / "in.nrrd")))
    close(found[3], box(values[3]))
    weight = box(values[3])
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = box(1.0 * values[0] * values[3]) / weight
    close(found[0][weight > 1], wanted[weight > 1])
    assert header["kinds"] == own["kinds"]
    assert "colours were weighted by alpha" in run.text


@case("NRRD", "unknown colour space")
def hues(run: Run) -> None:
    own = {"kinds": ["HSV-color", "domain", "domain"], "encoding": "raw"}
    nrrd.write(str(run.folder / "in.nrrd"), RNG.random((3, 8, 9)), own)
    run.refused(run.folder / "in.nrrd", "its colours are hues")


@case("NRRD", "spacing in several units")
def units_of_axes(run: Run) -> None:
    own = {"kinds": ["domain"] * 3, "spacings": [500.0, 1.0, 0.1], "units": ["um", "mm", "cm"],
           "encoding": "raw"}  # fmt: skip
    nrrd.write(str(run.folder / "in.nrrd"), VOLUME.astype("f4"), own)
    found, header = nrrd.read(str(run(run.folder / "in.nrrd", "gaussian:1mm")))
    close(found, ndimage.gaussian_filter(VOLUME.astype(float), (2, 1, 1), truncate=4))
    np.testing.assert_allclose(np.abs(np.diag(header["space directions"])), (0.5, 1, 1))
    assert header["units"] == ["mm"] * 3
    space = {"space": "right-anterior-superior", "space directions": 20 * np.eye(3), "encoding": "raw",
             "space units": ["um"] * 3, "space origin": [30.0, 40, 50], "measurement frame": np.eye(3)}  # fmt: skip
    nrrd.write(str(run.folder / "in.nrrd"), VOLUME.astype("f4"), space)
    found, header = nrrd.read(str(run(run.folder / "in.nrrd", "gaussian:20um")))
    close(found, ndimage.gaussian_filter(VOLUME.astype(float), 1, truncate=4))
    np.testing.assert_allclose(header["space origin"], (-0.03, -0.04, 0.05))
    assert header["space units"] == ["mm"] * 3
    # Its vectors are in the space of the file, which is another one now.
    np.testing.assert_array_equal(header["measurement frame"], np.diag([-1, -1, 1]))


@case("MetaImage", "scale and offset")
def intensity_function(run: Run) -> None:
    image = sitk.GetImageFromArray(VOLUME)
    sitk.WriteImage(image, str(run.folder / "in.mhd"))
    lines = (run.folder / "in.mhd").read_text()
    function = "ElementToIntensityFunctionSlope = 2\nElementToIntensityFunctionOffset = -5\n"
    (run.folder / "in.mhd").write_text(lines.replace("ElementType", function + "ElementType"))
    result = run(run.folder / "in.mhd", target=".mha")
    close(sitk.GetArrayFromImage(sitk.ReadImage(str(result))), box(2.0 * VOLUME - 5))
    assert b"IntensityFunction" not in result.read_bytes()[:2000]
    assert "numbers are 2 * stored - 5" in run.text


@case("MetaImage", "contradicting spacing", "several images")
def wrong_metaimage(run: Run) -> None:
    head = "ObjectType = Image\nNDims = 2\nDimSize = 3 2\nElementType = MET_UCHAR\n{}\n"
    for line, message in (
        ("ElementSpacing = 0 1\nElementDataFile = LOCAL", "its spacing must be > 0"),
        ("TransformMatrix = 1 0 1 0\nElementDataFile = LOCAL", "its TransformMatrix is singular"),
        ("ElementDataFile = LIST", "its slices are in several files"),
    ):
        (run.folder / "in.mha").write_bytes(head.format(line).encode() + bytes(6))
        run.refused(run.folder / "in.mha", message)


@case("NRRD", "contradicting spacing", "several images")
def wrong_nrrd(run: Run) -> None:
    head = (
        "NRRD0005\ntype: uchar\ndimension: 2\nsizes: 3 2\nencoding: raw\nspace dimension: 2\n{}\n\n"
    )
    for line, message in (
        ("space directions: (1,0) (1,0)", "its space directions are singular"),
        ("space directions: (0,0) (0,1)", "its spacing must be > 0"),
        ("data file: a%03d.raw 1 3 1", "its slices are in several files"),
    ):
        (run.folder / "in.nrrd").write_bytes(head.format(line).encode() + bytes(6))
        run.refused(run.folder / "in.nrrd", message)
