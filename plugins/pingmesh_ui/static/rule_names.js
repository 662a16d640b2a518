/** The name of a rule in the reader's language; a rule that this page does not know yet is said as it is. */
import { t } from "./i18n.js";

export const ruleName = (rule) => {
  const key = `rule.${rule}`;
  const text = t(key);
  return text === key ? String(rule).replaceAll("_", " ") : text;
};
