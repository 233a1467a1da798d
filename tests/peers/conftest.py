"""Other programs, each in an environment of its own, for tests that compare with them."""

import json
import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cellfinder():
    """Run lines of Python where cellfinder is installed; return what they print last, as JSON.

    Its Python comes from CELLKIT_PEER_PYTHON.
    """
    python = os.environ.get("CELLKIT_PEER_PYTHON")
    if not python or not Path(python).exists():
        pytest.skip("CELLKIT_PEER_PYTHON names no Python with cellfinder 1.10.1")

    def run(lines: str, *arguments: object) -> object:
        code = f"import json, sys\narguments = sys.argv[1:]\nif __name__ == '__main__':\n{indented(lines)}"
        command = [python, "-W", "ignore", "-c", code, *map(str, arguments)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        told = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert told.returncode == 0, told.stderr[-2000:]
        return json.loads(told.stdout.strip().splitlines()[-1])

    return run


def indented(lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines.strip().splitlines())
