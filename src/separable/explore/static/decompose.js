// Singular values and separable terms of a kernel, as `separable.factorize` and `separable.spectrum` find
// them, for the page that computes in the browser.

const EPS = 2 ** -52;
const SWEEPS = 60; // rotations of all pairs of columns; ten are usual
const SHOWN_TERMS = 32, SHOWN_VALUES = 64;

// One-sided Jacobi (Hestenes, 1958): rotate pairs of columns until all are orthogonal. Returns the columns
// of U and V and the singular values in descending order.
export function svd(matrix) {
  const [m, n] = [matrix.length, matrix[0].length];
  if (m < n) {
    const { u, s, v } = svd(matrix[0].map((_, j) => matrix.map((row) => row[j])));
    return { u: v, s, v: u };
  }
  const a = Array.from({ length: n }, (_, j) => Float64Array.from(matrix, (row) => row[j])); // columns
  const v = Array.from({ length: n }, (_, j) => Float64Array.from({ length: n }, (_, i) => (i === j ? 1 : 0)));
  const size = Math.sqrt(a.reduce((sum, column) => sum + dot(column, column), 0));
  const small = (EPS * size) ** 2;
  for (let sweep = 0, turned = true; turned && sweep < SWEEPS; sweep += 1) {
    turned = false;
    for (let p = 0; p < n - 1; p += 1) {
      for (let q = p + 1; q < n; q += 1) turned = rotate(a, v, p, q, small) || turned;
    }
  }
  const lengths = a.map((column) => Math.sqrt(dot(column, column)));
  const order = lengths.map((_, j) => j).sort((i, j) => lengths[j] - lengths[i]);
  return {
    s: order.map((j) => lengths[j]),
    u: order.map((j) => a[j].map((x) => (lengths[j] ? x / lengths[j] : 0))),
    v: order.map((j) => v[j]),
  };
}

const dot = (x, y) => {
  let sum = 0;
  for (let i = 0; i < x.length; i += 1) sum += x[i] * y[i];
  return sum;
};

function rotate(a, v, p, q, small) {
  const [alpha, beta, gamma] = [dot(a[p], a[p]), dot(a[q], a[q]), dot(a[p], a[q])];
  if (Math.abs(gamma) <= EPS * Math.sqrt(alpha * beta) || Math.abs(gamma) <= small) return false;
  const zeta = (beta - alpha) / (2 * gamma);
  const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
  const c = 1 / Math.sqrt(1 + t * t), s = c * t;
  for (const columns of [a, v]) {
    const [x, y] = [columns[p], columns[q]];
    for (let i = 0; i < x.length; i += 1) [x[i], y[i]] = [c * x[i] - s * y[i], s * x[i] + c * y[i]];
  }
  return true;
}

export const shapeOf = (values) => (Array.isArray(values) ? [values.length, ...shapeOf(values[0])] : []);
const flat = (values) => values.flat(Infinity);
const norm = (values) => Math.sqrt(flat(values).reduce((sum, x) => sum + x * x, 0));

// Terms of a tensor of two or three axes: coefficient and one unit vector per axis.
function nested(tensor, cut) {
  const shape = shapeOf(tensor);
  if (shape.length === 1) {
    const size = norm(tensor);
    return size > cut ? [{ coefficient: size, vectors: [tensor.map((x) => x / size)] }] : [];
  }
  const axes = shape.length > 2 ? shape.map((_, k) => k) : [0];
  const found = axes.map((axis) => along(tensor, shape, axis, cut));
  return found.reduce((best, terms) => (passCount(terms) < passCount(best) ? terms : best));
}

function along(tensor, shape, axis, cut) {
  const rest = shape.filter((_, k) => k !== axis);
  const matrix = Array.from({ length: shape[axis] }, (_, i) => flat(axis === 0 ? tensor[i] : axis === 1 ? tensor.map((plane) => plane[i]) : tensor.map((plane) => plane.map((row) => row[i]))));
  const { u, s, v } = svd(matrix);
  const terms = [];
  for (let r = 0; r < s.length && s[r] > cut; r += 1) {
    const right = [...v[r]];
    const inner = rest.length === 1 ? right : Array.from({ length: rest[0] }, (_, i) => right.slice(i * rest[1], (i + 1) * rest[1]));
    for (const part of nested(inner, cut / s[r])) {
      const vectors = [...part.vectors];
      vectors.splice(axis, 0, [...u[r]]);
      terms.push(oriented({ coefficient: s[r] * part.coefficient, vectors }));
    }
  }
  return terms;
}

