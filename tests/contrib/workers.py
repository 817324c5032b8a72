"""Celery workers in processes of their own, at a real broker, and what a test wants of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.contrib.settings import PROVIDERS_VARIABLE
from tests.contrib.site import BROKER, QUEUE, new_app
from tests.support import processes
from tests.support.databases import worker_environment
from tests.support.processes import Forked
from tests.support.waiting import eventually


class Fleet:
    """Workers of one queue at one broker. Leaves neither processes nor queue behind."""

    def __init__(self, broker: str, queue: str, providers: dict[str, Any], logs: Path) -> None:
        self.broker = broker
        self.queue = queue
        self.app = new_app(broker, queue)
        self.logs = logs
        self.processes: list[Forked] = []
        self.environment = {
            **worker_environment(),
            "DJANGO_SETTINGS_MODULE": "tests.contrib.settings",
            PROVIDERS_VARIABLE: json.dumps(providers),
            BROKER: broker,
            QUEUE: queue,
        }

    def start(self, *options: str) -> Forked:
        """Start a worker, of one process unless the options say otherwise."""
        name = f"worker-{len(self.processes)}"
        command = ["-A", "tests.contrib.site", "worker", "-n", f"{name}@%h"]
        command += ["-Q", self.queue, "--without-gossip", "--without-mingle", "-l", "INFO"]
        # RabbitMQ sends a worker as many messages ahead as it has processes, by default one a processor.
        command += options or ["--pool", "solo", "--concurrency", "1"]
        with (self.logs / f"{name}.log").open("wb") as log:
            process = processes.start(
                "celery",
                *command,
                environment=self.environment,
                preloaded="tests.contrib.preloaded",
                stdin=processes.DEVNULL,
                stdout=log.fileno(),
                stderr=log.fileno(),
                new_session=True,  # so that its children can be ended with it
            )
        self.processes.append(process)
        return process

    def send(self, task: str, *arguments: Any, **keywords: Any) -> None:
        with self.app.connection_for_write() as connection:
            self.app.send_task(task, arguments, keywords, connection=connection)

    def dispatch(self, **keywords: Any) -> None:
        """Do what a beat would: have a worker look for what is due."""
        self.send("oauth_connect.dispatch_due", **keywords)

    @property
    def told(self) -> str:
        """What the workers wrote."""
        return "\n".join(path.read_text("utf-8", "replace") for path in sorted(self.logs.glob("*.log")))

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        eventually(condition, lambda: f"{what}\n{self.told}")

    def kill(self, process: Forked) -> None:
        """As the kernel does: nothing is tidied up."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)
        if self.broker.startswith("redis"):
            with redis.Redis.from_url(self.broker) as client:
                if keys := list(client.scan_iter(f"{self.queue}.*")):
                    client.delete(*keys)
            return
        with self.app.connection_for_write() as connection:
            connection.default_channel.queue_delete(self.queue)
            connection.default_channel.exchange_delete(self.queue)


def children(process: Forked) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process.pid)], check=False, capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]
