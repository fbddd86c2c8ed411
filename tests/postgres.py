"""A PostgreSQL server for tests; they are skipped where it is not installed."""

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def find_postgres():
    """The folder of PostgreSQL's programs, or None."""
    found = shutil.which("initdb")
    folders = [found and str(Path(found).resolve().parent), *glob.glob("/usr/lib/postgresql/*/bin")]
    return next((folder for folder in folders if folder), None)


@contextlib.contextmanager
def postgres_server():
    """A server in a temporary folder, as another user if this one is root: the command that reads SQL."""
    programs = find_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory() as folder:
        user = None
        if os.getuid() == 0:  # whom PostgreSQL refuses
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
        server = {"user": user and user.pw_uid, "group": user and user.pw_gid, "cwd": folder}
        server |= {"check": True, "stdout": subprocess.DEVNULL}
        data = f"{folder}/data"
        initdb = [f"{programs}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run([*initdb, "-E", "UTF8", "--locale", "C"], **server)
        options = f"-k {folder} -c listen_addresses= -c fsync=off"
        control = [f"{programs}/pg_ctl", "-D", data, "-w", "-l", f"{folder}/log"]
        subprocess.run([*control, "-o", options, "start"], **server)
        command = [f"{programs}/psql", "-h", folder, "-U", "postgres", "-X", "-q", "--csv", "-t"]
        try:
            yield [*command, "-v", "ON_ERROR_STOP=1"]
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run([*control, "-m", "immediate", "stop"], **server)
