"""The FastAPI application: routes, middleware, error handlers and the OpenAPI document. Importing opens nothing."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

import tuner
from api import errors, static_files
from api.config import Service, ServiceSettings
from api.http_cache import ResponseCache
from api.identity import Authenticator
from api.pages import catalog as catalog_pages
from api.pages import compare, confirmation, new_study, predictions, sign_in, trial_table
from api.pages import studies as studies_pages
from api.pages import study as study_pages
from api.pages import trial as trial_pages
from api.polls import PollMiddleware
from api.roles import role_for_write
from api.route_table import RouteTable, check_query
from api.routes import activity, catalog, figures, health, studies, trials
from api.routes import sessions as session_routes
from api.security import SecurityMiddleware
from api.sessions import COOKIE, MAX_FAILURES, RateLimit, Sessions
from tuner.artifacts.remote import artifacts_of
from tuner.storage.storage import Storage

SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A named token (`tuner token add NAME --role read|run|admin`, kept in TUNER_TOKENS) or the "
        "value of TUNER_API_TOKEN, which has the role admin. Where the service has either, writes need it; reads do as "
        "well with TUNER_API_PRIVATE=1. `x-role` says which role an operation needs; each includes those before it.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "Of a browser that has signed in at /login with a token: it may what the token may, and ends "
        "when the token does. Writes must come from a page of this server (`Origin`).",
    },
}
_WRITES = ("post", "put", "patch", "delete")


def describe(app: FastAPI) -> None:
    """Let the application's document name the token that operations may need, and the role it must have."""
    gather = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = gather()
            document["components"]["securitySchemes"] = SCHEMES
            for path in document["paths"].values():
                for method, operation in path.items():
                    known: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]
                    operation["security"] = [*known, {}] if method in _WRITES else [{}, *known]
                    operation["x-role"] = role_for_write(operation["operationId"]) if method in _WRITES else "read"
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


PAGES = (
    studies_pages,
    new_study,
    study_pages,
    trial_table,
    trial_pages,
    compare,
    predictions,
    confirmation,
    catalog_pages,
    sign_in,
)
"""Modules with the routes of pages, which the API's document leaves out."""

VERSION = "/api/v1"
DESCRIPTION = """\
Hyperparameter search for segmentation losses. Every `GET` of a study, trial or figure carries an `ETag`; sent back as
`If-None-Match`, it is answered by 304 as long as nothing was written. Errors are
`{"error": {"code", "message", "hint", "where"}}`. Where the service has tokens, writes need `Authorization: Bearer …`.
"""


def create_app(store: Storage, config: ServiceSettings) -> FastAPI:
    """Build the service on an open storage. Raises ConfigError for an open address without a token."""
    config.check()
    sessions, guesses, routes = Sessions(), RateLimit(MAX_FAILURES), RouteTable()
    callers = Authenticator(config, sessions)
    app = FastAPI(
        title="tuner",
        version=tuner.__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=[
            {"name": "studies", "description": "Create, list, read, control and export studies."},
            {"name": "trials", "description": "Trials of a study: list, read, enqueue, prune; their files."},
            {"name": "figures", "description": "Figures of a study as Plotly JSON, tables or CSV."},
            {"name": "catalogue", "description": "Losses, data sets and models that a study can name; active workers."},
            {"name": "sessions", "description": "Browsers that are signed in: list and end them."},
            {"name": "operations", "description": "Health, readiness and metrics of the service."},
        ],
        middleware=[
            Middleware(SecurityMiddleware, callers=callers, routes=routes, guesses=guesses),
            Middleware(PollMiddleware),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=4),
        ],
        dependencies=[Depends(check_query)],
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = Service(store, artifacts_of(config.settings, owner=store.studies.folder_mark), config)
    app.state.callers, app.state.sessions, app.state.guesses = callers, sessions, guesses
    app.state.remembered = ResponseCache()
    errors.register_handlers(app)
    app.state.routes = routes
    versioned = APIRouter(prefix=VERSION)
    for module in (studies, trials, activity, figures, catalog, session_routes):
        versioned.include_router(module.router)
        routes.add(module.router, VERSION)
    app.include_router(versioned)
    for module in (health, static_files, *PAGES):
        routes.add(module.router)
        app.include_router(module.router, include_in_schema=module is health)
    describe(app)
    return app
