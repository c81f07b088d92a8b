"""A Dockerfile's instructions without Docker: into directories, one for each stage.

What belongs here: FROM (Debian alone, from Debian's packages), RUN, COPY, ENV, WORKDIR, USER, CMD.
What does not: layers, and any other instruction, which is an error. It needs root for ``chroot``.

While an instruction runs, the machine's ways to package registries (apt's sources, pip's settings,
certificates) are in the directory; afterwards they are taken out again, so that none of them is in
what is built.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

BASE = re.compile(r"docker\.io/library/debian:12\.\d+-slim")
PASSED = re.compile(r"PIP_.*|SSL_CERT_.*|.*_proxy|REQUESTS_CA_BUNDLE")


class InstructionError(Exception):
    """An instruction cannot be run, or failed; the message says which one."""


@dataclass(slots=True)
class Stage:
    """One stage while it is built."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    command: tuple[str, ...] = ()


def instructions(text: str) -> list[tuple[str, str]]:
    """Words and what follows them; comments and blank lines are nothing, ``\\`` goes on."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in joined.splitlines()]
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in lines
        if line and not line.startswith("#")
    ]


def build(dockerfile: Path, context: Path, into: Path) -> Stage:
    """Run all instructions; returns the last stage."""
    base = into / "debian"
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for number, (word, rest) in enumerate(instructions(dockerfile.read_text()), 1):
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            if not BASE.fullmatch(image):
                message = f"instruction {number}: FROM {image}: only Debian 12 can be made here"
                raise InstructionError(message)
            make_debian(base)
            stage = Stage(into / (name or "last"))
            subprocess.run(["cp", "-a", str(base), str(stage.root)], check=True)
            stages[name or "last"] = stage
            continue
        if stage is None:
            message = f"instruction {number}: {word} before FROM"
            raise InstructionError(message)
        _run(number, word, rest, stage, stages, context)
    if stage is None:
        message = f"{dockerfile} has no FROM"
        raise InstructionError(message)
    return stage


def _run(
    number: int, word: str, rest: str, stage: Stage, stages: Mapping[str, Stage], context: Path
) -> None:
    match word:
        case "RUN":
            with registries(stage.root):
                ended = enter(stage, ["/bin/sh", "-c", rest], os.environ)
            if ended.returncode != 0:
                message = f"instruction {number}: RUN {rest}\n{ended.stdout[-3000:]}"
                raise InstructionError(message)
        case "COPY":
            words = shlex.split(rest)
            source = context
            if words[0].startswith("--from="):
                source = stages[words.pop(0).removeprefix("--from=")].root
            *froms, to = words
            _copy(source, froms, stage.root / to.lstrip("/"), is_directory=to.endswith("/"))
        case "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        case "WORKDIR":
            stage.directory = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "USER":
            stage.user = rest
        case "CMD":
            stage.command = tuple(re.findall(r'"([^"]*)"', rest))
        case _:
            message = f"instruction {number}: {word} is not known here"
            raise InstructionError(message)


def _copy(source: Path, froms: list[str], to: Path, *, is_directory: bool) -> None:
    for name in froms:
        found = source / name.lstrip("/")
        target = to / found.name if is_directory else to
        target.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(found, target, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(found, target)


def enter(
    stage: Stage, command: list[str], environ: Mapping[str, str], user: str = "0:0"
) -> "subprocess.CompletedProcess[str]":
    """Run a command inside; of the machine's environment only registries' settings go along."""
    passed = {name: value for name, value in environ.items() if PASSED.fullmatch(name)}
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        **passed,
        **stage.environment,
    }
    inside = [
        "chroot",
        f"--userspec={user}",
        str(stage.root),
        "/usr/bin/env",
        "-C",
        stage.directory,
    ]
    return subprocess.run(
        [*inside, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@contextmanager
def registries(root: Path) -> Iterator[None]:
    """The machine's apt settings, names and certificates inside, for as long as this lasts."""
    kept = root.with_name(root.name + ".apt")
    shutil.copytree(root / "etc" / "apt", kept, symlinks=True)
    names = root / "etc" / "resolv.conf"
    lent: list[Path] = []
    shutil.copytree("/etc/apt", root / "etc" / "apt", symlinks=True, dirs_exist_ok=True)
    for file in ("/etc/resolv.conf", "/etc/hosts", *_certificates()):
        target = root / file.lstrip("/")
        if Path(file).is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
            lent.append(target)
    try:
        yield
    finally:
        shutil.rmtree(root / "etc" / "apt")
        kept.rename(root / "etc" / "apt")
        for target in lent:
            with suppress(FileNotFoundError):
                target.unlink()
        with suppress(FileNotFoundError):
            names.unlink()


def _certificates() -> list[str]:
    named = {os.environ.get(name, "") for name in ("PIP_CERT", "SSL_CERT_FILE")}
    return sorted(name for name in named if name)


def make_debian(root: Path) -> None:
    """Debian's smallest set of packages, as its slim images hold; made once."""
    if root.exists():
        return
    tools = root.with_name("debootstrap")
    tools.mkdir(parents=True)
    subprocess.run(["apt-get", "download", "-q", "debootstrap"], cwd=tools, check=True)
    (package,) = tools.glob("*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(tools)], check=True)
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    half = root.with_name("debian.half")
    share = tools / "usr" / "share" / "debootstrap"
    made = subprocess.run(
        [
            str(tools / "usr" / "sbin" / "debootstrap"),
            "--variant=minbase",
            "bookworm",
            str(half),
            listed[0],
        ],
        env={**os.environ, "DEBOOTSTRAP_DIR": str(share)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        message = f"debootstrap: {made.stdout[-3000:]}"
        raise InstructionError(message)
    for path in (half / "var" / "cache" / "apt" / "archives").glob("*.deb"):
        path.unlink()
    for folder in ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists"):
        shutil.rmtree(half / folder, ignore_errors=True)
    (half / "var/lib/apt/lists/partial").mkdir(parents=True, exist_ok=True)
    half.rename(root)


def size_bytes(root: Path) -> int:
    """What the files of a directory take, links counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            stat = Path(folder, name).lstat()
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_size
    return total
