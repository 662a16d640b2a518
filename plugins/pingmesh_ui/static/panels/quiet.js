/** What is silenced, by whom and until when, and whether the channels take what the alarm has to say. */
import { h, name } from "../dom.js";
import { formatCount, formatDuration } from "../format.js";
import { t } from "../i18n.js";
import { ruleName } from "../rule_names.js";
import { update } from "../state.js";
import { moment, tag } from "./incident.js";

export const active = (silences) => silences.filter((one) => new Date(one.until) > Date.now());

export function drawSilences(box, silences, incidents, admin) {
  box.hidden = !silences.length && !incidents.length;
  const heads = ["silence.what", "silence.by", "silence.until", "alarms.comment"];
  box.replaceChildren(
    h("h2", {}, t("silences")),
    silences.length
      ? h(
          "div",
          { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("silences") },
          h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                heads.map((key) => h("th", { scope: "col" }, t(key))),
                h("td"),
              ),
            ),
            h(
              "tbody",
              {},
              [...silences]
                .sort((a, b) => String(a.until).localeCompare(String(b.until)))
                .map((one) =>
                  h(
                    "tr",
                    {},
                    h("td", {}, what(one, incidents)),
                    h(
                      "td",
                      {},
                      name(one.by || "–"),
                      h("div", { class: "muted" }, moment(one.made_at)),
                    ),
                    h(
                      "td",
                      {},
                      moment(one.until),
                      h(
                        "div",
                        { class: "muted" },
                        t("silence.left", {
                          time: formatDuration((new Date(one.until) - Date.now()) / 1000),
                        }),
                      ),
                    ),
                    h("td", {}, name(one.reason || "–")),
                    h(
                      "td",
                      {},
                      h(
                        "button",
                        {
                          onclick: ({ currentTarget }) =>
                            admin.act({ action: "unsilence", silence_id: one.id }, currentTarget),
                        },
                        t("silence.end"),
                      ),
                    ),
                  ),
                ),
            ),
          ),
        )
      : h("p", { class: "keys" }, t("silences.none")),
  );
}

/** One incident, by its name where it is still known, or what the patterns match. */
function what(silence, incidents) {
  if (!silence.incident) {
    return ["source", "scope", "subject", "rule"]
      .filter((key) => silence[key] !== "*")
      .map((key) =>
        h("div", {}, h("span", { class: "muted" }, `${t(`silence.${key}`)} `), name(silence[key])),
      )
      .concat(
        ["source", "scope", "subject", "rule"].every((key) => silence[key] === "*")
          ? t("silence.everything")
          : [],
      );
  }
  const one = incidents.find(({ id }) => id === silence.incident);
  return one
    ? h(
        "button",
        { class: "link", onclick: () => update({ inc: one.id }, { step: true }) },
        `${ruleName(one.rule)}: `,
        name(one.subject),
      )
    : name(silence.incident);
}

export function drawChannels(box, { channels = [], looked_at: looks = {} }) {
  const newest = Object.values(looks).sort().at(-1);
  box.hidden = !channels.length;
  box.replaceChildren(
    h("h2", {}, t("channels")),
    channels.some((one) => one.on) ? "" : h("p", { class: "gone" }, t("channels.none")),
    h(
      "table",
      {},
      h(
        "tbody",
        {},
        channels.map((one) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, name(one.channel)),
            h("td", {}, health(one)),
            h(
              "td",
              { class: "muted" },
              one.since ? t("channel.since", { time: moment(one.since) }) : "",
            ),
          ),
        ),
      ),
    ),
    newest ? h("p", { class: "keys" }, t("alarms.looked", { time: moment(newest) })) : "",
  );
}

function health({ on, failures }) {
  if (!on) {
    return tag(t("channel.off"));
  }
  return failures
    ? tag(`✕ ${t("channel.failing", { n: failures })}`, "bad")
    : tag(`✓ ${t("channel.on")}`, "good");
}