// Sign of a vector: that of its sum, or of its last element if the sum is 0.
function direction(vector) {
  const total = vector.reduce((a, b) => a + b, 0);
  const weight = vector.reduce((a, b) => a + Math.abs(b), 0);
  return (Math.abs(total) > 1e-9 * weight ? total : vector[vector.length - 1]) < 0 ? -1 : 1;
}

function oriented({ coefficient, vectors }) {
  let sign = 1;
  const turned = vectors.map((vector, k) => {
    const own = k < vectors.length - 1 ? direction(vector) : sign;
    if (k < vectors.length - 1) sign *= own;
    return vector.map((x) => x * own);
  });
  return { coefficient, vectors: turned };
}

function passCount(terms) {
  if (!terms.length) return 0;
  const ndim = terms[0].vectors.length;
  const counts = [ndim * terms.length];
  for (let axis = 0; axis < ndim; axis += 1) {
    const distinct = new Set(terms.map((t) => t.vectors[axis].map((x) => (Math.round(x * 1e12) + 0) / 1e12).join()));
    counts.push(distinct.size + (ndim - 1) * terms.length);
  }
  return Math.min(...counts);
}

const gcd = (a, b) => (b ? gcd(b, a % b) : Math.abs(a));

// Integer factors of an integer kernel of rank 1, or null.
function integerFactors(values, shape) {
  const all = flat(values);
  if (!all.some(Boolean) || all.some((x) => !Number.isInteger(x) || Math.abs(x) >= 2 ** 53)) return null;
  const largest = Math.max(...all.map(Math.abs));
  const pivot = [];
  for (let at = all.findIndex((x) => Math.abs(x) === largest), k = shape.length - 1; k >= 0; k -= 1) {
    pivot[k] = at % shape[k];
    at = Math.floor(at / shape[k]);
  }
  const get = (index) => index.reduce((list, i) => list[i], values);
  const vectors = shape.map((length, axis) => {
    const line = Array.from({ length }, (_, i) => get(pivot.map((p, k) => (k === axis ? i : p))));
    const divisor = line.reduce(gcd, 0);
    const total = line.reduce((a, b) => a + b, 0) || line.filter(Boolean).pop();
    return line.map((x) => (x / divisor) * (total < 0 ? -1 : 1) + 0);
  });
  let scale = get(pivot) / vectors.reduce((product, v, k) => product * v[pivot[k]], 1);
  if (!Number.isInteger(scale)) return null;
  if (scale < 0) {
    const zero = vectors.findIndex((v) => v.reduce((a, b) => a + b, 0) === 0);
    const k = zero < 0 ? vectors.length - 1 : zero;
    vectors[k] = vectors[k].map((x) => -x + 0);
    scale = -scale;
  }
  vectors[0] = vectors[0].map((x) => x * scale);
  return flat(outer(vectors)).every((x, i) => x === all[i]) ? vectors : null;
}

export function outer([first, ...rest]) {
  if (!rest.length) return [...first];
  const inner = outer(rest);
  const scaled = (x, t) => (typeof t === "number" ? x * t : t.map((y) => scaled(x, y)));
  return first.map((x) => scaled(x, inner));
}

