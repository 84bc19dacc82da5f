"""A Celery application of the project: `celery -A tests.integration.contrib_project.handing worker`."""

from __future__ import annotations

import contextlib
import os
import time

import django
from celery import Celery

django.setup()

from strangler_proxy.contrib.celery import install  # noqa: E402
from strangler_proxy.contrib.django.handover import to_other_side  # noqa: E402
from strangler_proxy.contrib.handover import HandingOverTask, HandOver  # noqa: E402
from strangler_proxy.contrib.messaging import broker  # noqa: E402
from strangler_proxy.contrib.messaging.handover import HandedTask  # noqa: E402
from tests.integration.contrib_project.models import Note, Parcel  # noqa: E402

BROKER_URL = os.environ["CONTRIB_TEST_BROKER"]
QUEUE = os.environ["CONTRIB_TEST_QUEUE"]

app = Celery("handing", broker=BROKER_URL)
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
if broker.is_redis(BROKER_URL):
    app.conf.broker_transport_options = {
        "visibility_timeout": 4,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_key": f"unacked:{QUEUE}",
        "unacked_index_key": f"unacked_index:{QUEUE}",
        "unacked_mutex_key": f"unacked_mutex:{QUEUE}",
        "unacked_mutex_expire": 10,
    }
else:
    app.conf.task_default_queue_type = "quorum"
    app.conf.worker_detect_quorum_queues = True
    app.conf.broker_transport_options = {"confirm_publish": True}
install(app)


def write(task: HandedTask) -> None:
    """Hand over; then, where a test says so, stand still until somebody kills the worker."""
    to_other_side(task)
    time.sleep(float(os.environ.get("CONTRIB_TEST_STANDS_S", "0")))


HAND_OVER = HandOver(flag="parcels", write=write, attempts=2)


@app.task(name="parcels.make", base=HandingOverTask, hand_over=HAND_OVER)
def make(name: str) -> None:
    """A parcel."""
    Parcel.objects.create(name=name)


@app.task(name="parcels.make_quietly", base=HandingOverTask, hand_over=HAND_OVER)
def make_quietly(name: str) -> None:
    """A parcel, if there can be one; the note after it is refused once the fence was met."""
    with contextlib.suppress(Exception):
        Parcel.objects.create(name=name)
    with contextlib.suppress(Exception):
        Note.objects.create(text=name)


@app.task(name="parcels.make_of_others", base=HandingOverTask, hand_over=HandOver(flag="letters", write=write))
def make_of_others(name: str) -> None:
    """A parcel; it is handed over for letters only."""
    Parcel.objects.create(name=name)
