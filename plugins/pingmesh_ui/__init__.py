"""The page. Only Airflow's api-server imports it.

Where memory comes from is said here, before NumPy, Polars and Arrow start their threads. Arrow takes it from the C
library: its own allocator keeps what it freed, 100 MB of it after some hundred answers. And the C library shares two
arenas among all threads (glibc's default is eight a core): what is left over in each adds up.
"""

import ctypes
import os

M_ARENA_MAX = -8

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
_mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
if _mallopt is not None:
    _mallopt(M_ARENA_MAX, 2)
