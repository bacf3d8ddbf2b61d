"""The routes of all pages in one list."""

from fastapi import APIRouter

from api.pages import catalogue, compare, home, login, new_study, pictures, study, trial

router = APIRouter(include_in_schema=False)
for module in (login, home, new_study, study, trial, compare, catalogue, pictures):
    router.include_router(module.router)
