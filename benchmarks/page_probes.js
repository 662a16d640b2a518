// What page_speed.py runs inside the browser.
({
frames: async () => {
  const overlay = document.getElementById("overlay"), box = overlay.getBoundingClientRect(), work = [], gaps = [];
  const raf = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (then) => raf((now) => { const t = performance.now(); then(now); work.push(performance.now() - t); });
  const fire = (type, init) => overlay.dispatchEvent(new (type === "wheel" ? WheelEvent : PointerEvent)(type, { bubbles: true, cancelable: true, clientX: box.left + 300, clientY: box.top + 300, pointerId: 1, ...init }));
  let before = performance.now();
  for (let i = 0; i < 90; i++) {
    fire("wheel", { deltaY: i < 45 ? -60 : 60, clientX: box.left + 250 + i, clientY: box.top + 300 });
    fire("pointermove", { clientX: box.left + 250 + i, clientY: box.top + 300 });
    await new Promise((then) => raf(then));
    gaps.push(performance.now() - before);
    before = performance.now();
  }
  window.requestAnimationFrame = raf;
  const at = (all, q) => all.sort((a, b) => a - b)[Math.floor(q * (all.length - 1))];
  return { work: at(work, 0.5), work95: at(work, 0.95), gap: at(gaps, 0.5), gap95: at(gaps, 0.95) };
},

steps: async ([speed, seconds]) => {
  const steps = [], shown = new MessageChannel(), mark = performance.mark.bind(performance);
  document.getElementById("speed").value = String(speed);
  document.getElementById("speed").dispatchEvent(new Event("change"));
  const slider = document.getElementById("slider");
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  await new Promise((then) => setTimeout(then, 3000));
  let began = 0, long = 0;
  const observer = new PerformanceObserver((list) => { for (const entry of list.getEntries()) long = Math.max(long, entry.duration); });
  observer.observe({ type: "longtask" });
  shown.port1.onmessage = () => { if (began) steps.push(performance.now() - began); began = 0; };
  performance.mark = (name, ...rest) => { // play marks the moment before it shows a window; then its frame, then this
    if (name === "step") { began = performance.now(); requestAnimationFrame(() => shown.port2.postMessage(0)); }
    return mark(name, ...rest);
  };
  const first = performance.now();
  document.getElementById("play").click();
  while (document.documentElement.dataset.playing && performance.now() - first < 1000 * seconds) await new Promise((then) => setTimeout(then, 50));
  const took = (performance.now() - first) / 1000, count = steps.length;
  performance.mark = mark;
  if (document.documentElement.dataset.playing) document.getElementById("play").click();
  steps.sort((a, b) => a - b);
  return { steps: count, rate: count / took, median: steps[count >> 1] ?? null, p95: steps[Math.floor(0.95 * (count - 1))] ?? null, long };
},

/** Time compressed: what waits for 5 s or more waits `factor` times shorter. Of the page's own: looking for new windows. */
compress: (factor) => {
  const wait = window.setTimeout.bind(window);
  window.setTimeout = (then, ms = 0, ...rest) => wait(then, ms >= 5000 ? ms / factor : ms, ...rest);
},

ours: async ([home, n]) => {
  const at = (path) => import(new URL(`static/@/${path}`, home));
  const [{ MeshMap }, { buildPyramid }, { makeAxis }, { colours }] = await Promise.all([at("map/map.js"), at("map/pyramid.js"), at("map/axis.js"), at("theme.js")]);
  const codes = new Uint16Array(n * n);
  for (let i = 0; i < codes.length; i++) codes[i] = 900 + ((i * 2654435761) >>> 22);
  const hosts = Array.from({ length: n }, (_, i) => ({ name: `h${i}`, address: "", dc: "d", podset: "p", tor: "t" }));
  const box = document.createElement("div"), cells = document.createElement("canvas"), overlay = document.createElement("canvas");
  box.style.cssText = "position:fixed;left:0;top:0;width:1000px;height:1000px;z-index:9";
  for (const canvas of [cells, overlay]) { canvas.style.cssText = "position:absolute;width:1000px;height:1000px"; box.append(canvas); }
  document.body.append(box);
  const raf = () => new Promise((then) => requestAnimationFrame(then));
  await raf();
  const began = performance.now(), nothing = () => {};
  const map = new MeshMap(cells, overlay, { hover: nothing, pick: nothing, drill: nothing, span: nothing, block: nothing, cursor: nothing, whole: nothing, up: nothing, view: nothing }, { destination: "", source: "", value: String });
  map.setAxis(makeAxis(hosts, null, false));
  map.setLook({ kind: "us", mode: "log", low: 50, high: 10000 }, "light", colours());
  map.setLevels(buildPyramid(codes, n), null);
  await raf(); await raf();
  const took = performance.now() - began;
  box.remove();
  return took;
},

echarts: async (n) => {
  const data = new Float32Array(3 * n * n), names = Array.from({ length: n }, (_, i) => `h${i}`);
  for (let i = 0; i < n * n; i++) { data[3 * i] = i % n; data[3 * i + 1] = (i / n) | 0; data[3 * i + 2] = 100 + ((i * 2654435761) >>> 22); }
  const box = document.createElement("div"); box.style.cssText = "width:1000px;height:1000px"; document.body.append(box);
  const began = performance.now(), chart = echarts.init(box), done = new Promise((then) => chart.on("finished", then));
  chart.setOption({ animation: false, xAxis: { type: "category", data: names }, yAxis: { type: "category", data: names }, visualMap: { min: 100, max: 1124, show: false },
    dataset: { source: data, dimensions: ["x", "y", "v"] }, series: [{ type: "heatmap", encode: { x: "x", y: "y", value: "v" }, progressive: 0 }] });
  await done;
  await new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)));
  return performance.now() - began;
},

plotly: async (n) => {
  const z = Array.from({ length: n }, (_, r) => Float32Array.from({ length: n }, (_, c) => 100 + (((r * n + c) * 2654435761) >>> 22)));
  const box = document.createElement("div"); box.style.cssText = "width:1000px;height:1000px"; document.body.append(box);
  const began = performance.now();
  await Plotly.newPlot(box, [{ type: "heatmap", z }], { width: 1000, height: 1000 });
  await new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)));
  return performance.now() - began;
},

watch: () => {
  const watch = () => { const cells = document.getElementById("cells");
  if (cells && cells.width > 300) { const p = cells.getContext("2d").getImageData(cells.width / 2 + 3, 20, 1, 1).data;
    if (p[0] + p[1] + p[2] > 30 && p[0] + p[1] + p[2] < 720) { performance.mark("picture"); return; } }
  requestAnimationFrame(watch); };
  requestAnimationFrame(watch);
},

times: () => ["picture", "first-picture"].map((mark) => performance.getEntriesByName(mark)[0]?.startTime),
})
