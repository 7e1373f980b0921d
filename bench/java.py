"""Programs of one Java file for the benches, with what Maven fetches for them. They need Java 17 and Maven."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_WHOLE = ".whole"


def java_command(program: Path, *options: str) -> list[str]:
    """Return the command that runs a program beside whose file a `pom.xml` says what it needs, which is fetched once.

    Raises SystemExit where Java or Maven is missing.
    """
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or maven is None:
        raise SystemExit(f"{program.name} needs Java 17 and Maven")
    jars = ROOT / ".tools" / program.stem
    if not (jars / _WHOLE).exists():
        fetch = [maven, "-q", "-B", "-f", str(program.with_name("pom.xml")), "dependency:copy-dependencies"]
        subprocess.run([*fetch, f"-DoutputDirectory={jars}", "-DincludeScope=runtime"], check=True)
        (jars / _WHOLE).touch()
    return [java, *options, "-cp", f"{jars}/*", str(program)]
