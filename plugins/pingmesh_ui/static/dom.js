/** Elements. Text is always set as text: names come from hosts and logs, and are never markup. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) {
      continue;
    }
    if (key.startsWith("on")) {
      element.addEventListener(key.slice(2), value);
    } else if (key === "class") {
      element.className = value;
    } else if (key in element && key !== "list" && key !== "role") {
      element[key] = value;
    } else {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

export const $ = (id) => document.getElementById(id);

/** A name of a stranger: isolated, so that right-to-left letters disturb nothing around it. */
export const name = (text, props = {}) => h("bdi", { title: text, ...props }, text);

export const isolate = (text) => `\u2068${text}\u2069`;

/** Do something once the next frame is painted: what the eye can wait for must not hold the picture up. */
export const afterFrame = (then) => requestAnimationFrame(() => setTimeout(then));
