"""Pingmesh on Airflow: everything that is not wiring. Airflow itself is imported only in `orchestration`."""
