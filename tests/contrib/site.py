"""A site's Celery app. The environment names its broker, and the one queue that it uses there."""

from __future__ import annotations

import os

from celery import Celery
from kombu import Queue

BROKER = "OAUTH_CONNECT_TEST_BROKER"
QUEUE = "OAUTH_CONNECT_TEST_QUEUE"
HOUR = 3_600_000  # milliseconds


def new_app(broker: str, queue: str) -> Celery:
    """An app with a queue that vanishes an hour after its last use, whatever becomes of the test."""
    made = Celery("site", broker=broker, include=["oauth_connect.contrib.celery"])
    made.conf.update(
        task_default_queue=queue,
        task_queues=[Queue(queue, routing_key=queue, queue_arguments={"x-expires": HOUR})],
        broker_transport_options={"global_keyprefix": f"{queue}."} if broker.startswith("redis") else {},
        broker_connection_retry_on_startup=True,
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
    )
    return made


app = new_app(os.environ.get(BROKER, "memory://"), os.environ.get(QUEUE, "oauth"))
