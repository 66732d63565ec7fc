// Costs of a dense and of a depthwise separable layer, as `separable.cost` counts them, for the page that
// computes in the browser.
import { countSentence } from "./decompose.js";

const LARGEST = 1 << 14; // largest value of any size of a layer
const KERNELS = [1, 2, 3, 4, 5, 7, 9, 11, 16, 32, 64, 128, 256, 512, 1024];
const FILTERS = [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const BYTES = 4; // of one number
const product = (sizes) => sizes.reduce((a, b) => a * b, 1);

function whole(asked, name, value = asked[name]) {
  if (!Number.isInteger(value) || value < 1 || value > LARGEST) throw new Error(`\`${name}\` must be a whole number, 1 .. ${LARGEST}; got ${value}`);
  return value;
}

function outputs(size, kernel, stride, padding) {
  if (padding === "same") return Math.ceil(size / stride);
  return Math.floor((size - kernel) / stride) + 1;
}

function cost(multiplications, parameters, moved) {
  const bytes = [moved * BYTES, parameters * BYTES];
  return { multiplications, parameters, activation_bytes: bytes[0], weight_bytes: bytes[1], per_byte: multiplications / (bytes[0] + bytes[1]) };
}

const sum = (a, b) => cost(a.multiplications + b.multiplications, a.parameters + b.parameters, (a.activation_bytes + b.activation_bytes) / BYTES);

export function layer(asked) {
  if (!Array.isArray(asked.input) || asked.input.length < 1 || asked.input.length > 3) throw new Error(`\`input\` must be 1 to 3 whole numbers; got ${asked.input}`);
  const space = asked.input.map((n) => whole(asked, "input", n));
  const [channels, kernel, filters, multiplier, stride] = ["channels", "kernel", "filters", "multiplier", "stride"].map((name) => whole(asked, name));
  const after = space.map((n) => outputs(n, kernel, stride, asked.padding));
  if (after.some((n) => n < 1)) throw new Error(`\`kernel_shape\` (${space.map(() => kernel).join(", ")}) must fit into the input (${space.join(", ")}). Pad it, for instance padding='same'`);
  const [volume, places, before] = [kernel ** space.length, product(after), product(space)];
  const between = channels * multiplier;
  const dense = cost(places * volume * channels * filters, volume * channels * filters, before * channels + places * filters);
  const depthwise = cost(places * volume * between, volume * between, before * channels + places * between);
  const pointwise = cost(places * between * filters, between * filters, places * between + places * filters);
  const separable = sum(depthwise, pointwise);
  const ratio = (taps, out, m) => m * (1 / out + 1 / taps);
  return {
    output: after, dense, depthwise, pointwise, separable, ratio: dense.multiplications / separable.multiplications,
    spatial: channels === 1 && filters === 1 && space.length > 1 ? spatial(space, kernel, stride, asked.padding) : null,
    sentence: countSentence(volume * channels, volume * channels, separable.multiplications / (places * filters), 0, "separable"),
    break_even: (filters * volume) / (volume + filters), exact_from: Math.min(filters, volume),
    curves: {
      kernel: KERNELS.map((k) => [k, ratio(k ** space.length, filters, multiplier)]),
      filters: FILTERS.map((f) => [f, ratio(volume, f, multiplier)]),
      multiplier: Array.from({ length: 16 }, (_, m) => [m + 1, ratio(volume, filters, m + 1)]),
    },
  };
}

// One filter of one channel in passes along the axes; each runs on what the one before left.
function spatial(space, kernel, stride, padding) {
  const left = [...space];
  const passes = space.map((_, axis) => {
    left[axis] = outputs(left[axis], kernel, stride, padding);
    return product(left) * kernel;
  });
  return { passes, multiplications: passes.reduce((a, b) => a + b, 0) };
}
