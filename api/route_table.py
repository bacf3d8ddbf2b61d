"""Route table: addresses, methods and query parameters that requests are checked against.

Gathered from our own routers, for how an application keeps the routes that it includes differs between versions.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from tuner.errors import RequestError, closest


class RouteTable:
    """All routes of the service."""

    def __init__(self) -> None:
        self._methods: list[tuple[re.Pattern[str], frozenset[str], str]] = []
        self._words: dict[Any, dict[str, bool]] = {}

    def add(self, router: APIRouter, prefix: str = "") -> None:
        """Enter the routes of a router that is included under a prefix."""
        for route in router.routes:
            if isinstance(route, APIRoute):
                pattern, _, _ = compile_path(prefix + route.path)
                self._methods.append((pattern, frozenset(route.methods or ()), route.name))
                self._words[route.endpoint] = dict(_query_words(route.dependant))

    def methods(self, path: str) -> list[str]:
        """Return the methods that a path answers to, in alphabetical order; HEAD goes wherever GET does."""
        found = {method for pattern, methods, _ in self._methods if pattern.match(path) for method in methods}
        return sorted(found | ({"HEAD"} if "GET" in found else set()))

    def name(self, method: str, path: str) -> str | None:
        """Return the name of the route that answers; None when there is none."""
        return next(
            (name for pattern, methods, name in self._methods if method in methods and pattern.match(path)), None
        )

    def names(self, methods: Iterable[str]) -> set[str]:
        """Return the names of the routes that answer to one of these methods."""
        asked = set(methods)
        return {name for _, known, name in self._methods if known & asked}

    def check_query(self, endpoint: object, words: Iterable[tuple[str, str]]) -> None:
        """Raise RequestError (422) for a word that the route does not take, or takes once and is given twice."""
        known = self._words.get(endpoint)
        seen: set[str] = set()
        for word, _ in words if known is not None else ():
            if word not in (known or {}):
                near = closest(word, known or {})
                guess = f"Did you mean {near!r}? " if near else ""
                listed = f"Known: {', '.join(sorted(known))}." if known else "This address takes none."
                raise RequestError(
                    f"unknown word {word[:100]!r} in the query.", hint=guess + listed, where=f"query.{word[:100]}"
                )
            if word in seen and not (known or {})[word]:
                raise RequestError(f"{word!r} stands twice in the query.", hint="Name it once.", where=f"query.{word}")
            seen.add(word)


async def check_query(request: Request) -> None:
    """Refuse what a route would ignore: a filter that is misspelt answers a question that nobody asked."""
    table: RouteTable = request.app.state.routes
    table.check_query(request.scope.get("endpoint"), request.query_params.multi_items())


def _query_words(dependant: Any) -> Iterator[tuple[str, bool]]:
    """Yield each word of the query that a route or its dependencies read, and whether it may be given several times."""
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        yield field.alias, any(get_origin(part) is list for part in (annotation, *get_args(annotation)))
    for needed in dependant.dependencies:
        yield from _query_words(needed)
