"""The Celery application: `celery -A monolith.config worker|beat`."""

import os

from celery import Celery
from celery.schedules import crontab

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monolith.config.settings")

from django.conf import settings

from strangler_proxy.contrib.celery import install

app = Celery("monolith")
app.conf.update(
    broker_url=settings.ENVIRONMENT.broker_url,
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=5,
    task_publish_retry_policy={"max_retries": 3, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5},
    task_time_limit=120,
    timezone="UTC",
    beat_scheduler="celery.beat:Scheduler",  # keeps no file: a night that was missed is settled by the next one
    beat_schedule={
        "payments-sweep": {"task": "payments.sweep", "schedule": 5.0, "options": {"expires": 5}},
        "payments-settle": {"task": "payments.settle", "schedule": crontab(hour="0", minute="30")},
        "notifications-sweep": {"task": "notifications.sweep", "schedule": 10.0, "options": {"expires": 10}},
    },
)
if settings.ENVIRONMENT.broker_url.startswith("redis"):
    # A worker killed mid-task is made good within seconds; the visibility timeout is above the longest task.
    app.conf.broker_transport_options = {
        "visibility_timeout": 300,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
    }
else:
    app.conf.task_default_queue_type = "quorum"
    app.conf.worker_detect_quorum_queues = True
    app.conf.broker_transport_options = {"confirm_publish": True}
app.autodiscover_tasks(["monolith.payments", "monolith.notifications"])
install(app)
