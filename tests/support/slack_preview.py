"""Slack blocks as a page that looks like Slack, so that a person can judge them. Knows the blocks that we send."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

_STYLE = """
body { margin: 0; padding: 20px; font: 15px/22px Lato, Helvetica, Arial, sans-serif; color: #1d1c1d; width: 640px }
h1 { font-size: 18px; margin: 6px 0 8px } .section { margin: 8px 0; overflow-wrap: anywhere }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 16px; margin: 8px 0; overflow-wrap: anywhere }
pre { background: #f8f8f8; border: 1px solid #ddd; border-radius: 4px; padding: 8px; font: 12px/18px Menlo, monospace;
  white-space: pre-wrap; margin: 4px 0 }
.button { display: inline-block; border: 1px solid #bbb; border-radius: 4px; padding: 4px 12px; font-weight: 700 }
.context { color: #616061; font-size: 12px; margin-top: 8px }
"""


def slack_page(blocks: Sequence[dict[str, Any]]) -> str:
    """Return the page. Fails on a block or a length that Slack refuses."""
    assert len(blocks) <= 50
    return f"<!DOCTYPE html><meta charset=utf-8><style>{_STYLE}</style>" + "".join(map(_block, blocks))


def _block(block: dict[str, Any]) -> str:
    kind = block["type"]
    if kind == "header":
        assert block["text"]["type"] == "plain_text" and 0 < len(block["text"]["text"]) <= 150
        return f"<h1>{html.escape(block['text']['text'])}</h1>"
    if kind == "section" and "fields" in block:
        assert 0 < len(block["fields"]) <= 10
        cells = "".join(f"<div>{_mrkdwn(field, 2000)}</div>" for field in block["fields"])
        return f'<div class="fields">{cells}</div>'
    if kind == "section":
        return f'<div class="section">{_mrkdwn(block["text"], 3000)}</div>'
    if kind == "actions":
        assert 0 < len(block["elements"]) <= 25
        assert all(element["url"].startswith("http") for element in block["elements"])
        names = (html.escape(element["text"]["text"]) for element in block["elements"])
        return '<div class="section">' + " ".join(f'<span class="button">{name}</span>' for name in names) + "</div>"
    assert kind == "context", kind
    return f'<div class="context">{"".join(_mrkdwn(element, 3000) for element in block["elements"])}</div>'


def _mrkdwn(text: dict[str, Any], most: int) -> str:
    assert text["type"] == "mrkdwn" and 0 < len(text["text"]) <= most
    bare = re.sub(r"&(amp|lt|gt);", "", text["text"])
    assert not re.search(r"[<>&]", bare), f"acts in Slack: {bare}"
    shown = html.escape(html.unescape(text["text"]), quote=False)
    shown = re.sub(r"```(.*?)```", r"<pre>\1</pre>", shown, flags=re.S)
    shown = re.sub(r"(?m)^\*([^*\n]+)\*", r"<b>\1</b>", shown)
    return re.sub(r"(?m)^_([^\n]+)_$", r"<i>\1</i>", shown).replace("\n", "<br>")
