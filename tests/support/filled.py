"""Values with something in every field, so that whoever renders one shows every line and every metric it knows."""

from __future__ import annotations

from typing import Any

from msgspec import inspect as shapes

__all__ = ["sample"]


def filled(kind: shapes.Type, name: str = "") -> Any:
    """A value of a type with something in every field, so that every line and every metric is made."""
    match kind:
        case shapes.StructType(cls=cls, fields=fields):
            return cls(**{field.name: filled(field.type, field.name) for field in fields})
        case shapes.VarTupleType(item_type=item):
            # A histogram has one count more than it has bounds.
            return (filled(item),) * (2 if name == "counts" else 1)
        case shapes.DictType(key_type=key, value_type=value):
            return {filled(key): filled(value)}
        case shapes.UnionType(types=types):
            return filled(next(each for each in types if not isinstance(each, shapes.NoneType)), name)
        case shapes.BoolType():
            return name != "ready"
        case shapes.FloatType() | shapes.IntType():
            return 1
        case shapes.StrType():
            return "E-DISK-FULL" if name == "code" else "x"
    raise TypeError(kind)


def sample(kind: type[Any]) -> Any:
    return filled(shapes.type_info(kind))
