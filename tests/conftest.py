import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # tests that load Keras by themselves learn as users do
LONGEST = ("test_tour.py", "test_screens.py", "test_retrain.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


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
