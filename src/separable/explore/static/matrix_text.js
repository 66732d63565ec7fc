// Kernels from numbers in text, as `separable.kernels.parse` reads them: rows by lines or semicolons,
// MATLAB and NumPy, fractions, a factor beside brackets, JSON.

const CALL = "(?:(?:np|numpy)\\s*\\.\\s*)?(?:array|asarray|matrix)\\s*\\(";
const NUMBER = "[-+]?(?:\\d+\\.?\\d*|\\.\\d+)(?:[eE][-+]?\\d+)?";
const QUOTIENT = `\\(?\\s*${NUMBER}\\s*(?:/\\s*${NUMBER}\\s*)?\\)?`;
const CALLED = new RegExp(`^${CALL}([^]*?)(?:,\\s*(?:dtype|np|numpy)\\b[^\\])}]*)?\\)\\s*$`);
const BEFORE = new RegExp(`^(${QUOTIENT})\\s*\\*\\s*(?=[[({])([^]*)$`);
const AFTER = new RegExp(`^([^]*[\\])}])\\s*([*/])\\s*(${QUOTIENT})\\s*$`);
const OPERATION = /^[#%]\s*operation:\s*(correlate|convolve)\s*$/m;
const EXAMPLE = "a kernel has numbers, such as 1 2 1; 2 4 2; 1 2 1";
const DEEPEST = 16; // nested brackets

export function parseMatrix(text) {
  const start = text.replace(/^\ufeff/, "");
  if (/^\s*\{\s*"/.test(start)) return fromJson(start);
  const operation = OPERATION.exec(text)?.[1] || "";
  const kept = start.split(/\r\n|\r|\n/).map((line) => line.split(/[#%]/)[0].trim()).join("\n").replace(/^\n+|\n+$/g, "");
  const [scale, matrix] = scaled(kept);
  const values = checked(/^\s*[[({]/.test(matrix) ? bracketed(matrix) : planes(matrix));
  return { values: scale === null ? values : times(values, scale), operation };
}

function scaled(text) {
  let scale = null, left = text;
  const before = BEFORE.exec(left);
  if (before) [scale, left] = [quotient(before[1]), before[2]];
  const after = AFTER.exec(left);
  if (after) {
    const own = quotient(after[3]);
    if (after[2] === "/" && own === 0) throw new Error(`a kernel cannot be divided by 0; got '${after[3]}'`);
    scale = (scale ?? 1) * (after[2] === "/" ? 1 / own : own);
    left = after[1];
  }
  const called = CALLED.exec(left.trim());
  return [scale, called ? called[1] : left];
}

function quotient(text) {
  const [top, bottom] = text.replace(/[()\s]/g, "").split("/");
  if (bottom !== undefined && Number(bottom) === 0) throw new Error(`a kernel cannot be divided by 0; got '${text}'`);
  return Number(top) / Number(bottom ?? 1);
}

const times = (values, scale) => (typeof values === "number" ? values * scale : values.map((v) => times(v, scale)));

function planes(text) {
  const found = [];
  for (const plane of text.split(/;\s*;|\n[ \t]*\n/)) {
    const rows = plane.split(/[;\n]/).filter((row) => row.trim());
    if (rows.length) found.push(rows.map((row, i) => numbers(row, i + 1)));
  }
  if (!found.length) throw new Error(`${EXAMPLE}; got none`);
  return found.length > 1 ? found : found[0];
}

function numbers(text, row) {
  const words = text.trim().split(/\s+/);
  if (words.length > 1 && words.every((word) => /^[-+]?\d+,\d+$/.test(word))) {
    throw new Error(`row ${row} seems to have commas as decimals; write ${words[0].replace(",", ".")} for ${words[0]}, or spaces behind commas that separate numbers`);
  }
  return text.split(/[\s,]+/).filter(Boolean).map((word, i) => number(word, row, i + 1));
}

function number(word, row, place) {
  const parts = new RegExp(`^(${NUMBER})(?:/(\\d+))?$`).exec(word);
  const value = parts ? Number(parts[1]) / Number(parts[2] ?? 1) : NaN;
  if (!Number.isFinite(value)) throw new Error(`${EXAMPLE}; got '${word.slice(0, 40)}' in row ${row}, place ${place}`);
  return value;
}

// Lists in brackets; rows of the outermost also end with a line, as in MATLAB.
function bracketed(text) {
  const words = text.replaceAll("...\n", " ").match(/[[\](){},;\n]|[^\s[\](){},;]+/g) || [];
  let at = 1, row = 1;
  const inside = (depth) => {
    if (depth > DEEPEST) throw new Error(`a kernel has at most ${DEEPEST} brackets within each other`);
    const lists = [];
    let rows = [[]], commas = false;
    const ends = depth === 1 ? [";", "\n"] : [";"];
    while (at < words.length) {
      const word = words[at++];
      if ("[({".includes(word)) {
        lists.push(inside(depth + 1));
        row += 1;
      } else if ("])}".includes(word)) {
        rows = rows.filter((own) => own.length);
        if (lists.length && rows.length) throw new Error(`${EXAMPLE}; got numbers beside brackets in row ${row}`);
        if (!lists.length && !rows.length) throw new Error(`${EXAMPLE}; got empty brackets`);
        const one = rows.length === 1 && (depth > 1 || commas);
        return lists.length ? lists : one ? rows[0] : rows;
      } else if (ends.includes(word) && !lists.length) {
        if (rows[rows.length - 1].length) {
          rows.push([]);
          row += 1;
        }
      } else if (word === ",") commas = true;
      else if (word !== ";" && word !== "\n") rows[rows.length - 1].push(number(word, row, rows[rows.length - 1].length + 1));
    }
    throw new Error(`the brackets of a kernel do not match in '${text.slice(0, 40)}'`);
  };
  const found = inside(1);
  if (words.slice(at).some((word) => !"\n;,".includes(word))) throw new Error(`the brackets of a kernel do not match in '${text.slice(0, 40)}'`);
  return found;
}

function fromJson(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch (mistake) {
    throw new Error(`a kernel in JSON cannot be read: ${mistake.message}`);
  }
  const { operation = "", kernel } = found;
  if (!["", "correlate", "convolve"].includes(operation)) throw new Error(`"operation" of a kernel in JSON must be correlate or convolve; got '${operation}'`);
  if (!Array.isArray(kernel)) throw new Error('a kernel in JSON is nested lists of numbers, or an object with the key "kernel"');
  return { values: checked(kernel), operation };
}

function checked(rows) {
  const shape = [];
  for (let list = rows; Array.isArray(list); list = list[0]) shape.push(list.length);
  const walk = (list, depth, what) => {
    if (depth === shape.length) {
      if (typeof list !== "number" || !Number.isFinite(list)) throw new Error("a kernel has rows and planes of one size and only numbers");
      return;
    }
    if (!Array.isArray(list) || list.length !== shape[depth]) throw new Error(`a kernel has rows and planes of one size and only numbers; got ${shape[depth]} numbers in row 1 and ${list?.length ?? 0} in row ${what}`);
    list.forEach((inner, i) => walk(inner, depth + 1, i + 1));
  };
  walk(rows, 0, 1);
  if (shape.some((n) => !n)) throw new Error(`${EXAMPLE}; got none`);
  return rows;
}
