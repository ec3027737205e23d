"""Handles: the typed ends of edges, read off the fields of a node's `Inputs` and `Outputs`.

What travels on an edge is JSON: a Decimal as a string, an integer that may pass 53 bits as a string.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PlainSerializer
from pydantic.fields import FieldInfo

Json = Any
"""Whatever `json.loads` can give; Decimals and big integers as strings."""
Kind = Literal["any", "number", "boolean", "text", "list", "object"]

Amount = Annotated[int, PlainSerializer(str, return_type=str)]
"""Whole base units of a token; a decimal string on the edge."""


class _NotTaken:
    def __repr__(self) -> str:
        return "NOT_TAKEN"

    def __bool__(self) -> bool:
        return False


NOT_TAKEN: Any = _NotTaken()
"""Left in an output field, it says: this branch was not taken, skip what hangs on it."""


@dataclass(frozen=True)
class Handle:
    """Marks a field whose kind or arity its annotation does not tell: `Annotated[Any, Handle(many=True)]`."""

    kind: Kind | None = None
    many: bool = False


@dataclass(frozen=True)
class HandleSpec:
    """One handle as the graph and the catalog see it.

    `many`: takes several edges; its value is the list of what came, in the order of the graph's edges.
    """

    name: str
    kind: Kind
    required: bool
    many: bool
    description: str


def kinds_fit(source: Kind, target: Kind) -> bool:
    """Whether a value of kind `source` may travel to a handle of kind `target`."""
    return source == target or "any" in (source, target)


_KINDS: dict[type, Kind] = {
    bool: "boolean",
    int: "number",
    float: "number",
    Decimal: "number",
    str: "text",
    list: "list",
    tuple: "list",
    dict: "object",
}


def _kind_of(annotation: Any) -> Kind:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind_of(get_args(annotation)[0])
    if origin in (Union, UnionType):
        kinds = {_kind_of(part) for part in get_args(annotation) if part is not NoneType}
        return kinds.pop() if len(kinds) == 1 else "any"
    if origin is Literal:
        return _kind_of(type(get_args(annotation)[0]))
    plain = origin or annotation
    if isinstance(plain, type) and issubclass(plain, Mapping | BaseModel):
        return "object"
    return next((kind for known, kind in _KINDS.items() if isinstance(plain, type) and issubclass(plain, known)), "any")


def _spec(name: str, field: FieldInfo) -> HandleSpec:
    marks = [mark for mark in field.metadata if isinstance(mark, Handle)]
    mark = marks[0] if marks else Handle()
    kind = mark.kind or ("any" if mark.many else _kind_of(field.annotation))
    return HandleSpec(field.alias or name, kind, field.is_required(), mark.many, field.description or "")


class NodeParams(BaseModel):
    """The `config` of a node. Say units in the field descriptions; the form a person fills is drawn from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)


class _Handles(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, populate_by_name=True)

    @classmethod
    def handles(cls) -> dict[str, HandleSpec]:
        """The declared handles by name."""
        specs = (_spec(name, field) for name, field in cls.model_fields.items())
        return {spec.name: spec for spec in specs}

    @classmethod
    def is_open(cls) -> bool:
        """Whether handles beyond the declared ones may be used; they are of kind `any` and not required."""
        return cls.model_config.get("extra") == "allow"


class NodeInputs(_Handles):
    """A field is an input handle, required unless it has a default. Alias a field whose handle is a Python keyword."""


class NodeOutputs(_Handles):
    """A field is an output handle; one left as NOT_TAKEN skips what hangs on it."""

    def signals(self) -> dict[str, Json]:
        """Handle name to JSON value, for the branches taken."""
        taken = {name for name, value in self if value is not NOT_TAKEN}
        return self.model_dump(mode="json", by_alias=True, include=taken)

    def not_taken(self) -> frozenset[str]:
        """Names of the declared handles whose branch was not taken."""
        return frozenset(self.handles()) - self.signals().keys()
