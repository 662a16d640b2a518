"""The YAML file that `PINGMESH_RULES` names → a rule book, or one error that lists every fault in the file.

    rules:                                  # for everything
      loss: {limit: 0.01}
      new_country: off
    scopes:                                 # then for parts of the topology; the last scope that fits wins
      - where: {podset: dc2/podset1}
        rules: {latency_sla: {intra_dc_us: 9000}, black_hole: off}
    maintenance:                            # mutes what lies within
      - where: {tor: dc1/podset1/tor3}
        from: 2026-11-22T01:00:00Z
        until: 2026-11-22T05:00:00Z
      - where: {server: data1}
        daily: 02:00-04:30

`where` holds shell patterns on host, tor, podset, dc, server, user, client and node; all of them must fit. The models
below are the file's shape; the rules and their limits are generated from `detect.catalogue`. A limit in a scope where
it can have no effect is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from pingmesh_tasks.bounded_yaml import find_faults, syntax_fault
from pingmesh_tasks.detect.catalogue import RULES, By, Limit, Rule
from pingmesh_tasks.detect.rules import (
    DEFAULT_RULES,
    PLACES,
    Maintenance,
    Override,
    RuleBook,
    RuleLimits,
    Where,
)
from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.suggestions import suggest

MAX_BYTES = 256 * 1024
MAX_FAULTS = 100
_DEPTH = 6
_SWITCHES = {False: "off", True: "on"}

Path = tuple[str | int, ...]


def load_rules(text: str, location: str) -> RuleBook:
    """Return the rule book written in `text` (YAML). Raises ConfigError that lists every fault."""
    document = _read_yaml(text, location)
    if document is None:
        return DEFAULT_RULES
    try:
        file = _RulesFile.model_validate(document)
    except ValidationError as error:
        raise _config_error(location, map(_fault, error.errors())) from None
    if faults := list(_ineffective(file)):
        raise _config_error(location, faults)
    return RuleBook(
        _limits(file.rules),
        tuple(Override(scope.where, _limits(scope.rules)) for scope in file.scopes),
        tuple(entry.window() for entry in file.maintenance),
    )


def _read_yaml(text: str, location: str) -> Any:
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError(f"{location}: is larger than {MAX_BYTES >> 10} KiB; is this the rules file?")
    faults = find_faults(text, max_depth=_DEPTH, example="include/rules/rules.example.yaml")
    if not faults:
        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            faults = [syntax_fault(error)]
    raise _config_error(location, (f"line {line}: {fault}" for line, fault in faults))


def _config_error(location: str, faults: Iterable[str]) -> ConfigError:
    listed = list(faults)
    more = [f"and {len(listed) - MAX_FAULTS} more; fix these first"] if len(listed) > MAX_FAULTS else []
    lines = "\n".join(f"  - {fault}" for fault in listed[:MAX_FAULTS] + more)
    return ConfigError(f"{location}: {len(listed)} fault{'s' * (len(listed) != 1)}\n{lines}")


# ------------------------------------------------------------------------------------------------ values of the file


def _mapping(value: Any) -> Any:
    """Return an empty mapping for an empty section."""
    return {} if value is None else value


def _list(value: Any) -> Any:
    return [] if value is None else value


def _moment(value: Any) -> Any:
    """Return the time that `value` names; without a zone it is UTC."""
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("is not a time; write 2026-11-22T01:00:00Z") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _daily(value: Any) -> Any:
    """Return the two times of day (UTC) of `02:00-04:30`."""
    if value is None:
        return None
    try:
        start, end = (time.fromisoformat(part.strip()) for part in str(value).split("-"))
        if start == end or start.tzinfo or end.tzinfo:
            raise ValueError
    except ValueError:
        raise ValueError("is not a range of hours; write '02:00-04:30' (UTC), in quotes") from None
    return start, end


def _pattern(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError("is not a name or a pattern; write for example '*'")
    return str(value)


def _where(patterns: Any) -> Where:
    if not patterns.given:
        raise ValueError("does not say where; write where: {host: 'h1*'}")
    return Where(tuple(patterns.given.items()))


def _switch(value: Any) -> Any:
    """Return a rule's mapping: YAML reads `off` as false and `on` as true, also as the name of a field."""
    if isinstance(value, bool):
        return {_SWITCHES[value]: True}
    if isinstance(value, dict):
        return {_SWITCHES.get(name, name) if isinstance(name, bool) else name: of for name, of in value.items()}
    return _mapping(value)


def _text(value: Any) -> str:
    return str(value or "")[:200]


# ------------------------------------------------------------------------------------------------- shape of the file


class _FileModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    @property
    def given(self) -> dict[str, Any]:
        """The fields that the file has, with their values, in the order of the model."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


def _number(limit: Limit) -> Any:
    return Annotated[float, Field(ge=limit.least, le=limit.most, allow_inf_nan=False)]


def _model_of(rule: Rule) -> type[_FileModel]:
    """Return the shape of one rule's settings: its limits, and `off` or `on`."""
    fields: dict[str, Any] = {limit.name: (_number(limit), None) for limit in rule.limits}
    return create_model(rule.name, __base__=_FileModel, **fields, off=(bool, None), on=(bool, None))


def _rules_model() -> type[_FileModel]:
    fields: dict[str, Any] = {
        rule.name: (Annotated[_model_of(rule), BeforeValidator(_switch)], None) for rule in RULES.values()
    }
    return create_model("Rules", __base__=_FileModel, **fields)


