"""Triton kernel that runs all passes of a separable filter, or of a bank, in one read and one write of the image.

A program computes a tile of `LANES * PHASES` outputs along x (the axis whose samples are next to each other in
memory), `DEPTH` outputs along z, and a strip of rows along y:

    x:  the window of samples of one row is in registers; sum_t weight[t] * window[lane + t]
    z:  the sums of the next KZ - 1 + DEPTH planes are added up, each with the weight of its distance
    y:  the last KY - 1 rows of sums stay in registers (the ring); with a new row they are the window of an output

Only samples of the image are read and only results are written. Neighbouring lanes have `PHASES` outputs each, so
that one aligned load brings several samples of a window. A row is a tuple of tensors of `LANES` elements.

The positions of samples come from index maps, one for each axis: entry i + t is the sample that tap t of output i
reads, or a negative number for the constant. So every border mode and every region of outputs is the same code.
Where the map along x is a straight run, a tile does not look it up.
"""

# ruff: noqa: RUF005  (the compiler takes sums of tuples, and no unpacking)

from separable.gpu.triton_kernels.triton_api import kernel, tl

__all__ = ["filter_passes"]


@kernel
def _weight(weights, table, INDEX: tl.constexpr, IN_ARGS: tl.constexpr):
    """Return one weight: an argument of the kernel, which costs no register, or from memory."""
    if IN_ARGS:
        value = weights[INDEX]
    else:
        value = tl.load(table + INDEX)
    return value


@kernel
def _weighted_sum(
    values,
    weights,
    table,
    LAYER: tl.constexpr,
    SUM: tl.constexpr,
    BASE: tl.constexpr,
    SOURCE_STEP: tl.constexpr,
    TAP_STEP: tl.constexpr,
    IN_ARGS: tl.constexpr,
):
    """Return one sum of a layer: over its terms, weight[place + t] * value of tap first + t. See `filter_passes`."""
    CHUNK: tl.constexpr = (
        16  # products that are added up at a time: the rounding of long sums stays small
    )
    total = tl.zeros_like(values[0])
    part = total
    for k in tl.static_range(tl.constexpr(LAYER[SUM]), tl.constexpr(LAYER[SUM + 1]), 4):
        for t in tl.static_range(tl.constexpr(LAYER[k + 2])):
            weight = _weight(weights, table, LAYER[k + 3] + t, IN_ARGS)
            value = values[BASE + LAYER[k] * SOURCE_STEP + (LAYER[k + 1] + t) * TAP_STEP]
            if t % CHUNK == 0:
                if t > 0 or k > LAYER[SUM]:
                    total = total + part
                part = weight * value
            else:
                part = part + weight * value
    if LAYER[SUM + 1] > LAYER[SUM] + 4 or LAYER[LAYER[SUM] + 2] > CHUNK:
        part = total + part
    return part


@kernel
def _split(values, LANES: tl.constexpr, PHASES: tl.constexpr):
    """Return the columns of (LANES, PHASES) values, which one thread holds, as a tuple."""
    if PHASES == 4:
        even, odd = tl.split(tl.reshape(values, (LANES, 2, 2)))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        columns = (first, second, third, fourth)
    else:
        first, second = tl.split(values)
        columns = (first, second)
    return columns


@kernel
def _joined(columns, LANES: tl.constexpr, PHASES: tl.constexpr):
    """Return a tuple of columns as (LANES, PHASES) values."""
    if PHASES == 4:
        even = tl.join(columns[0], columns[2])
        odd = tl.join(columns[1], columns[3])
        values = tl.reshape(tl.join(even, odd), (LANES, 4))
    else:
        values = tl.join(columns[0], columns[1])
    return values


