"""The agent's directory and its lock."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from pingmesh_agent.errors import StartError

TYPE_CHECKING = False  # importing typing would cost a megabyte on every host
if TYPE_CHECKING:
    from typing import BinaryIO


class Home:
    """The agent's directory, opened once; all that is read, written and renamed in it is named relative to that
    descriptor. A directory that was removed takes no new entries (ENOENT), so that nothing of ours can come to lie in
    another one that was made in its place, where another agent may live."""

    def __init__(self, path: str, make: bool = False) -> None:
        if make:
            os.makedirs(path, 0o700, exist_ok=True)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def descriptor(self, name: str, flags: int) -> int:
        """The open file, made with mode 0600 where `flags` have O_CREAT."""
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self.fd)

    def open(self, name: str) -> BinaryIO:
        return open(name, "rb", opener=self.descriptor)

    def stat(self, name: str) -> os.stat_result | None:
        """What is known of a file; None where there is none."""
        try:
            return os.stat(name, dir_fd=self.fd)
        except FileNotFoundError:
            return None

    def make_directory(self, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        except FileExistsError:
            pass

    def names(self, directory: str) -> list[str]:
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
        """Write a file whole, under another name first."""
        if self.stat(name + ".tmp"):
            self.remove(name + ".tmp")
        self.append(name + ".tmp", data)
        self.rename(name + ".tmp", name)

    def append(self, name: str, data: bytes) -> None:
        """Add `data` to a file whole, or leave the file as it was and raise OSError."""
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
    """The descriptor that holds this home's lock; StartError 3 if an agent has it."""
    fd = home.descriptor("agent.lock", os.O_RDWR | os.O_CREAT)
    for attempt in range(10):  # `status` holds it for an instant
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == 9:
                os.close(fd)
                raise StartError(3, f"an agent (pid {lock_holder(home.path)}) already runs in {home.path}") from None
            time.sleep(0.02)
    os.ftruncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    return fd


def lock_holder(home: str) -> int | None:
    """Process id of the agent that runs in this home, or None."""
    try:
        with open(os.path.join(home, "agent.lock"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                return int(file.read() or 0)
    except (OSError, ValueError):
        return None
