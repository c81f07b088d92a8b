"""Spark's `rewrite_data_files` on the tables of the benchmark of compaction, as a peer.

    python -m carbon_pipelines_tests.benchmarks.spark [--legs plain deleted]

Spark is installed into a directory of its own in the cache at the first run: PySpark by pip, the
Iceberg runtime from Maven Central. It needs a Java 17 or 21 (JAVA_HOME, else on PATH); without one
nothing is measured, and that is said. CPU-seconds and peak memory are of its Java process, from the
call to its end, after the session has started; its proofs are none. What belongs here: installing,
asking and measuring. What does not: the tables (``compaction.py``).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

from carbon_pipelines.embedded.downloads import JavaProgram, ensure_program
from carbon_pipelines.embedded.endpoints import EmbeddedAddresses, cache_directory, load_embedded
from carbon_pipelines.embedded.names import (
    ICEBERG_CATALOG,
    ICEBERG_DATABASE,
    LOOPBACK,
    POSTGRES_SUPERUSER,
    S3_REGION,
    WAREHOUSE,
)
from carbon_pipelines_tests.benchmarks import compaction
from carbon_pipelines_tests.benchmarks.stack import running_stack

PYSPARK = "3.5.8"
JARS = JavaProgram(
    "spark-iceberg-1.10.0",
    None,
    (
        "org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.10.0",
        "org.apache.iceberg:iceberg-aws-bundle:1.10.0",
        "org.postgresql:postgresql:42.7.7",
    ),
)
JAVAS = (17, 21)
LEGS = ("plain", "deleted")

CHILD = """
import json, re, sys, time
from pathlib import Path
from pyspark.sql import SparkSession

settings = json.load(sys.stdin)
builder = SparkSession.builder.master("local[2]")
for name, value in settings["conf"].items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
process = Path("/proc") / str(spark._jvm.java.lang.ProcessHandle.current().pid())

def cpu():
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100

spark.sql(f"SELECT count(*) FROM {settings['table']}.files").collect()
start, began = cpu(), time.perf_counter()
done = spark.sql(settings["call"]).collect()[0].asDict()
spent, seconds = cpu() - start, time.perf_counter() - began
peak = int(re.findall(r"VmHWM:\\s+(\\d+) kB", (process / "status").read_text())[0]) // 1024
rows = spark.sql(f"SELECT count(*) AS n FROM {settings['table']}").collect()[0]["n"]
print(json.dumps({"cpu": spent, "seconds": seconds, "peak": peak, "rows": rows, **done}))
spark.stop()
"""


def main() -> None:
    """Install Spark if it is not there, and print a row for each leg."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--legs", nargs="+", choices=LEGS, default=list(LEGS))
    arguments = parser.parse_args()
    java = _java_home()
    if java is None:
        sys.stdout.write(f"Spark is not measured: no Java {JAVAS} here; JAVA_HOME names one.\n")
        return
    cache = cache_directory(os.environ)
    jars = ensure_program(cache, JARS, _say)
    python = _ensure_pyspark(cache / f"pyspark-{PYSPARK}")
    with running_stack() as stack:
        addresses = load_embedded(stack.home)
        assert addresses is not None
        for leg in arguments.legs:
            arguments.leg, arguments.database = leg, f"bench_{uuid.uuid4().hex[:8]}"
            compaction.prepare(stack.endpoints(), arguments)
            told = _run(python, java, _settings(addresses, jars, f"{arguments.database}.{leg}"))
            sys.stdout.write(
                f"{leg:<8} {told['cpu']:6.2f} CPU-s {told['seconds']:6.2f} s {told['peak']:5d} MB  "
                f"{told['rows']:,} rows, {told['rewritten_data_files_count']} files became "
                f"{told['added_data_files_count']}\n"
            )
            sys.stdout.flush()


def _settings(
    addresses: EmbeddedAddresses, jars: tuple[Path, ...], table: str
) -> dict[str, object]:
    lake = f"spark.sql.catalog.{ICEBERG_CATALOG}"  # keeps each catalog's tables by its name
    jdbc = f"jdbc:postgresql://{LOOPBACK}:{addresses.postgres_port}/{ICEBERG_DATABASE}"
    conf = {
        "spark.jars": ",".join(map(str, jars)),
        "spark.ui.enabled": "false",
        "spark.driver.memory": "2g",
        "spark.sql.extensions": (
            "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
        ),
        lake: "org.apache.iceberg.spark.SparkCatalog",
        f"{lake}.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        f"{lake}.uri": jdbc,
        f"{lake}.jdbc.user": POSTGRES_SUPERUSER,
        f"{lake}.jdbc.password": addresses.postgres_password,
        f"{lake}.jdbc.schema-version": "V1",
        f"{lake}.warehouse": WAREHOUSE,
        f"{lake}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        f"{lake}.s3.endpoint": f"http://{LOOPBACK}:{addresses.s3_port}",
        f"{lake}.s3.path-style-access": "true",
        f"{lake}.s3.access-key-id": addresses.s3_access_key,
        f"{lake}.s3.secret-access-key": addresses.s3_secret_key,
        f"{lake}.client.region": S3_REGION,
    }
    options = "map('target-file-size-bytes', '134217728', 'delete-file-threshold', '1')"
    arguments = f"table => '{table}', options => {options}"
    call = f"CALL {ICEBERG_CATALOG}.system.rewrite_data_files({arguments})"
    return {"conf": conf, "call": call, "table": f"{ICEBERG_CATALOG}.{table}"}


def _run(python: Path, java: Path, settings: dict[str, object]) -> dict:
    ran = subprocess.run(
        [python, "-c", CHILD],
        input=json.dumps(settings),
        env={**os.environ, "JAVA_HOME": str(java), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise SystemExit(ran.stderr[-3000:])
    return json.loads(ran.stdout.splitlines()[-1])


def _java_home() -> Path | None:
    """Of a Java that this Spark runs on."""
    named = os.environ.get("JAVA_HOME")
    program = Path(named) / "bin" / "java" if named else Path("java")
    try:
        told = subprocess.run(
            [program, "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"java\.specification\.version = (\d+)", told)
    home = re.search(r"java\.home = (.*)", told)
    if version is None or home is None or int(version[1]) not in JAVAS:
        return None
    return Path(home[1].strip())


def _ensure_pyspark(directory: Path) -> Path:
    """The Python of the environment that has PySpark; made if it is not there."""
    python, whole = directory / "bin" / "python", directory / "installed"
    if not whole.exists():
        _say(f"installs PySpark {PYSPARK} into {directory}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", f"pyspark=={PYSPARK}"]
        subprocess.run(pip, check=True)
        whole.touch()
    return python


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
