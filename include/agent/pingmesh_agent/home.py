"""The agent's directory on a host, and the lock that admits one agent to it."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from pingmesh_agent.errors import StartError

TYPE_CHECKING = False  # importing typing would add a megabyte
if TYPE_CHECKING:
    from typing import BinaryIO

LOCK_TRIES, LOCK_WAIT_S = 10, 0.02  # `status` holds the lock for an instant


class Home:
    """The agent's directory, opened once; every file in it is named relative to that descriptor.

    A directory that was removed takes no new entries (ENOENT). So the agent cannot write into
    another directory of the same path that was made later, where another agent may live.
    """

    def __init__(self, path: str, make: bool = False) -> None:
        if make:
            os.makedirs(path, 0o700, exist_ok=True)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def descriptor(self, name: str, flags: int) -> int:
        """Open a file; with O_CREAT in `flags` it is made with mode 0600."""
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self.fd)

    def open(self, name: str) -> BinaryIO:
        return open(name, "rb", opener=self.descriptor)

    def stat(self, name: str) -> os.stat_result | None:
        """Status of a file, or None if there is no such file."""
        try:
            return os.stat(name, dir_fd=self.fd)
        except FileNotFoundError:
            return None

    def signature(self, name: str) -> tuple[int, int, int] | None:
        """What changes when a file is replaced or touched; None if it cannot be read."""
        try:
            status = self.stat(name)
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_ino, status.st_size) if status else None

    def make_directory(self, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        except FileExistsError:
            pass

    def names(self, directory: str) -> list[str]:
        """Sorted names of the entries of a directory in the home."""
        fd = self.descriptor(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def rename(self, name: str, to: str) -> None:
        os.replace(name, to, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self.fd)

    def truncate(self, name: str, size: int) -> None:
        fd = self.descriptor(name, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file under another name and rename it, so that readers see it whole."""
        if self.stat(name + ".tmp"):
            self.remove(name + ".tmp")
        self.append(name + ".tmp", data)
        self.rename(name + ".tmp", name)

    def append(self, name: str, data: bytes) -> None:
        """Append all of `data`; on failure leave the file as it was and raise OSError."""
        fd = self.descriptor(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(fd).st_size
            written = os.write(fd, data)
            if written != len(data):
                os.ftruncate(fd, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        finally:
            os.close(fd)


def take_lock(home: Home) -> int:
    """Return the descriptor that holds the lock of this home.

    Raises:
        StartError: With code 3, if another agent has the lock.
    """
    fd = home.descriptor("agent.lock", os.O_RDWR | os.O_CREAT)
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not tries_left:
                os.close(fd)
                holder = lock_holder(home.path)
                reason = f"an agent (pid {holder}) already runs in {home.path}"
                raise StartError(3, reason) from None
            time.sleep(LOCK_WAIT_S)
    os.ftruncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    return fd


def lock_holder(path: str) -> int | None:
    """Process id of the agent that runs in the home at `path`, or None."""
    try:
        with open(os.path.join(path, "agent.lock"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                return int(file.read() or 0)
    except (OSError, ValueError):
        return None
