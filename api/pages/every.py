"""The routes of all pages in one list."""

from fastapi import APIRouter

from api.pages import catalog, compare, login, new_study, pictures, studies, study, trial

router = APIRouter(include_in_schema=False)
for module in (login, studies, new_study, study, trial, compare, catalog, pictures):
    router.include_router(module.router)
