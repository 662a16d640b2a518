"""Loaded by every Airflow process that has this folder on its path (`PYTHONPATH`).

The LocalExecutor forks its workers from the scheduler: what the scheduler has imported, no task pays for again. That
is worth seconds a task (matplotlib alone takes one and a half).
"""

import sys

if "scheduler" in sys.argv:
    import asyncssh
    import matplotlib.backends.backend_agg
    import numpy
    import obstore.store
    import polars
    import pyarrow.parquet
