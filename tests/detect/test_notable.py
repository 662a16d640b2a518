import pytest

from pingmesh_tasks.demo.data_server import Hammer, Profile, generate
from pingmesh_tasks.detect.notable import looks_notable


def seconds_of(hammer=None, *, rate=100.0, seconds=60, seed=3, mode="multi"):
    """The bytes of a busy made-up server, two seconds at a time; the hammer begins at half-time."""
    profile = Profile(lines_per_s=rate, mode=mode, swing=0.0, reconnect_s=5.0, hammer=hammer)
    server = generate(seed=seed, profile=profile)._server
    for until in range(2, seconds + 1, 2):
        yield server.advance(profile.start_s + until).access


@pytest.mark.parametrize("mode", ["multi", "inetd"])
def test_ordinary_traffic_is_not_notable_but_a_hammer_is_from_the_first_seconds_on(mode):
    told = [looks_notable(data, 2.0) for data in seconds_of(Hammer("bob", 30, 20.0), mode=mode)]
    assert told == [False] * 15 + [True] * 15


LINE = b"Sat Nov 21 22:49:07 2026 (pid 7953) GetData called for tree=EAST, shot=138001, node=\\EAST::N%d\n"
CONNECTION = b"Sat Nov 21 22:49:07 2026 (%d) (pid 7953) Connection received from u%d@h [10.0.0.%d]\r\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b"".join(LINE % number for number in range(500)), False),
        (LINE % 1 * 25, True),
        (LINE % 1 * 9, False),
        (b"".join(CONNECTION % (n, n, 1) for n in range(30)), False),
        (b"".join(CONNECTION % (n, 1, 1) for n in range(30)), True),
        (b"".join(CONNECTION % (n, n, n) for n in range(100)), True),
        (b"garbage\n" * 30, True),
        (b"\xff\x00" * 10_000, False),
        (b"node=\\EAST::N1\n" + LINE % 1 * 5 + b"Sat Nov", False),
    ],
)
def test_what_is_notable_in_two_seconds(data, expected):
    assert looks_notable(data, 2.0) is expected
