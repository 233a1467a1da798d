import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real volumes with known cells; its place comes from CELLKIT_REAL_DATA."""
    folder = os.environ.get("CELLKIT_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CELLKIT_REAL_DATA names no folder with real volumes")
    return Path(folder)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent
