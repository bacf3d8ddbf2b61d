"""The routes of all pages in one list."""

from fastapi import APIRouter

from api.pages import catalog, compare, confirmation, new_study, studies, study, trial
from api.pages import studies as login
from api.pages import trial as pictures

MODULES = (login, studies, new_study, study, trial, compare, confirmation, catalog, pictures)

router = APIRouter(include_in_schema=False)
for module in MODULES:
    router.include_router(module.router)
