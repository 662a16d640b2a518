#!/bin/sh
# Plays one server of the demo: an SSH daemon with a user `pingmesh`, whose password opens the door once, for the key.
# The host key lives in a volume: a container made anew is still the host that was pinned.
set -eu

: "${PINGMESH_DEMO_PASSWORD:?is not set: run include/compose/make_env.sh, or write it into .env}"

key=/srv/host-keys/ssh_host_ed25519_key
[ -f "$key" ] || ssh-keygen -q -t ed25519 -N '' -C "$(hostname)" -f "$key"
printf 'pingmesh:%s\n' "$PINGMESH_DEMO_PASSWORD" | chpasswd
unset PINGMESH_DEMO_PASSWORD

exec /usr/sbin/sshd -D -e -h "$key" -o PermitRootLogin=no -o UsePAM=no -o AllowUsers=pingmesh -o MaxStartups=100
