"""What the code gives for seeded inputs is what was recorded: tables, pictures, messages, keys.

The test holds behaviour through changes that must not alter it, such as moves and renames of
modules. `expected/` has hashes of tables (decoded rows, and Parquet bytes), of pictures (decoded
pixels) and of binary answers, and the text of messages. `tests.golden.mesh` makes the input,
`tests.golden.pipeline` runs the product, `tests.golden.recording` compares.

The recording is exact for one set of library versions and one kind of CPU (`environment.json`):
numpy rounds logarithms differently with and without AVX-512, and a new version of Polars or PyArrow
may change Parquet bytes of equal content (a recorded value reads `<content> bytes <bytes>`). Where
the environment is another one, a difference proves nothing: the test is skipped and names it.

Record again, after an intended change only:

    PINGMESH_TEST_RECORD_GOLDEN=1 .venv/bin/pytest tests/golden
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.pipeline import run_all
from tests.golden.recording import (
    ENVIRONMENT,
    EXPECTED,
    HOW_TO_RECORD,
    RECORD_VARIABLE,
    Recording,
    compare,
    environment_difference,
    record,
)
from tests.support.needs import lack

FILES = sorted(
    str(path.relative_to(EXPECTED)) for path in EXPECTED.rglob("*.*") if path != ENVIRONMENT
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    made = run_all(tmp_path_factory.mktemp("golden"))
    if os.environ.get(RECORD_VARIABLE):
        record(made)
        pytest.skip(f"recorded {len(made.files())} files; review `git diff tests/golden/expected`")
    return made


@pytest.mark.parametrize("file", FILES)
def test_results_equal_the_recording(recording: Recording, file: str, tmp_path: Path) -> None:
    if difference := compare(recording, file, tmp_path):
        if other := environment_difference():
            lack("recorded environment", detail=other)
        where = f"Actual output: {tmp_path}\n"
        pytest.fail(f"{difference}\n\n{where}{HOW_TO_RECORD}", pytrace=False)


def test_every_result_is_recorded(recording: Recording) -> None:
    missing = sorted({*recording.files()} - {*FILES})
    assert not missing, f"not recorded: {missing}\n{HOW_TO_RECORD}"
