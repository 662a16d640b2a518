"""Exit 0 if a part of Airflow is alive: `healthy.py URL [COMPONENT]`.

With a component (`triggerer`, `dag_processor`) the answer is what the API server knows of its heartbeat.
That costs a few ms, where `airflow jobs check` imports Airflow for seconds, every half minute, in every container.
"""

from __future__ import annotations

import json
import sys
import urllib.request


def is_healthy(url: str, component: str | None) -> bool:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - the URL is the compose file's
        return component is None or (json.load(answer).get(component) or {}).get("status") == "healthy"


if __name__ == "__main__":
    try:
        alive = is_healthy(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    except (OSError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    sys.exit(0 if alive else f"{sys.argv[1]}: {sys.argv[2]} is not healthy")