@kernel
def _window(
    image,
    row,
    inside,
    constant,
    places,
    inner,
    LANES: tl.constexpr,
    PHASES: tl.constexpr,
    KX: tl.constexpr,
    SKIPPED: tl.constexpr,
    STRAIGHT: tl.constexpr,
    FILLS: tl.constexpr,
    WORK: tl.constexpr,
):
    """Return the samples of one row that a tile reads, as a tuple of PHASES + KX - 1 tensors of LANES elements.

    `places` are the offsets of the lanes in the row, of the first tap where the run is straight, otherwise of all.
    """
    found = ()
    if STRAIGHT and PHASES > 1:
        for v in tl.static_range((SKIPPED + 2 * PHASES + KX - 2) // PHASES):
            at = row + places[0] + v * PHASES
            found = found + _split(tl.load(image + at).to(WORK), LANES, PHASES)
        found = found[SKIPPED : SKIPPED + PHASES + KX - 1]
    else:
        for m in tl.static_range(PHASES + KX - 1):
            if STRAIGHT:
                value = tl.load(image + (row + places[0] + m * inner), mask=places[1]).to(WORK)
            elif FILLS:
                value = tl.load(image + (row + places[m]), mask=places[m] >= 0, other=0).to(WORK)
                value = tl.where(places[m] >= 0, value, constant)
            else:
                value = tl.load(image + (row + places[m])).to(WORK)
            found = found + (value,)
    if FILLS:
        own = ()
        for m in tl.static_range(PHASES + KX - 1):
            own = own + (tl.where(inside, found[m], constant),)
        found = own
    return found


@kernel
def _along_x(window, weights, table, X: tl.constexpr, PHASES: tl.constexpr, IN_ARGS: tl.constexpr):
    """Return the sums of the first layer of a row: sum by sum, the phases of each."""
    found = ()
    for s in tl.static_range(X[0] - 1):
        for i in tl.static_range(PHASES):
            found = found + (_weighted_sum(window, weights, table, X, s, i, 0, 1, IN_ARGS),)
    return found


@kernel
def _add_plane(
    sums, row_sums, plane, table, Z: tl.constexpr, PHASES: tl.constexpr, DEPTH: tl.constexpr
):
    """Add the sums of a plane to those of the outputs that read it, with the weight of its distance."""
    found = ()
    for s in tl.static_range(Z[0] - 1):
        for o in tl.static_range(DEPTH):
            for i in tl.static_range(PHASES):
                value = sums[(s * DEPTH + o) * PHASES + i]
                for k in tl.static_range(tl.constexpr(Z[s]), tl.constexpr(Z[s + 1]), 4):
                    tap = plane - o - Z[k + 1]
                    reads = (tap >= 0) & (tap < Z[k + 2])
                    weight = tl.load(table + Z[k + 3] + tap, mask=reads, other=0)
                    # Not a weight of 0: a NaN must not spread beyond the kernel.
                    more = value + weight * row_sums[Z[k] * PHASES + i]
                    value = tl.where(reads, more, value)
                found = found + (value,)
    return found


@kernel
def _row_sums(
    image, y_map, z_map, y, z, last_y, last_z, batch, s_y, s_z, constant, places, inner, weights,
    table, X: tl.constexpr, Z: tl.constexpr, KX: tl.constexpr, KZ: tl.constexpr,
    LANES: tl.constexpr, PHASES: tl.constexpr, DEPTH: tl.constexpr, SKIPPED: tl.constexpr,
    STRAIGHT: tl.constexpr, FILLS: tl.constexpr, WORK: tl.constexpr, IN_ARGS: tl.constexpr,
):  # fmt: skip
    """Return the sums of one row along x and z: sum by sum, output by output along z, the phases of each."""
    at_y = tl.load(y_map + tl.minimum(y, last_y))
    if KZ == 0:
        row = batch + tl.maximum(at_y, 0) * s_y
        window = _window(
            image, row, at_y >= 0, constant, places, inner, LANES, PHASES, KX, SKIPPED, STRAIGHT,
            FILLS, WORK,
        )  # fmt: skip
        sums = _along_x(window, weights, table, X, PHASES, IN_ARGS)
    else:
        sums = ()
        for _ in tl.static_range((Z[0] - 1) * DEPTH * PHASES):
            sums = sums + (tl.zeros((LANES,), WORK),)
        for plane in range(KZ + DEPTH - 1):
            at_z = tl.load(z_map + tl.minimum(z + plane, last_z))
            row = batch + tl.maximum(at_y, 0) * s_y + tl.maximum(at_z, 0) * s_z
            inside = (at_y >= 0) & (at_z >= 0)
            window = _window(
                image, row, inside, constant, places, inner, LANES, PHASES, KX, SKIPPED, STRAIGHT,
                FILLS, WORK,
            )  # fmt: skip
            own = _along_x(window, weights, table, X, PHASES, IN_ARGS)
            sums = _add_plane(sums, own, plane, table, Z, PHASES, DEPTH)
    return sums


@kernel
def _rounded(values, LOW: tl.constexpr, HIGH: tl.constexpr, DTYPE: tl.constexpr):
    """Round float64 values half to even and saturate them; NaN becomes 0."""
    # Adding 2**52 leaves no room for a fraction; values beyond it have none.
    size = tl.abs(values)
    whole = (size + 4503599627370496.0) - 4503599627370496.0
    whole = tl.where(size < 4503599627370496.0, whole, size)
    whole = tl.where(values < 0, -whole, whole)
    whole = tl.where(values == values, whole, 0.0)
    # The largest 64-bit integers are not float64 numbers: saturate before and after the conversion.
    above = whole >= HIGH
    below = whole <= LOW
    kept = tl.where(above | below, 0.0, whole).to(DTYPE)
    kept = tl.where(above, tl.full(kept.shape, HIGH, DTYPE), kept)
    return tl.where(below, tl.full(kept.shape, LOW, DTYPE), kept)


@kernel
def _store_row(
    result, window, weights, table, at, mask, Y: tl.constexpr, KY: tl.constexpr,
    SUMS: tl.constexpr, OUTPUT: tl.constexpr, between, LANES: tl.constexpr, PHASES: tl.constexpr,
    DEPTH: tl.constexpr, IN_ARGS: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Store the outputs of one row at one place along z: a sum over the ring for each band."""
    for b in tl.static_range(Y[0] - 1):
        found = ()
        for i in tl.static_range(PHASES):
            value = _weighted_sum(
                window, weights, table, Y, b, OUTPUT * PHASES + i, DEPTH * PHASES,
                SUMS * DEPTH * PHASES, IN_ARGS,
            )  # fmt: skip
            found = found + (value,)
        values = found[0]
        if PHASES > 1:
            values = _joined(found, LANES, PHASES)
        if HIGH > LOW:
            values = _rounded(values, LOW, HIGH, result.dtype.element_ty)
        tl.store(result + (at + b * between), values.to(result.dtype.element_ty), mask=mask)


@kernel
def _strip(
    image, result, y_map, z_map, weights, table, y0, y1, z0, n_y, n_z, lanes, batch, s_y, s_z,
    out, t_y, t_z, between, first, places, inner, constant, X: tl.constexpr, Z: tl.constexpr,
    Y: tl.constexpr, KX: tl.constexpr, KZ: tl.constexpr, KY: tl.constexpr, LANES: tl.constexpr,
    PHASES: tl.constexpr, DEPTH: tl.constexpr, UNROLL: tl.constexpr, SKIPPED: tl.constexpr,
    STRAIGHT: tl.constexpr, FILLS: tl.constexpr, WORK: tl.constexpr, IN_ARGS: tl.constexpr,
    LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Filter the rows y0 .. y1 - 1 of a tile, from the top down."""
    SUMS: tl.constexpr = (X[0] if KZ == 0 else Z[0]) - 1
    ROW: tl.constexpr = SUMS * DEPTH * PHASES
    last_y = n_y + KY - 2
    last_z = n_z + KZ - 2
    # Step 1: fill the ring with the rows above the first output.
    ring = ()
    for _ in tl.static_range((KY - 1) * ROW):
        ring = ring + (tl.zeros((LANES,), WORK),)
    for step in range(KY - 1):
        sums = _row_sums(
            image, y_map, z_map, y0 + step, z0, last_y, last_z, batch, s_y, s_z, constant, places,
            inner, weights, table, X, Z, KX, KZ, LANES, PHASES, DEPTH, SKIPPED, STRAIGHT, FILLS,
            WORK, IN_ARGS,
        )  # fmt: skip
        ring = (ring + sums)[ROW:]
    # Step 2: one output for each further row. Several rows per turn, so that the ring moves in larger steps.
    if PHASES > 1:
        cells = first + tl.arange(0, LANES)[:, None] * PHASES + tl.arange(0, PHASES)[None, :]
    else:
        cells = first + tl.arange(0, LANES)
    valid = cells < lanes
    for turn in range((y1 - y0 + UNROLL - 1) // UNROLL):
        for u in tl.static_range(UNROLL):
            y = y0 + turn * UNROLL + u
            sums = _row_sums(
                image, y_map, z_map, y + KY - 1, z0, last_y, last_z, batch, s_y, s_z, constant,
                places, inner, weights, table, X, Z, KX, KZ, LANES, PHASES, DEPTH, SKIPPED,
                STRAIGHT, FILLS, WORK, IN_ARGS,
            )  # fmt: skip
            window = ring + sums
            for o in tl.static_range(DEPTH):
                at = out + y * t_y + (z0 + o) * t_z + cells
                if (y < y1) & (z0 + o < n_z):
                    _store_row(
                        result, window, weights, table, at, valid, Y, KY, SUMS, o, between, LANES,
                        PHASES, DEPTH, IN_ARGS, LOW, HIGH,
                    )  # fmt: skip
            ring = window[ROW:]


@kernel
def filter_passes(
    image, result, x_map, y_map, z_map, weights, table, n_x, n_y, n_z, inner, rows, tiles_x,
    tiles_y, tiles_z, s_y, s_z, s_0, s_1, s_2, t_y, t_z, t_0, t_1, t_2, between, n_1, n_2,
    straight_from, straight_to, blocks, width, X: tl.constexpr, Z: tl.constexpr, Y: tl.constexpr,
    KX: tl.constexpr, KZ: tl.constexpr, KY: tl.constexpr, LANES: tl.constexpr,
    PHASES: tl.constexpr, DEPTH: tl.constexpr, UNROLL: tl.constexpr, SKIPPED: tl.constexpr,
    FILLS: tl.constexpr, DOUBLE: tl.constexpr, IN_ARGS: tl.constexpr, LOW: tl.constexpr,
    HIGH: tl.constexpr,
):  # fmt: skip
    """Filter one tile, see the module.

    Parameters
    ----------
    image, result : pointers
        Samples and outputs.
    x_map, y_map, z_map : pointers to int32
        Sample of each position, of length outputs + taps - 1; negative for the constant.
    weights, table
        All weights, as arguments and in memory; entry 0 is the constant outside.
    n_x, n_y, n_z : int
        Outputs along the axes; `inner` outputs lie at each position of x.
    rows, tiles_x, tiles_y, tiles_z : int
        Rows of a strip; tiles along each axis.
    s_*, t_* : int
        Strides of the image and of the result along y, z and three batch axes of sizes (any), n_1, n_2; `between`
        the bands.
    straight_from, straight_to, blocks : int
        Positions p of x from .. to - 1 read the samples p + blocks * PHASES + SKIPPED.
    width : int
        Samples of a row, along x.
    X, Z, Y : tuple of int
        Layers. The first numbers are the places, in the tuple itself, of the first term of each sum and of the end; then
        follow four numbers for each term: source, first tap, taps, place of the first weight. (Not a tuple of tuples,
        whose elements Triton before 3.8 does not take as arguments.)
    """
    # Step 1: the tile of this program.
    WORK: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    program = tl.program_id(0)
    tile_x = program % tiles_x
    program = program // tiles_x
    tile_z = program % tiles_z
    program = program // tiles_z
    tile_y = program % tiles_y
    program = program // tiles_y
    b_2 = program % n_2
    b_1 = (program // n_2) % n_1
    b_0 = program // n_2 // n_1
    batch = b_0 * s_0 + b_1 * s_1 + b_2 * s_2
    out = b_0 * t_0 + b_1 * t_1 + b_2 * t_2
    first = tile_x * (LANES * PHASES)
    y0 = tile_y * rows
    y1 = tl.minimum(y0 + rows, n_y)
    z0 = tile_z * DEPTH
    lanes = n_x * inner
    start = (tile_x * LANES + blocks) * PHASES  # a multiple of PHASES, so that loads are aligned
    constant = tl.load(table)
    # Step 2: whether all positions of the tile are in the straight run.
    lane = tl.arange(0, LANES)
    if PHASES > 1:
        LOADS: tl.constexpr = (SKIPPED + 2 * PHASES + KX - 2) // PHASES
        straight = (first >= straight_from) & (first + LANES * PHASES + KX - 1 <= straight_to)
        straight = straight & (start >= 0) & (start + (LANES + LOADS - 1) * PHASES <= width)
    else:
        last = tl.minimum(first + LANES, lanes) - 1
        straight = (first // inner >= straight_from) & (last // inner + KX <= straight_to)
    # Step 3: filter it.
    if straight:
        if PHASES > 1:
            cells = lane[:, None] * PHASES + tl.arange(0, PHASES)[None, :]
            places = (start + cells,)
        else:
            places = (first + lane + blocks * inner, first + lane < lanes)
        _strip(
            image, result, y_map, z_map, weights, table, y0, y1, z0, n_y, n_z, lanes, batch, s_y,
            s_z, out, t_y, t_z, between, first, places, inner, constant, X, Z, Y, KX, KZ, KY,
            LANES, PHASES, DEPTH, UNROLL, SKIPPED, True, FILLS, WORK, IN_ARGS, LOW, HIGH,
        )  # fmt: skip
    else:
        cell = first + lane * PHASES
        position = cell // inner
        found = ()
        for m in tl.static_range(PHASES + KX - 1):
            known = position + m < n_x + KX - 1
            sample = tl.load(x_map + position + m, mask=known, other=0)
            offset = sample * inner + cell % inner
            found = found + (tl.where(sample < 0, -1, offset),)
        _strip(
            image, result, y_map, z_map, weights, table, y0, y1, z0, n_y, n_z, lanes, batch, s_y,
            s_z, out, t_y, t_z, between, first, found, inner, constant, X, Z, Y, KX, KZ, KY,
            LANES, PHASES, DEPTH, UNROLL, SKIPPED, False, FILLS, WORK, IN_ARGS, LOW, HIGH,
        )  # fmt: skip
