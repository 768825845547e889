"""The Celery application: broker, schedule, and nothing that keeps results."""

from __future__ import annotations

from celery import Celery

QUEUE = "aggregator"
#: A task that waited longer than its interval is not worth running: the next one does its work. One that finds nothing
#: to do costs its delivery, which is far more than what it asks the database.
_EVERY_S = {
    "roll_up": 1.0,
    "history": 1.0,
    "repair": 2.0,
    "refresh_symbols": 300.0,
    "top_up": 60.0,
    "retention": 3600.0,
    "audit": 5.0,
    "completeness": 5.0,
    "operate": 2.0,
}

app = Celery("aggregator", include=["aggregator.tasks"])
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_connection_timeout=2.0,
    broker_transport_options={
        "visibility_timeout": 3600,
        "socket_timeout": 5.0,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    beat_max_loop_interval=1.0,
    enable_utc=True,
    timezone="UTC",
    beat_schedule={
        name: {"task": f"aggregator.{name}", "schedule": every_s, "options": {"expires": max(2.0, every_s)}}
        for name, every_s in _EVERY_S.items()
    },
)
