"""Loaded by every Airflow process that has this folder on its path (`PYTHONPATH`).

The LocalExecutor forks its workers from the scheduler: what the scheduler has imported, no task pays for again. That
is worth seconds a task (matplotlib alone takes one and a half). The alarm's tasks start most often and are waited for
most: what they need beyond the others' (the channels' hooks, the rules) is a third of a second of CPU a task.
The triggerer forks too, and runs everybody's triggers in one event loop: an import in there stops them all.

What is imported here is what the scheduler runs until it is started again: do that after an upgrade of the package.
"""

import sys

if "scheduler" in sys.argv:
    import airflow.providers.http.hooks.http
    import airflow.providers.slack.hooks.slack
    import airflow.providers.slack.hooks.slack_webhook
    import airflow.providers.smtp.hooks.smtp
    import asyncssh
    import jinja2
    import matplotlib.backends.backend_agg
    import numpy
    import obstore.store
    import polars
    import pyarrow.compute
    import pyarrow.parquet
    import zstandard

    import pingmesh_tasks.access.grammar
    import pingmesh_tasks.alerting.delivery
    import pingmesh_tasks.alerting.messages.message
    import pingmesh_tasks.detect.access.evaluate
    import pingmesh_tasks.detect.mesh.evaluate
    import pingmesh_tasks.fleet.trace
    import pingmesh_tasks.latency.summary
elif "triggerer" in sys.argv:
    import asyncssh
    import obstore.store
    import polars
    import pyarrow.parquet
    import zstandard

    import pingmesh_tasks.detect.rules
    import pingmesh_tasks.fleet.tailing
    import pingmesh_tasks.latency.summary
