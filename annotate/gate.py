"""One label at a time in each process, where the database has one writer at a time anyway.

With SQLite a label's transaction holds the only write lock there is. If other threads of the process computed
meanwhile, the transaction would wait for the interpreter after each of its statements, and everybody else for
the transaction. So the others wait here, asleep, and each label runs through.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.db import connection
from django.http import HttpRequest, HttpResponse

Arguments = ParamSpec("Arguments")
View = Callable[Concatenate[HttpRequest, Arguments], HttpResponse]

_turn = threading.Lock()


def one_at_a_time(view: View[Arguments]) -> View[Arguments]:
    """Let one request at a time into the views that are marked with this, where SQLite is used."""

    @wraps(view)
    def in_turn(request: HttpRequest, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponse:
        if connection.vendor != "sqlite":
            return view(request, *args, **kwargs)
        with _turn:
            return view(request, *args, **kwargs)

    return in_turn
