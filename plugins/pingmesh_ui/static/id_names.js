/** Names of rules, outcomes and columns; an id without words is shown as it is. */
import { wordsOf } from "./i18n.js";

/**
 * @param {string} kind the first part of the key of its words
 * @param {string} id
 */
export const nameOf = (kind, id) => wordsOf(kind, id) ?? String(id).replaceAll("_", " ");

/** @param {string} rule */
export const ruleName = (rule) => nameOf("rule", rule);
