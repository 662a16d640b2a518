"""The page. Only Airflow's api-server imports it.

Arrow is told, before it is first imported, to take its memory from the C library: its own allocator keeps what it
freed, 100 MB of it after some hundred answers.
"""

import os

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
