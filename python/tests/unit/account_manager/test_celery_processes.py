"""What a process of the Celery worker shares with the one it is forked from."""

import gc
from collections.abc import Iterator

import pytest
from celery import signals

import tradingflow.account_manager.celery_worker  # noqa: F401  # its handlers are what is tried here


@pytest.fixture
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_what_the_parent_holds_is_left_alone_by_its_childrens_collector() -> None:
    signals.worker_before_create_process.send(sender=None)

    assert gc.get_freeze_count() > len(gc.get_objects())
