"""Django's own tasks, where it has them (6.0 and later); elsewhere this module is not collected."""

from __future__ import annotations

from typing import Any

import pytest
from django.tasks import TaskResultStatus
from django.utils.module_loading import import_string

from oauth_connect import tasks
from oauth_connect.models import Connection
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH

DUMMY = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}


@pytest.mark.django_db(transaction=True)
def test_a_dispatch_refreshes_what_is_due(scripted, scripted_provider, make_connection) -> None:
    """On the backend that runs each task at once."""
    scripted.on("/token", Answer(body=FRESH))
    due = [make_connection(age=7200) for _ in range(3)]
    result = tasks.dispatch_task.enqueue(chunk=2)
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == 3
    assert [Connection.objects.get(pk=one.pk).version for one in due] == [1, 1, 1]


@pytest.mark.django_db(transaction=True)
def test_the_result_has_the_outcomes(scripted, scripted_provider, make_connection) -> None:
    scripted.on("/token", Answer(body=FRESH))
    pks = [str(make_connection(age=7200).pk)]
    assert tasks.refresh_task.enqueue(pks, provider="scripted").return_value == {"refreshed": 1}
    assert tasks.refresh_task.enqueue(pks).return_value == {}


@pytest.mark.django_db
def test_a_chunk_is_a_task_of_its_own(scripted_provider, make_connection, settings: Any) -> None:
    settings.TASKS = DUMMY
    for _ in range(3):
        make_connection(age=7200)
    tasks.dispatch_task.call(chunk=2, within=60)
    backend = tasks.refresh_task.get_backend()
    assert [len(result.args[0]) for result in backend.results] == [2, 1]
    assert {(result.task.name, str(result.kwargs)) for result in backend.results} == {
        ("refresh_task", "{'provider': 'scripted', 'within': 60}")
    }


@pytest.mark.parametrize("name", ["dispatch_task", "refresh_task"])
def test_a_worker_finds_a_task_by_its_path(name: str) -> None:
    made = getattr(tasks, name)
    assert made.module_path == f"oauth_connect.tasks.{name}"
    assert import_string(made.module_path) is made
