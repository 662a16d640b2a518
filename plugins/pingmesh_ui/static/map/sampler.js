/**
 * From a pyramid to pixels: for every pixel of the picture, the code of the cell under it. There is
 * no element per cell and no scaling by the browser, so the cost is that of the pixels at any size
 * of the mesh.
 */
import { FAILED, HIGHEST, MISSING, UNCLEAN } from "./codes.js";

/** @import { Lut } from "./palette.js" */
/** @import { Level } from "./pyramid.js" */

/** Blocks below so many px have no crossed or dotted hatches: they would be noise. */
const THIN_PX = 3;

/**
 * The level to draw at `scale` px a cell: the first, of those that are there, whose blocks are at
 * least one px.
 * @param {Level[]} levels
 * @param {number} scale
 */
export function levelFor(levels, scale) {
  let k = 0;
  while (k + 1 < levels.length && scale * 2 ** k < 1) {
    k++;
  }
  while (!levels[k] && k + 1 < levels.length) {
    k++;
  }
  return k;
}

/**
 * Draw into `pixels`. States are hatched on the grid of the picture, so that stripes stay in place
 * while one zooms.
 * @param {Uint32Array} pixels width × height
 * @param {number} width
 * @param {number} height
 * @param {Level[]} levels
 * @param {{ x: number, y: number }} view the upper left, in cells
 * @param {number} scale px a cell
 * @param {Lut} lut
 * @param {number} outside the colour beyond the matrix
 */
export function sample(pixels, width, height, levels, view, scale, lut, outside) {
  const k = levelFor(levels, scale);
  const { n, codes } = levels[k];
  const size = 2 ** k;
  const px = scale * size;
  const columns = columnsOf(width, view.x / size, px, n);
  const shown = columns.length;
  let before = -1;
  let isPlain = false;

  for (let y = 0; y < height; y++) {
    const row = Math.floor(view.y / size + (y + 0.5) / px);
    const at = y * width;
    if (row < 0 || row >= n) {
      pixels.fill(outside, at, at + width);
      continue;
    }
    if (row === before && isPlain) {
      pixels.copyWithin(at, at - width, at);
      continue;
    }
    isPlain = drawRow(pixels, at, y, codes, row * n, columns, lut, px < THIN_PX);
    pixels.fill(outside, at + shown, at + width);
    before = row;
  }
}

/**
 * The column of the matrix under each pixel, up to the last that has one.
 * @param {number} width
 * @param {number} from
 * @param {number} px px a block
 * @param {number} n
 */
function columnsOf(width, from, px, n) {
  const columns = new Int32Array(width);
  for (let x = 0; x < width; x++) {
    const at = Math.floor(from + (x + 0.5) / px);
    if (at < 0 || at >= n) {
      return columns.subarray(0, x);
    }
    columns[x] = at;
  }
  return columns;
}

/**
 * Draw one row of pixels; returns whether it has no hatches, so that the next row may be a copy.
 * @param {Uint32Array} pixels
 * @param {number} at where the row begins in `pixels`
 * @param {number} y
 * @param {Uint16Array} codes
 * @param {number} first where the row begins in `codes`
 * @param {Int32Array} columns
 * @param {Lut} lut
 * @param {boolean} isThin
 */
function drawRow(pixels, at, y, codes, first, columns, { colour, mark }, isThin) {
  let isPlain = true;
  for (let x = 0; x < columns.length; x++) {
    const code = codes[first + columns[x]];
    if (code <= HIGHEST) {
      pixels[at + x] = colour[code];
    } else {
      isPlain = false;
      pixels[at + x] = isMarked(code, x, y, isThin) ? mark[code] : colour[code];
    }
  }
  return isPlain;
}

/**
 * Whether a pixel belongs to the hatch of its state: dots where answered only after retransmits,
 * stripes where there is no data, crossed stripes where failed.
 * @param {number} code
 * @param {number} x
 * @param {number} y
 * @param {boolean} isThin
 */
function isMarked(code, x, y, isThin) {
  if (isThin) {
    return code === MISSING && ((x + y) & 3) === 0;
  }
  if (code === UNCLEAN) {
    return (x & 3) === 1 && (y & 3) === 1;
  }
  if (code === MISSING) {
    return ((x + y) & 7) < 2;
  }
  return code === FAILED && (((x + y) & 7) === 0 || ((x - y) & 7) === 0);
}