_Pattern = Annotated[str, BeforeValidator(_pattern)]
if TYPE_CHECKING:  # models that are made at run time are not types to a checker
    _WhereField = Where
    _RulesField = _FileModel
else:
    _Patterns = create_model("Where", __base__=_FileModel, **dict.fromkeys(PLACES, (_Pattern, None)))
    _WhereField = Annotated[_Patterns, BeforeValidator(_mapping), AfterValidator(_where)]
    _RulesField = Annotated[_rules_model(), BeforeValidator(_mapping)]


class _Scope(_FileModel):
    where: _WhereField = Field(None, validate_default=True)
    rules: _RulesField = Field(None, validate_default=True)


class _MaintenanceEntry(_FileModel):
    where: _WhereField = Field(None, validate_default=True)
    start: Annotated[datetime | None, BeforeValidator(_moment)] = Field(None, alias="from")
    until: Annotated[datetime | None, BeforeValidator(_moment)] = None
    daily: Annotated[tuple[time, time] | None, BeforeValidator(_daily)] = None
    note: Annotated[str, BeforeValidator(_text)] = ""

    @model_validator(mode="after")
    def _ends(self) -> _MaintenanceEntry:
        if self.daily and (self.start or self.until):
            raise ValueError("has daily and from or until; write two entries")
        if not self.daily and not self.until:
            raise ValueError("has no end; write until: 2026-11-22T05:00:00Z, or daily: 02:00-04:30")
        if self.start and self.until and self.until <= self.start:
            raise ValueError("ends before it begins")
        return self

    def window(self) -> Maintenance:
        return Maintenance(self.where, self.start, self.until, self.daily, self.note)


class _RulesFile(_FileModel):
    rules: _RulesField = Field(None, validate_default=True)
    scopes: Annotated[list[_Scope], BeforeValidator(_list)] = []
    maintenance: Annotated[list[_MaintenanceEntry], BeforeValidator(_list)] = []


def _limits(rules: _FileModel) -> RuleLimits:
    limits: dict[tuple[str, str], float] = {}
    off: dict[str, bool] = {}
    for rule, settings in rules.given.items():
        for name, value in settings.given.items():
            if name in _SWITCHES.values():
                off[rule] = value is (name == "off")
            else:
                limits[rule, name] = float(value)
    return RuleLimits(limits, off)


# -------------------------------------------------------------------------------------------------------- the faults


def _ineffective(file: _RulesFile) -> Iterator[str]:
    """Yield the settings of scopes that can never apply: a rule on ToRs does not differ by user."""
    for number, scope in enumerate(file.scopes, 1):
        kinds = {kind for kind, _ in scope.where.patterns}
        for name, settings in scope.rules.given.items():
            by_limit = {limit.name: limit.by for limit in RULES[name].limits}
            for field in settings.given:
                by = by_limit.get(field) or RULES[name].by
                if not any(kinds.issubset(known) for known in by):
                    yield f"scopes[{number}].rules.{name}.{field} {_cannot_differ(kinds, by)}"


def _cannot_differ(kinds: set[str], by: By) -> str:
    allowed = " or by ".join(", ".join(known) for known in by)
    return f"cannot differ by {', '.join(sorted(kinds))}; it can by {allowed}"


def _fault(problem: Mapping[str, Any]) -> str:
    """Return one fault as pydantic found it, in the words of the file: where, what, what to write instead."""
    path, kind, context = tuple(problem["loc"]), problem["type"], problem.get("ctx", {})
    where, value = _spelled(path), _shown(problem["input"])
    if kind == "extra_forbidden":
        return (
            f"{_spelled(path[:-1]) or 'the file'} has no {path[-1]!r}; {suggest(str(path[-1]), _names_at(path[:-1]))}"
        )
    if kind == "value_error":
        shown = "" if isinstance(problem["input"], dict) or problem["input"] is None else f" {value}"
        return f"{where}{shown} {problem['msg'].removeprefix('Value error, ')}"
    if kind in ("greater_than_equal", "less_than_equal"):
        limit = RULES[str(path[-2])].limit(str(path[-1]))
        return f"{where} {value} is not in {limit.least:g} … {limit.most:g}"
    if kind in ("float_type", "finite_number"):
        return f"{where} {value} is not a number; write it in {RULES[str(path[-2])].limit(str(path[-1])).unit}"
    if kind == "bool_type":
        return f"{where} {value} is neither true nor false"
    if kind == "list_type":
        return f"{where} is not a list; write one '- where: …' for each"
    if kind in ("model_type", "dict_type"):
        return f"{where or 'the file'} {value} is not a mapping; write 'name: value' lines below it"
    return f"{where} {value}: {problem['msg']}{context or ''}"


def _names_at(path: Path) -> list[str]:
    """Return the names that the file may have at a path."""
    last = str(path[-1]) if path else ""
    if last == "where":
        return list(PLACES)
    if last == "rules":
        return list(RULES)
    if last in RULES:
        return [*(limit.name for limit in RULES[last].limits), "off"]
    models: dict[str, type[_FileModel]] = {"scopes": _Scope, "maintenance": _MaintenanceEntry}
    model = models[str(path[0])] if path else _RulesFile
    return [field.alias or name for name, field in model.model_fields.items()]


def _spelled(path: Path) -> str:
    """`("scopes", 0, "rules", "loss")` → `scopes[1].rules.loss`."""
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
