"""Querysets and inserts whose SQL is made once: for the few that every label needs.

Making the SQL of a queryset takes Django far longer than SQLite takes to run it. A prepared query is written
like any other; its SQL is kept, and each call fills in the values.

    _held = prepare(lambda annotator: Lease.objects.filter(annotator_id=annotator))
    leases = _held(annotator=7)
    insert(Lease(pair=pair, annotator=annotator, left_side="a", expires_at=soon))
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from django.db import connection, connections
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators
from django.db.models.sql.compiler import SQLCompiler

M = TypeVar("M", bound=Model)
# What stands for the values while the SQL is made: numbers that no query of ours has as a constant.
FIRST_MARK = 2_000_000_011


class PreparedQuery(Generic[M]):
    """A queryset as a function of numbers and texts, given by name; returns its rows as objects."""

    def __init__(self, build: Callable[..., QuerySet[M]]) -> None:
        self._build = build
        self._names = build.__code__.co_varnames[: build.__code__.co_argcount]
        self._kept = threading.local()

    def __call__(self, **values: int | str) -> list[M]:
        statement = self._statement()
        with connection.cursor() as cursor:
            cursor.execute(statement.sql, statement.parameters(values))
            rows = cursor.fetchall()
        return statement.objects(rows)

    def first(self, **values: int | str) -> M | None:
        """Return the first object, None when there is none."""
        return next(iter(self(**values)), None)

    def _statement(self) -> "_Statement[M]":
        statement: _Statement[M] | None = getattr(self._kept, "statement", None)
        if statement is None:
            marks = {name: FIRST_MARK + place for place, name in enumerate(self._names)}
            statement = self._kept.statement = _Statement(self._build(**marks), marks=marks)
        return statement


class _Statement(Generic[M]):
    """The SQL of one queryset, and how its rows become objects; belongs to one thread's connection."""

    def __init__(self, queryset: QuerySet[M], *, marks: dict[str, int]) -> None:
        self._compiler: SQLCompiler = queryset.query.get_compiler(using=connection.alias)
        self.sql, self._parameters = self._compiler.as_sql()
        # A text field's query has the mark as a text.
        self._names = {form: name for name, mark in marks.items() for form in (mark, str(mark))}
        unused = marks.keys() - {self._names.get(parameter) for parameter in self._parameters}
        if unused:
            raise ValueError(f"the query has no place for {', '.join(sorted(unused))}")
        columns = [column for column, *_ in self._compiler.select]
        self._converters: Any = self._compiler.get_converters(columns)
        klass_info: Any = self._compiler.klass_info
        self._model = klass_info["model"]
        places = klass_info["select_fields"]
        self._start, self._end = places[0], places[-1] + 1
        self._fields = [self._compiler.select[place][0].target.attname for place in places]
        related: Any = get_related_populators  # its arguments differ between versions of Django's stubs
        self._related = related(klass_info, self._compiler.select, connection.alias)

    def parameters(self, values: dict[str, int | str]) -> tuple[Any, ...]:
        names = self._names
        return tuple(values[names[mark]] if mark in names else mark for mark in self._parameters)

    def objects(self, rows: list[Any]) -> list[M]:
        made = []
        for row in self._compiler.apply_converters(rows, self._converters):
            instance = self._model.from_db(connection.alias, self._fields, row[self._start : self._end])
            for populator in self._related:
                populator.populate(row, instance)
            made.append(instance)
        return made


def prepare(build: Callable[..., QuerySet[M]]) -> PreparedQuery[M]:
    """Prepare the queryset that `build` makes of its arguments: ids, and texts that a text field holds."""
    return PreparedQuery(build)


def insert(instance: M) -> M:
    """Write a new row as `instance.save(force_insert=True)` does, but for signals; return the instance.

    For models without parents whose key the database makes.
    """
    kept = _insert_of(type(instance), connection.alias)
    values = [field.get_db_prep_save(field.pre_save(instance, True), connection) for field in kept.fields]
    with connection.cursor() as cursor:
        cursor.execute(kept.sql, values)
        (instance.pk,) = cursor.fetchone()
    instance._state.adding = False
    instance._state.db = connection.alias
    return instance


@dataclass(frozen=True)
class _Insert:
    """The SQL of one model's insert and the fields whose values it takes, in order."""

    sql: str
    fields: tuple[Any, ...]


@cache
def _insert_of(model: type[Model], alias: str) -> _Insert:
    quote: Callable[[str], str] = connections[alias].ops.quote_name
    key: Any = model._meta.pk
    fields: tuple[Any, ...] = tuple(field for field in model._meta.concrete_fields if field is not key)
    names = ", ".join(quote(field.column) for field in fields)
    marks = ", ".join("%s" for _ in fields)
    table = quote(model._meta.db_table)
    return _Insert(f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING {quote(key.column)}", fields)
