"""The README's Python example runs as printed and says what the README says."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_python_example_follows_the_ball_behind_the_pole() -> None:
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    lines = _run(code).splitlines()
    states = [line.split()[1] for line in lines]
    assert states[0] == "visible"
    assert "partial" in states
    assert "hidden" in states
    assert states[-1] == "visible"


def test_python_example_needs_no_torch() -> None:
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    assert _run(f"{code}\nimport sys\nprint('torch' in sys.modules)").splitlines()[-1] == "False"


def _run(code: str) -> str:
    """Return what a new interpreter prints for the code."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
