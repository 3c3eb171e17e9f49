"""The examples of the READMEs, run unchanged except for the address."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Start, token

READMES = (ROOT / "README.md", Path(__file__).parents[1] / "README.md")
EXAMPLES = [
    example for path in READMES for example in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 8


@pytest.mark.parametrize("example", EXAMPLES)
async def test_example_runs(start: Start, example: str) -> None:
    server = await start("""
[[namespace]]
name = "*"
history = { size = 2000 }
""")
    assert "127.0.0.1:50051" in example
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", example.replace("127.0.0.1:50051", server.address)),
        env={**os.environ, "TIDINGS_TOKEN": token("service")},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, output.decode()
