import subprocess
import sys

ONLY_DEFS_KNOWS_DAGSTER = """
import importlib, pkgutil, sys
import carbon_pipelines
for module in pkgutil.walk_packages(carbon_pipelines.__path__, "carbon_pipelines."):
    if not module.name.startswith(("carbon_pipelines.def", "carbon_pipelines.cli.__main__")):
        importlib.import_module(module.name)
        if "dagster" in sys.modules:
            sys.exit(f"{module.name} imports dagster")
"""


def test_only_defs_imports_dagster() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONLY_DEFS_KNOWS_DAGSTER], capture_output=True, check=False, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
