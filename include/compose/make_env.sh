#!/bin/sh
# Writes .env for `docker compose --profile demo up`: .env.example and env.example together, every secret drawn anew.
# Never touches a .env that exists.
set -eu

cd "$(dirname "$0")/../.."
if [ -e .env ]; then
    echo ".env exists; move it away first, its passwords may be in use by the volumes" >&2
    exit 1
fi

random_hex() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
uid=$(id -u)
[ "$uid" -ne 0 ] || uid=50000 # the containers never run as root

umask 077
{
    sed -e 's|^PINGMESH_INVENTORY=.*|PINGMESH_INVENTORY=/opt/airflow/include/inventories/compose.csv|' \
        -e 's|^# PINGMESH_WINDOW_S=.*|PINGMESH_WINDOW_S=60|' .env.example
    echo
    while IFS= read -r line; do
        case $line in
            AIRFLOW_UID=) echo "$line$uid" ;;
            AIRFLOW__CORE__FERNET_KEY=) echo "$line$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')" ;;
            [A-Z]*=) echo "$line$(random_hex)" ;;
            *) echo "$line" ;;
        esac
    done < include/compose/env.example
} > .env.new
mv .env.new .env
echo "wrote .env; the page is http://localhost:8080, user admin, password:"
sed -n 's/^AIRFLOW_ADMIN_PASSWORD=//p' .env