// Exact terms, singular values and the error of each number of terms.
export function factorize(values) {
  const shape = shapeOf(values);
  const scale = Math.max(...flat(values).map(Math.abs)) || 1;
  const noise = Math.max(...shape, 8) * EPS;
  let terms, spectrum;
  if (shape.length === 2) {
    const { u, s, v } = svd(values.map((row) => row.map((x) => x / scale)));
    const kept = s.filter((x) => x > noise * s[0]).length;
    spectrum = s.map((x) => x * scale);
    terms = Array.from({ length: kept }, (_, r) => {
      const sign = direction([...u[r]]);
      return { coefficient: spectrum[r], vectors: [[...u[r]].map((x) => x * sign), [...v[r]].map((x) => x * sign)] };
    });
  } else {
    terms = nested(values, noise * norm(values));
    spectrum = terms.map((t) => t.coefficient).sort((a, b) => b - a);
  }
  const rank = terms.length;
  const integers = integerFactors(values, shape);
  const shared = terms.map(({ coefficient, vectors }) => vectors.map((v) => v.map((x) => x * coefficient ** (1 / vectors.length))));
  const squares = spectrum.map((x) => (x / scale) ** 2);
  const tails = Array.from({ length: spectrum.length + 1 }, (_, r) => squares.slice(r).reverse().reduce((a, b) => a + b, 0));
  const errors = tails.map((t, r) => (r >= rank ? 0 : Math.sqrt(t / tails[0])));
  return { shape, rank, terms: integers ? [integers] : shared, spectrum, errors };
}

// One decimal, rounded half to even as in Python; of exact halves only .25 and .75 exist.
const digit = (x) => (x % 1 === 0.25 ? x - 0.05 : x).toFixed(1);

// Multiplications per output in the words of every screen; `cost.KernelCount` has the same sentence.
export function countSentence(dense, nonzero, needed, passes, name = "") {
  const zeros = nonzero === dense ? "" : ` (${nonzero} of its weights are not zero)`;
  const number = Number.isInteger(needed) ? String(needed) : digit(needed);
  const way = passes ? ` in ${passes} pass${passes === 1 ? "" : "es"}` : name && ` ${name}`;
  return `multiplications per output: ${dense} dense${zeros}, ${number}${way}${verdict(dense, needed)}`;
}

function verdict(dense, needed) {
  if (!needed) return "";
  const ratio = dense / needed;
  if (ratio >= 1.05) return `: ${digit(ratio)} times fewer`;
  return ratio < 1 / 1.05 ? `: ${digit(1 / ratio)} times more` : ": as many";
}

// Everything that the page shows about a kernel.
export function describe(values, name, operation = "correlate") {
  const all = flat(values);
  const shape = shapeOf(values);
  const nonzero = all.filter(Boolean).length;
  const found = { name, operation, shape, values, sum: all.reduce((a, b) => a + b, 0) };
  if (shape.length === 1) {
    const verdict = "The kernel has one axis: a single pass, nothing to separate.";
    return { ...found, pattern: "", rank: 1, verdict, terms: [], spectrum: [], errors: [], bounds: [], multiplications: { dense: all.length, nonzero, passes: [], sentence: "" } };
  }
  const letters = "zyx".slice(-shape.length).split("");
  const { rank, terms, spectrum, errors } = factorize(values);
  const shown = terms.slice(0, SHOWN_TERMS);
  const each = shape.reduce((a, b) => a + b, 0);
  return {
    ...found, pattern: `${letters.join("")} -> ${letters.join(",")}`, rank, verdict: kernelVerdict(shape, rank, errors), letters, terms: shown,
    spectrum: spectrum.slice(0, Math.min(SHOWN_VALUES, rank)), errors: errors.slice(0, Math.min(SHOWN_VALUES, rank) + 1), bounds: bounds(all, shown),
    multiplications: { dense: all.length, nonzero, passes: shown.map((_, i) => (i + 1) * each), sentence: countSentence(all.length, nonzero, rank * each, rank * shape.length) },
  };
}

function bounds(all, terms) {
  const weight = all.reduce((sum, x) => sum + Math.abs(x), 0) || 1;
  const left = [...all];
  const size = () => left.reduce((sum, x) => sum + Math.abs(x), 0) / weight;
  return [size(), ...terms.map((term) => {
    flat(outer(term)).forEach((x, i) => (left[i] -= x));
    return size();
  })];
}

function kernelVerdict(shape, rank, errors) {
  const vectors = shape.length === 2 ? "a column and a row" : `${shape.length} vectors, one per axis`;
  if (rank === 0) return "The kernel is zero everywhere.";
  if (rank === 1) return `Separable: it is exactly the product of ${vectors}.`;
  return `Not separable: it is the sum of ${rank} products of ${vectors}. The best single product has an error of ${digit(100 * errors[1])}% (Frobenius norm).`;
}
