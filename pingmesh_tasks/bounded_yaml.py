"""YAML of unknown origin: no aliases, no unlimited nesting, no more bytes than expected.

An alias lets a few hundred bytes expand to gigabytes, and deep nesting overflows the parser's stack. Both are found
in the stream of events, before anything is built from the text.
"""

from __future__ import annotations

import yaml

LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: A line (from 1) and what is wrong there.
YamlFault = tuple[int, str]


def find_faults(text: str, *, max_depth: int, example: str) -> list[YamlFault]:
    """Return what keeps a text from being read as plain YAML; an empty list if nothing does.

    Args:
        text: The document.
        max_depth: Deepest nesting of mappings and lists that the file's format needs.
        example: What a user can compare the file with, named in the message on nesting.
    """
    faults: list[YamlFault] = []
    depth = documents = 0
    try:
        for event in yaml.parse(text, Loader=LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                faults.append((line, f"has the alias '*{event.anchor}'; write the values out"))
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                return [*faults, (line, "starts a second document ('---'); write one")]
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > max_depth:
                return [*faults, (line, f"is nested deeper than {max_depth} levels; compare it with {example}")]
    except yaml.YAMLError as error:
        faults.append(syntax_fault(error))
    return faults


def syntax_fault(error: Exception) -> YamlFault:
    """Return where and why a text is not valid YAML."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    line = mark.line + 1 if mark else 1
    return line, f"is not valid YAML ({reason}); check indentation, colons and quotes"
