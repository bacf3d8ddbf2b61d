"""The OpenAPI document: what FastAPI gathers from the routes, and how writes are authorised."""

from typing import Any

from fastapi import FastAPI

TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "The value of TUNER_API_TOKEN. Writes need it where the service was started with one; reads do as "
    "well with TUNER_API_PRIVATE=1.",
}
_WRITES = ("post", "put", "patch", "delete")


def describe(app: FastAPI) -> None:
    """Let the application's document name the token that writes may need."""
    gather = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = gather()
            document["components"]["securitySchemes"] = {"token": TOKEN}
            for path in document["paths"].values():
                for method, operation in path.items():
                    operation["security"] = [{"token": []}, {}] if method in _WRITES else [{}, {"token": []}]
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
