"""``python -m carbon_pipelines.cli``: the same as ``carbon``."""

from carbon_pipelines.cli import cli

if __name__ == "__main__":
    cli(prog_name="carbon")
