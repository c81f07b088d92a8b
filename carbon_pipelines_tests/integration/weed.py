"""Operator commands of the embedded object store, for tests that change its surroundings."""

import subprocess

import psutil

from carbon_pipelines.embedded.stack import Stack


def weed_arguments(stack: Stack) -> dict[str, str]:
    """The running store's own flags, without the leading dash."""
    (part,) = [p for p in stack.status().parts if p.name == "s3"]
    arguments = psutil.Process(part.pid).cmdline()
    flags = dict(a.removeprefix("-").split("=", 1) for a in arguments if "=" in a)
    return {"program": arguments[0], **flags}


def weed_shell(stack: Stack, command: str) -> str:
    """Run one command of the store's shell and give what it printed."""
    flags = weed_arguments(stack)
    addresses = [
        f"-{name}=127.0.0.1:{flags[f'{name}.port']}.{flags[f'{name}.port.grpc']}"
        for name in ("master", "filer")
    ]
    ran = subprocess.run(
        [flags["program"], "shell", *addresses],
        input=command,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ran.stdout + ran.stderr
