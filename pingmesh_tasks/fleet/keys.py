"""Keys of the fleet on its hosts: install the public key by the first password, pin every host's
key.

A host passes in up to three rounds over the fleet: log in by key (nothing to do); log in by the bootstrap password,
which is the one contact that may pin a host key, and install the public key; log in by key again to prove it.
A host whose pinned key differs is refused before any password is offered, and its pin is never overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import asyncssh

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.fleet.connect import (
    FanoutLimits,
    HostFault,
    HostOutcome,
    Session,
    SshAccess,
    Work,
    for_each_host,
    is_disk_full,
)
from pingmesh_tasks.fleet.known_hosts import KnownHosts, entry_name, text_of, without_names
from pingmesh_tasks.fleet.private_key import KEY_COMMENT, OwnKey, PrivateKey, key_of, public_line
from pingmesh_tasks.topology.inventory import Host

STAGE = "keys"
_FROM_PATTERN = re.compile(r"[0-9A-Za-z.:/*?!-]+")

#: $1: the key's base64 text. stdin: the line to add. Prints `present` or `added`. Appends in place, so that a link, an
#: owner or a label of the file stays; a lock directory keeps two runs from adding it twice.
INSTALL_SCRIPT = r"""
cd || exit; umask 077; IFS= read -r line || exit
mkdir -p .ssh && chmod 700 .ssh || exit
lock=.ssh/.pingmesh.lock; n=0
until mkdir "$lock" 2>/dev/null; do n=$((n + 1)); [ "$n" -lt 10 ] || break; sleep 1; done
trap 'rmdir "$lock" 2>/dev/null' EXIT
f=.ssh/authorized_keys
if [ -f "$f" ] && grep -v '^[[:space:]]*#' "$f" | grep -qF -- "$1"; then echo present; exit; fi
{ [ -s "$f" ] && [ -n "$(tail -c 1 "$f")" ] && echo; printf '%s\n' "$line"; } >> "$f" || exit
chmod 600 "$f" || exit
command -v restorecon >/dev/null 2>&1 && restorecon -R .ssh
grep -qF -- "$1" "$f" && echo added
"""

#: $1: the key's base64 text. Takes every line that has it out of authorized_keys; an absent file is fine.
REMOVE_SCRIPT = r"""
cd || exit; umask 077; f=.ssh/authorized_keys
[ -f "$f" ] && grep -qF -- "$1" "$f" || exit 0
grep -vF -- "$1" "$f" > "$f.pingmesh"; [ $? -le 1 ] && cat "$f.pingmesh" > "$f"; status=$?
rm -f "$f.pingmesh"; exit "$status"
"""


def ensure_keys(
    hosts: Iterable[Host],
    access: SshAccess,
    bootstrap: SshAccess | None = None,
    limits: FanoutLimits | None = None,
    *,
    allowed_from: Sequence[str] = (),
    dry_run: bool = False,
) -> list[HostOutcome]:
    """See that every host lets `access.private_key` in; an own key pair is made unless the fleet
    has one.

    `bootstrap` is the login by password for hosts that do not know the key yet; its known_hosts
    text is `access`'s. `allowed_from` narrows where the key may be used from (`from=` of
    authorized_keys: addresses, CIDR, patterns). Outcomes: unchanged (the key works), ok (it was
    installed), or what is in the way. Raises ConfigError or StoreError.
    """
    hosts = list(hosts)
    private_key = _private_key(access)
    if dry_run and _is_to_be_made(private_key):
        return [HostOutcome(h.name, STAGE, "unchanged", "would make the key pair and install it") for h in hosts]
    line, blob = authorized_line(private_key.load() if dry_run else private_key.ensure(), allowed_from)
    by_key = replace(access, password=None)

    outcomes = {o.host: o for o in for_each_host(hosts, _nothing("unchanged"), by_key, limits, stage=STAGE)}
    locked_out = [h for h in hosts if outcomes[h.name].outcome in ("auth_failed", "host_key_unknown")]
    if bootstrap is None or dry_run:
        plan = "would install the key by the bootstrap password" if bootstrap else _NO_BOOTSTRAP
        for host in locked_out:
            outcomes[host.name] = _then(outcomes[host.name], detail=f"{plan}; {outcomes[host.name].detail}")
        return [outcomes[h.name] for h in hosts]

    by_password = replace(bootstrap, private_key=None, known_hosts=access.known_hosts)
    install = _install(line, blob)
    for outcome in for_each_host(locked_out, install, by_password, limits, stage=STAGE, pin_new_hosts=True):
        outcomes[outcome.host] = _then(outcomes[outcome.host], outcome)

    installed = [h for h in locked_out if outcomes[h.name].outcome == "ok"]
    for proof in for_each_host(installed, _nothing("ok"), by_key, limits, stage=STAGE):
        before = outcomes[proof.host]
        detail = before.detail if proof.outcome == "ok" else f"{before.detail}, but it does not work: {proof.detail}"
        outcomes[proof.host] = _then(before, proof, detail=detail)
    return [outcomes[h.name] for h in hosts]


def forget_host_keys(hosts: Iterable[Host], access: SshAccess, *, dry_run: bool = False) -> list[HostOutcome]:
    """Take the pinned keys of hosts that were installed anew out of the known_hosts text.

    The next `ensure_keys` pins what a host shows then, so name only hosts whose new key is expected.
    Outcomes: ok (a dry run: unchanged), unchanged (no key was pinned), or failed where a pattern or a
    hashed name speaks for the host, which its owner must edit. Raises ConfigError or StoreError.
    """
    hosts = list(hosts)
    source = text_of(access.known_hosts)
    ports = {host.name: host.ssh_port or access.port for host in hosts}
    names = {entry_name(host.address, ports[host.name]) for host in hosts}
    before = source.read()
    after = without_names(before, names)
    if not dry_run and after != before:
        after = source.update(lambda text: without_names(text, names))
    was, now = KnownHosts(before, source.place), KnownHosts(after, source.place)
    outcomes = []
    for host in hosts:
        where = host.address, ports[host.name]
        if now.knows(*where):
            lines = ", ".join(map(str, now.lines(*where)))
            detail = f"line {lines} of {source.place} also names it; edit that line"
            outcomes.append(HostOutcome(host.name, STAGE, "failed", detail))
        elif not was.knows(*where):
            outcomes.append(HostOutcome(host.name, STAGE, "unchanged", "no host key is pinned"))
        else:
            said = "would forget the host key" if dry_run else "host key forgotten"
            outcomes.append(HostOutcome(host.name, STAGE, "unchanged" if dry_run else "ok", said))
    return outcomes


def authorized_line(key: asyncssh.SSHKey, allowed_from: Sequence[str] = ()) -> tuple[str, str]:
    """Return the line for authorized_keys and, apart, its base64 text, by which the line is found again.

    `restrict` (OpenSSH 7.2 and later) leaves commands and takes terminals and every kind of forwarding away.
    """
    for pattern in allowed_from:
        if not _FROM_PATTERN.fullmatch(pattern):
            raise ConfigError(f"{pattern!r} is no source for a key; write an address, a CIDR block or a pattern")
    kind, blob = public_line(key).split()[:2]
    options = "restrict" + (f',from="{",".join(allowed_from)}"' if allowed_from else "")
    return f"{options} {kind} {blob} {KEY_COMMENT}", blob


def _install(line: str, blob: str) -> Work:
    async def install(session: Session) -> HostOutcome:
        answer = await session.run(INSTALL_SCRIPT, blob, stdin=f"{line}\n".encode())
        said = answer.stdout.decode("utf-8", "replace").split()
        if answer.exit_status != 0 or not said or said[-1] not in ("added", "present"):
            outcome = "disk_full" if is_disk_full(answer.stderr) else "failed"
            raise HostFault(outcome, f"the key was not installed: {answer.stderr or f'exit {answer.exit_status}'}")
        detail = "key installed" if said[-1] == "added" else "host key pinned; the key was there"
        return HostOutcome(session.host.name, STAGE, "ok", detail)

    return install


async def remove_key(session: Session, key: asyncssh.SSHKey) -> None:
    """Take our key out of the host's authorized_keys. Raises HostFault if it is still there."""
    _, blob = authorized_line(key)
    answer = await session.run(REMOVE_SCRIPT, blob)
    if answer.exit_status != 0:
        raise HostFault("failed", f"the key is still in authorized_keys: {answer.stderr}")


_NO_BOOTSTRAP = "no bootstrap password is configured to install the key with (connection pingmesh_bootstrap)"


def _nothing(outcome: str) -> Work:
    async def nothing(session: Session) -> HostOutcome:
        await session.run("exit 0")
        return HostOutcome(session.host.name, STAGE, outcome)

    return nothing


def _then(before: HostOutcome, after: HostOutcome | None = None, *, detail: str | None = None) -> HostOutcome:
    """Return `after`, or `before` without one, with the time of both."""
    last = after or before
    took_ms = before.duration_ms + (after.duration_ms if after else 0)
    return replace(last, duration_ms=took_ms, detail=last.detail if detail is None else detail)


def _private_key(access: SshAccess) -> PrivateKey:
    if access.private_key is None:
        raise ConfigError("ensure_keys needs a private_key: the one to use, or the file to make")
    return key_of(access.private_key)


def _is_to_be_made(private_key: PrivateKey) -> bool:
    return isinstance(private_key, OwnKey) and private_key.is_to_be_made
