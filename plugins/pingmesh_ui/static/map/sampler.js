/**
 * From a pyramid to pixels: for every pixel of the picture, the code of the cell under it. No element per cell, no
 * scaling by the browser: the cost is that of the pixels, whatever the size of the mesh.
 */
import { HIGHEST } from "./codes.js";

/** The level to draw at `scale` px a cell: the first whose blocks are at least one px, of those that are there. */
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
 * Draw into `pixels` (Uint32Array, width × height). `view` is { x, y } in cells at the upper left, `scale` px a cell.
 * States are hatched on the picture's own grid, so their stripes do not crawl while one zooms.
 */
export function sample(pixels, width, height, levels, view, scale, lut, outside) {
  const k = levelFor(levels, scale);
  const { n, codes } = levels[k];
  const size = 2 ** k;
  const px = scale * size;
  const { colour, mark } = lut;
  const columns = new Int32Array(width);
  const thin = px < 3;
  let shown = width;
  for (let x = 0; x < width; x++) {
    const at = Math.floor(view.x / size + (x + 0.5) / px);
    if (at < 0 || at >= n) {
      shown = x;
      break;
    }
    columns[x] = at;
  }
  let before = -1;
  let plain = false;
  for (let y = 0; y < height; y++) {
    const row = Math.floor(view.y / size + (y + 0.5) / px);
    const at = y * width;
    if (row < 0 || row >= n) {
      pixels.fill(outside, at, at + width);
      continue;
    }
    if (row === before && plain) {
      pixels.copyWithin(at, at - width, at);
      continue;
    }
    const first = row * n;
    plain = true;
    for (let x = 0; x < shown; x++) {
      const code = codes[first + columns[x]];
      if (code <= HIGHEST) {
        pixels[at + x] = colour[code];
      } else {
        plain = false;
        pixels[at + x] = hatched(code - HIGHEST, x, y, thin) ? mark[code] : colour[code];
      }
    }
    pixels.fill(outside, at + shown, at + width);
    before = row;
  }
}

/** 1 unclean: dots; 2 missing: stripes; 3 failed: crossed stripes. Lines of one px of blocks are left solid. */
function hatched(kind, x, y, thin) {
  if (thin) {
    return kind === 2 ? ((x + y) & 3) === 0 : false;
  }
  if (kind === 1) {
    return (x & 3) === 1 && (y & 3) === 1;
  }
  if (kind === 2) {
    return ((x + y) & 7) < 2;
  }
  return ((x + y) & 7) === 0 || ((x - y) & 7) === 0;
}
