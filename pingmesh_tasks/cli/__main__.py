"""`python -m pingmesh_tasks.cli`: the command `pingmesh` of a checkout that is not installed."""

from pingmesh_tasks.cli.main import main

main(prog_name="pingmesh")
