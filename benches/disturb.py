#!/usr/bin/env python3
"""What a machine room does to a server: a full disk, a database that is away, a clock that is set.

disturb.py BINARY disk|database|clock... [--seconds 30]

Studies arrive all the time. Afterwards nothing that was acknowledged may be missing and every study must be ranked,
without anybody having touched the server. `disk` mounts a small tmpfs (root), `database` starts a PostgreSQL of its
own, `clock` needs Debian's faketime. What this machine does not allow is skipped, and says so.
"""

import argparse
import glob
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from pydicom import dcmread
from scale_out import ROOT, SAMPLES, Database, Process, Sender, free_port, wait_for

DRAIN_SECONDS = 300
DISK_BYTES = 60 << 20


def environment(**more):
    return dict(os.environ, FIRSTREAD_ADMIN_PASSWORD="a long test password",
                FIRSTREAD_LOG="info,firstread::dicom=warn,sqlx=warn", FIRSTREAD_ANALYSIS__VOLUMETRY="false", **more)


class Lite:
    """SQLite, asked like PostgreSQL."""

    def __init__(self, data):
        self.file = data / "firstread.db"

    def ask(self, sql):
        with sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=20) as database:
            return ["|".join(map(str, row)) for row in database.execute(sql)]

    def number(self, sql):
        return int(self.ask(sql)[0])


def senders_of(server, seconds, samples):
    until = time.monotonic() + seconds
    all_of_them = [Sender(n, [server], until, 4, samples) for n in range(2)]
    for sender in all_of_them:
        sender.start()
    return all_of_them


def judge(name, database, data, senders, server, said):
    for sender in senders:
        sender.join(DRAIN_SECONDS)
    studies = sum(len(s.studies) for s in senders)

    def settled():
        return (database.number("SELECT COUNT(*) FROM study") == studies
                and not database.number("SELECT COUNT(*) FROM study WHERE state = 'received'")
                and not database.number("SELECT COUNT(*) FROM job"))
    took = wait_for(f"{name}: everything is ranked", settled, DRAIN_SECONDS)
    acknowledged = set().union(*(s.acknowledged for s in senders))
    rows = dict(line.split("|") for line in database.ask("SELECT sop_uid, path FROM instance"))
    lost = [uid for uid in acknowledged if uid not in rows or not (data / rows[uid]).is_file()]
    said |= {
        "studies": studies, "objects acknowledged": len(acknowledged), "lost": len(lost),
        "sends refused or broken off, repeated": sum(s.retried for s in senders),
        "states": database.ask("SELECT state, COUNT(*) FROM study GROUP BY state"),
        "ranked s after the last was sent": round(took),
        "the process lives": server.alive(), "ready": server.ready(),
    }
    print(name, json.dumps(said, indent=1), flush=True)
    bad = lost or not server.alive() or not server.ready() or any("failed" in s for s in said["states"])
    return not bad


def disk(binary, folder, seconds, samples):
    data = folder / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(data)])
    if mounted.returncode:
        print("disk: skipped, mounting is not allowed here")
        return True
    try:
        reserve = {"FIRSTREAD_DICOM__DISK_RESERVE_BYTES": str(8 << 20)}
        server = Process("all", "disk", binary, data, environment(**reserve))
        try:
            wait_for("the server starts", server.ready, 60)
            senders = senders_of(server, seconds, samples)
            time.sleep(seconds / 3)
            filler = data / "filler"
            with open(filler, "wb") as file:
                try:
                    while True:
                        file.write(bytes(1 << 20))
                        file.flush()
                except OSError:
                    pass
            free = shutil.disk_usage(data).free
            time.sleep(seconds / 3)
            refused = sum(s.retried for s in senders)
            ready = server.ready()
            filler.unlink()
            said = {"bytes free while full": free, "refused while full": refused, "answered while full": ready}
            good = judge("disk", Lite(data), data, senders, server, said)
            return good and refused > 0
        finally:
            server.child.terminate()
            server.child.wait()
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def database(binary, folder, seconds, samples):
    tools = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not tools:
        print("database: skipped, no PostgreSQL is installed")
        return True
    home, port = folder / "postgres", free_port()
    home.mkdir()
    shutil.chown(home, "nobody", "nogroup")
    os.chmod(folder, 0o755)
    drop = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env", f"HOME={home}"]

    def tool(name, *arguments):
        subprocess.run([*drop, f"{tools[-1]}/{name}", "-D", f"{home}/data", *arguments], check=True, cwd="/",
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1"
    tool("initdb", "-A", "trust", "-U", "postgres")
    tool("pg_ctl", "-w", "-l", f"{home}/log", "-o", options, "start")
    url = f"postgres://postgres@127.0.0.1:{port}/postgres"
    data = folder / "data"
    data.mkdir()
    server = Process("all", "database", binary, data, environment(FIRSTREAD_DATABASE__URL=url))
    try:
        wait_for("the server starts", server.ready, 60)
        senders = senders_of(server, seconds + 30, samples)
        time.sleep(seconds / 3)
        tool("pg_ctl", "-w", "-m", "immediate", "stop")
        time.sleep(15)
        while_away = server.ready()
        time.sleep(15)
        tool("pg_ctl", "-w", "-l", f"{home}/log", "-o", options, "start")
        again = wait_for("the server is ready again", server.ready, 60)
        said = {"ready while it was away": while_away, "ready again after s": round(again, 1)}
        return judge("database", Database(url), data, senders, server, said) and not while_away
    finally:
        server.child.terminate()
        server.child.wait()
        tool("pg_ctl", "-w", "-m", "immediate", "stop")


def clock(binary, folder, seconds, samples):
    library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not library:
        print("clock: skipped, faketime is not installed")
        return True
    good = True
    for hours in (-1, 1):
        data, offset = folder / f"data{hours}", folder / f"offset{hours}"
        data.mkdir()
        offset.write_text("+0\n")
        fake = {"LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1"}
        server = Process("all", f"clock{hours}", binary, data, environment(**fake))
        try:
            wait_for("the server starts", server.ready, 60)
            senders = senders_of(server, seconds, samples)
            time.sleep(seconds / 2)
            offset.write_text(f"{hours * 3600:+}\n")
            good &= judge(f"clock {hours:+} h", Lite(data), data, senders, server, {})
            order = Lite(data).ask("SELECT id, arrived_at FROM study ORDER BY id")
            arrived = [int(line.split("|")[1]) for line in order]
            print("  order of arrival kept:", arrived == sorted(arrived),
                  "; span of arrival times:", (arrived[-1] - arrived[0]) // 1000, "s")
            good &= arrived == sorted(arrived)
        finally:
            server.child.terminate()
            server.child.wait()
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("what", nargs="+", choices=["disk", "database", "clock"])
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    samples = [[dcmread(path) for path in sorted((ROOT / "tests/samples" / name).glob("*.dcm"))] for name in SAMPLES]
    good = True
    for what in arguments.what:
        with tempfile.TemporaryDirectory(prefix=f"disturb-{what}-") as folder:
            folder = pathlib.Path(folder)
            try:
                good &= globals()[what](str(arguments.binary.resolve()), folder, arguments.seconds, samples)
            except SystemExit:
                for log in folder.glob("*.log"):
                    print(f"--- {log.name}\n" + log.read_text(errors="replace")[-3000:], file=sys.stderr)
                raise
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
