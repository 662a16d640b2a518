/** Above the slider: the mesh's p99 over the range as a line, failed and silent pairs as bars, and where we are. */
import { $ } from "../dom.js";
import { colours } from "../theme.js";

export function drawStrip(time, at) {
  const canvas = $("strip");
  const ratio = devicePixelRatio || 1;
  const w = canvas.clientWidth;
  const h = canvas.clientHeight;
  if (!w) {
    return;
  }
  const wide = Math.round(w * ratio);
  const tall = Math.round(h * ratio);
  if (canvas.width !== wide || canvas.height !== tall) {
    canvas.width = wide;
    canvas.height = tall;
  }
  const c = canvas.getContext("2d");
  const paint = colours();
  const n = time.windows.length;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, w, h);
  const x = (i) => (n > 1 ? 4 + (i * (w - 8)) / (n - 1) : w / 2);
  const base = h - 2;
  c.fillStyle = paint.grid;
  c.fillRect(0, base, w, 1);
  if (time.points?.length) {
    const place = new Map(time.windows.map((entry, i) => [entry.id, i]));
    const points = time.points
      .map((point) => ({ ...point, i: place.get(point.window) }))
      .filter(({ i }) => i !== undefined);
    const values = points.map((p) => p.p99_us).filter((v) => v > 0);
    const low = Math.min(...values) / 1.2;
    const high = Math.max(...values, low * 2.5) * 1.05;
    const y = (v) => base - 3 - (base - 6) * (Math.log(v / low) / Math.log(high / low));
    const width = Math.max(1.5, Math.min(8, w / n - 1));
    for (const p of points) {
      const bad = ((p.failed ?? 0) + (p.missing ?? 0)) / Math.max(1, p.pairs);
      if (!bad) {
        continue;
      }
      c.fillStyle = paint.bad;
      c.globalAlpha = 0.5;
      c.fillRect(
        x(p.i) - width / 2,
        base - 3 - Math.min(1, 0.15 + bad * 4) * (base - 6),
        width,
        Math.min(1, 0.15 + bad * 4) * (base - 6) + 3,
      );
      c.globalAlpha = 1;
    }
    c.strokeStyle = paint.s0;
    c.lineWidth = 1.6;
    c.beginPath();
    points.forEach((p, k) => {
      if (p.p99_us > 0) {
        c[k && points[k - 1].p99_us > 0 ? "lineTo" : "moveTo"](x(p.i), y(p.p99_us));
      }
    });
    c.stroke();
  }
  if (at >= 0) {
    c.fillStyle = paint.ink;
    c.fillRect(x(at) - 0.75, 0, 1.5, h);
  }
}
