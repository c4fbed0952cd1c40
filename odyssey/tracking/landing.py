"""The MLflow server with one page more: /study, from where a browser goes on to the study's runs.

What MLflow shows first it remembers in the browser, and nothing else sets it: by default the menus of
GenAI, in which a run like ours is an "evaluation", and on a first visit the Assistant over a quarter of the
window. The page sets both and is gone. `mlflow server --app-name` finds `app` by its entry point.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

NAME = "odyssey"
"""Entry point of `app`, in the group mlflow.app."""
PATH = "/study"
TARGET = "ODYSSEY_PAGE"
"""Environment variable with the page of the UI that PATH leads to."""
REMEMBERED = {"mlflow.workflowType_v1": "machine_learning", "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True}
"""What MLflow's UI finds in the browser's local storage. Its own names: a version that has others ignores them."""


def app() -> FastAPI:
    """MLflow's application, and the page at PATH."""
    from fastapi.responses import HTMLResponse
    from fastapi.routing import APIRoute
    from mlflow.server.fastapi_app import create_fastapi_app

    page = HTMLResponse(html(os.environ[TARGET]))
    server: FastAPI = create_fastapi_app()
    # MLflow's last route takes every path that is left.
    server.router.routes.insert(0, APIRoute(PATH, lambda: page))
    return server


def html(target: str) -> str:
    """A page that sets REMEMBERED and goes on to `target`, without a trace in the browser's history."""
    lines = [f"localStorage.setItem({_script(key)}, {_script(json.dumps(value))})" for key, value in REMEMBERED.items()]
    script = "\n".join([*lines, f"location.replace({_script(target)})"])
    return f"<!doctype html>\n<title>odyssey</title>\n<script>\n{script}\n</script>\n"


def _script(text: str) -> str:
    """A string of JavaScript that cannot end its script element."""
    return json.dumps(text).replace("<", "\\u003c")
