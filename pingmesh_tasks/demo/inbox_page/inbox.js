// The demo's inbox. What was received is text here, never HTML: every node is made by `el`, which sets textContent.
const CHANNELS = { all: "All", slack: "Slack", email: "E-mail", webhook: "Webhook" };
const POLL_MS = 1000;
const state = { messages: [], counts: {}, channel: "all", chosen: null, view: null, pinned: false, offset: 0 };
const $ = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined).map(asNode));
  return node;
}
const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));
const string = (value) => (typeof value === "string" ? value : "");
const list = (value) => (Array.isArray(value) ? value.slice(0, 100).filter((one) => one && typeof one === "object") : []);

// ------------------------------------------------------------------------------------------------------------- times
function ago(us) {
  const seconds = Math.max(0, (Date.now() * 1000 + state.offset - us) / 1e6);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return new Date(us / 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}
const exact = (us) => new Date(us / 1000).toISOString().replace("T", " ").replace("Z", " UTC");

// ------------------------------------------------------------------------------------------------------ Slack, simply
const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">" };
const unescape = (text) => text.replace(/&(amp|lt|gt);/g, (found) => ENTITIES[found]);

function link(address, words) {
  if (!/^(https?|mailto):/i.test(address)) return document.createTextNode(words);
  return el("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, words);
}

// Slack's mrkdwn: links, code, bold, italic, strike, quotes. What is not understood stays as it was written.
const MARKS = /```([\s\S]+?)```|`([^`\n]+)`|<([^<>\s|]+)(?:\|([^<>]*))?>|(?<![\w*])\*([^*\n]+)\*(?![\w*])|(?<![\w_])_([^_\n]+)_(?![\w_])|(?<![\w~])~([^~\n]+)~(?![\w~])/g;
function mrkdwn(text, depth = 0) {
  const nodes = [];
  let end = 0;
  for (const found of string(text).slice(0, 20000).matchAll(MARKS)) {
    nodes.push(unescape(text.slice(end, found.index)));
    const [whole, fence, code, address, words, bold, italic, strike] = found;
    if (fence !== undefined) nodes.push(el("pre", {}, unescape(fence.trim())));
    else if (code !== undefined) nodes.push(el("code", {}, unescape(code)));
    else if (address !== undefined) nodes.push(link(unescape(address), unescape(words ?? address)));
    else if (depth > 3) nodes.push(whole);
    else if (bold !== undefined) nodes.push(el("strong", {}, ...mrkdwn(bold, depth + 1)));
    else if (italic !== undefined) nodes.push(el("em", {}, ...mrkdwn(italic, depth + 1)));
    else nodes.push(el("s", {}, ...mrkdwn(strike, depth + 1)));
    end = found.index + whole.length;
  }
  nodes.push(unescape(string(text).slice(end, 20000)));
  return nodes;
}
function lines(text) {
  return string(text).split(/(```[\s\S]+?```)/).flatMap((part) => part.startsWith("```") ? mrkdwn(part)
    : part.split(/^((?:&gt;|>).*)$/m).flatMap((line) => /^(&gt;|>)/.test(line)
      ? [el("span", { class: "quote" }, ...mrkdwn(line.replace(/^(&gt;|>)\s?/, "")))] : mrkdwn(line)));
}
function words(object) {
  if (!object || typeof object !== "object") return [];
  return object.type === "mrkdwn" ? lines(object.text) : [string(object.text)];
}
function picture(block) {
  const source = string(block.image_url);
  const name = string(block.alt_text) || words(block.title).join("") || "picture";
  if (/^data:image\/(png|jpeg|gif);base64,/.test(source)) return el("img", { src: source, alt: name });
  return el("span", { class: "picture" }, `Picture: ${name} `, source ? link(source, source) : "");
}
function slackBlock(block) {
  switch (block.type) {
    case "header": return el("div", { class: "block head" }, ...words(block.text));
    case "divider": return el("hr");
    case "image": return el("div", { class: "block" }, picture(block));
    case "context": return el("div", { class: "block context" },
      ...list(block.elements).flatMap((one) => [...(one.type === "image" ? [picture(one)] : words(one)), "  "]));
    case "actions": return el("div", { class: "block" }, ...list(block.elements).map((one) =>
      el("span", { class: "button" }, ...(one.url ? [link(string(one.url), words(one.text).join(""))] : words(one.text)))));
    case "section": return el("div", {},
      block.text ? el("div", { class: "block" }, ...words(block.text)) : null,
      block.fields ? el("div", { class: "block fields" }, ...list(block.fields).map((one) => el("div", {}, ...words(one)))) : null,
      block.accessory ? el("div", { class: "block" }, block.accessory.type === "image" ? picture(block.accessory)
        : el("span", { class: "button" }, ...words(block.accessory.text))) : null);
    default: return el("pre", {}, JSON.stringify(block, null, 2));
  }
}
function slackMessage(message) {
  const said = message.payload && typeof message.payload === "object" ? message.payload : {};
  const blocks = list(said.blocks);
  const attached = list(said.attachments).map((one) => {
    const box = el("div", { class: "attached" }, ...(list(one.blocks).length ? list(one.blocks).map(slackBlock)
      : [el("div", { class: "block" }, ...lines(one.text ?? one.fallback))]));
    if (/^#[0-9a-f]{6}$/i.test(string(one.color))) box.style.borderLeftColor = one.color;
    return box;
  });
  const body = blocks.length ? blocks.map(slackBlock) : [el("div", { class: "block" }, ...lines(said.text))];
  return el("div", { class: "card" },
    el("div", { class: "who" }, el("i", {}, "P"), string(said.username) || "Pingmesh",
      el("small", {}, string(said.channel) ? `to ${said.channel}` : "incoming webhook")), ...body, ...attached);
}

// ------------------------------------------------------------------------------------------------------------ reading
function views(message) {
  if (message.channel === "slack") return ["Message", "Notification", "Raw"];
  if (message.channel === "email") return message.has_html ? ["HTML", "Text", "Raw"] : ["Text", "Raw"];
  return ["JSON", "Raw"];
}
function body(message, view) {
  switch (view) {
    case "Message": return slackMessage(message);
    case "Notification": return el("div", { class: "card" }, el("div", { class: "block" }, ...lines(message.text)));
    case "HTML": return el("iframe", { sandbox: "", src: `/messages/${message.id}/html`, title: "The e-mail's HTML" });
    case "Text": return el("pre", {}, message.text || "(this e-mail has no plain text)");
    case "JSON": return el("pre", {}, message.payload === null ? "(not JSON)" : JSON.stringify(message.payload, null, 2));
    default: {
      const shown = el("pre", {}, "…");
      fetch(`/messages/${message.id}/raw`).then((answer) => answer.text()).then((text) => { shown.textContent = text; });
      return shown;
    }
  }
}
function drawReader() {
  const message = state.messages.find((one) => one.id === state.chosen);
  const reader = $("reader");
  if (!message) {
    reader.replaceChildren(el("p", { class: "empty" }, el("strong", {}, "Nothing has arrived yet"),
      "An alarm comes seconds after a fault. Cause one: make fault"));
    return;
  }
  const choices = views(message);
  const view = choices.includes(state.view) ? state.view : choices[0];
  const facts = Object.entries({
    From: message.headers.From ?? message.sender, To: message.headers.To ?? message.recipients.join(", "),
    Arrived: exact(message.arrived_us), "Message-ID": message.headers["Message-ID"],
  }).filter(([, value]) => value);
  reader.replaceChildren(
    el("span", { class: `tag ${message.channel}` }, CHANNELS[message.channel]),
    el("h2", {}, unescape(message.subject)),
    el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("div", { class: "views", role: "tablist" }, ...choices.map((name) => el("button", {
      role: "tab", "aria-selected": String(name === view), onclick: () => { state.view = name; drawReader(); },
    }, name))),
    body(message, view));
  reader.scrollTop = 0;
}

// --------------------------------------------------------------------------------------------------------------- list
const visible = () => state.messages.filter((one) => state.channel === "all" || one.channel === state.channel);
function choose(id, byHand = true) {
  state.chosen = id;
  state.pinned = byHand && id !== visible()[0]?.id;  // who reads an old message is not torn away by a new one
  state.view = null;
  drawList(new Set());
  drawReader();
}
function drawTabs() {
  const total = Object.values(state.counts).reduce((sum, count) => sum + count, 0);
  $("tabs").replaceChildren(...Object.entries(CHANNELS).map(([channel, name]) => el("button", {
    role: "tab", "aria-selected": String(channel === state.channel),
    onclick: () => { state.channel = channel; drawTabs(); choose(visible()[0]?.id ?? null, false); },
  }, name, el("span", { class: "count" }, channel === "all" ? total : state.counts[channel] ?? 0))));
}
function drawList(fresh) {
  $("list").replaceChildren(...visible().map((one) => el("li", {
    class: fresh.has(one.id) ? "new" : null, "aria-current": String(one.id === state.chosen), "data-id": one.id,
    onclick: () => choose(one.id),
  },
  el("span", { class: `tag ${one.channel}` }, CHANNELS[one.channel]),
  el("time", { "data-us": one.arrived_us, title: exact(one.arrived_us) }, ago(one.arrived_us)),
  el("span", { class: "what" }, unescape(one.subject)),
  el("span", { class: "text" }, one.text.trim() && one.text.trim() !== one.subject ? unescape(one.text.trim().slice(0, 200)) : one.recipients.join(", ")))));
}
$("list").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const shown = visible();
  const next = shown[Math.min(shown.length - 1, Math.max(0, shown.findIndex((one) => one.id === state.chosen) + step))];
  if (next) {
    choose(next.id);
    $("list").querySelector('[aria-current="true"]').scrollIntoView({ block: "nearest" });
  }
});

// --------------------------------------------------------------------------------------------------------------- live
async function refresh() {
  const live = $("live");
  try {
    const newest = state.messages[0]?.id ?? "";
    const answer = await fetch(`/messages.json?after=${newest}&limit=500`);
    const said = await answer.json();
    state.offset = said.now_us - Date.now() * 1000;
    const first = newest === "";
    state.counts = said.counts;
    if (said.messages.length) {
      state.messages = [...said.messages, ...state.messages].slice(0, 500);
      drawTabs();
      if (!state.pinned) { state.chosen = visible()[0]?.id ?? null; state.view = null; drawReader(); }
      drawList(first ? new Set() : new Set(said.messages.map((one) => one.id)));
    } else if (first) { drawTabs(); drawReader(); }
    live.className = "on";
    live.lastElementChild.textContent = "live";
  } catch {
    live.className = "off";
    live.lastElementChild.textContent = "not running";
  }
  for (const time of document.querySelectorAll("time[data-us]")) time.textContent = ago(Number(time.dataset.us));
  setTimeout(refresh, POLL_MS);
}
refresh();
