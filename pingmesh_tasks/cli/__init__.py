"""The console command `pingmesh`: thin commands around the functions of the other rooms.

    main.py        the group of all commands, and how errors leave it
    output.py      text for people, JSON for programs, progress bars
    inventory.py   check-inventory, plan
    records.py     dump, import-2018
    installed.py   doctor, dags-folder, preload-folder, example
    demo.py        demo up | stop | status | fault

Heavy modules (Polars, Airflow) are imported by the command that needs them: `--help` takes 0.1 s.
"""
