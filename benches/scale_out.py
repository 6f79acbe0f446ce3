#!/usr/bin/env python3
"""Several processes on one PostgreSQL and one folder, killed one after the other while studies arrive.

scale_out.py BINARY POSTGRES_URL [--receivers 3] [--workers 3] [--web 2] [--seconds 300] [--kill-every 10]

POSTGRES_URL names an empty database. Senders send copies of a sample study, each image to whichever
receiver answers, and again elsewhere what was not acknowledged. Every --kill-every seconds one process,
in turn, gets SIGKILL and is started again. At the end nothing that was acknowledged may be missing, every
study must be ranked, and no alert may have been told under two keys. Needs Python with pynetdicom, and psql.
"""

import argparse
import collections
import copy
import http.server
import itertools
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage

ROOT = pathlib.Path(__file__).resolve().parent.parent
UID = "1.2.826.0.1.3680043.10.8"
SAMPLES = ["one", "two", "three"]
DRAIN_SECONDS = 240


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Hook(http.server.ThreadingHTTPServer):
    """Takes alerts and remembers under which keys they came."""

    def __init__(self):
        self.keys, self.lock = collections.Counter(), threading.Lock()
        super().__init__(("127.0.0.1", 0), Taker)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        with self.server.lock:
            self.server.keys[self.headers.get("idempotency-key")] += 1
        # a moment in which a kill leaves an alert sent and not recorded
        time.sleep(0.05)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Process:
    """One process; its ports stay when it is started again."""

    def __init__(self, role, number, binary, data, environment):
        self.name, self.role = f"{role}-{number}", role
        self.http, self.dicom = free_port(), free_port()
        self.command = [binary, "serve", "--role", role, "--data", str(data),
                        "--http", f"127.0.0.1:{self.http}", "--dicom", f"127.0.0.1:{self.dicom}"]
        self.environment, self.log = environment, open(data.parent / f"{self.name}.log", "ab")
        self.kills = 0
        self.start()

    def start(self):
        self.child = subprocess.Popen(self.command, env=self.environment, stderr=self.log,
                                      stdout=self.log, start_new_session=True)

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.kills += 1

    def alive(self):
        return self.child.poll() is None


def wait_for(what, done, seconds):
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > seconds:
            sys.exit(f"waited {seconds} s in vain: {what}")
        time.sleep(0.2)
    return time.monotonic() - began


class Sender(threading.Thread):
    """Sends studies; what one receiver does not acknowledge goes to the next."""

    def __init__(self, number, receivers, until, gap, samples):
        super().__init__(daemon=True)
        self.number, self.receivers, self.until, self.gap = number, receivers, until, gap
        self.samples = samples
        self.studies, self.acknowledged, self.retried = [], set(), 0

    def run(self):
        for count in itertools.count():
            if time.monotonic() > self.until:
                return
            study = f"{UID}.{self.number}.{count}"
            sample = self.samples[count % len(self.samples)]
            self.studies.append(study)
            self.send([self.image(study, n, source) for n, source in enumerate(sample)])
            time.sleep(self.gap * random.uniform(0.5, 1.5))

    def image(self, study, number, source):
        image = copy.deepcopy(source)
        series = source.get("SeriesNumber") or 1
        image.StudyInstanceUID = study
        image.SeriesInstanceUID = f"{study}.{series}"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{study}.{series}.{number}"
        image.PatientID = study[-16:]
        image.AccessionNumber = ""
        return image

    def send(self, images):
        waiting = collections.deque(images)
        while waiting:
            receiver = random.choice(self.receivers)
            entity = AE("BENCH")
            entity.add_requested_context(MRImageStorage, JPEG2000Lossless)
            entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
            entity.connection_timeout = 2
            association = entity.associate("127.0.0.1", receiver.dicom, ae_title="FIRSTREAD")
            # a part only, so that the images of a study reach several receivers
            share = max(10, len(waiting) // 2)
            while association.is_established and waiting and share:
                try:
                    status = association.send_c_store(waiting[0])
                except RuntimeError:
                    break
                if status and status.Status == 0:
                    self.acknowledged.add(str(waiting.popleft().SOPInstanceUID))
                    share -= 1
                else:
                    self.retried += 1
                    break
            if association.is_established:
                association.release()
            else:
                self.retried += 1
                time.sleep(0.3)


class Database:
    def __init__(self, url):
        self.url = url

    def ask(self, sql):
        out = subprocess.run(["psql", self.url, "-qAtc", sql], capture_output=True, text=True, check=True)
        return out.stdout.split("\n")[:-1]

    def number(self, sql):
        return int(self.ask(sql)[0])


def settings(arguments, hook):
    destination = f'{{name="room", channel="webhook", to="http://127.0.0.1:{hook.server_port}/"}}'
    return dict(
        os.environ,
        FIRSTREAD_DATABASE__URL=arguments.postgres,
        FIRSTREAD_DATABASE__CONNECTIONS_MAX="8",
        FIRSTREAD_ADMIN_PASSWORD="a long test password",
        FIRSTREAD_LOG="warn,firstread=info,firstread::dicom=warn",
        FIRSTREAD_ANALYSIS__VOLUMETRY="false",
        FIRSTREAD_ANALYSIS__THREADS="1",
        # every screened study alerts, each by itself
        FIRSTREAD_TRIAGE__ELEVATED_FROM_MINUTES="0.0",
        FIRSTREAD_TRIAGE__URGENT_FROM_MINUTES="0.0",
        FIRSTREAD_ALERTS__BANDS='["urgent", "critical"]',
        FIRSTREAD_ALERTS__BASE_URL="https://firstread.hospital.example",
        FIRSTREAD_ALERTS__DESTINATIONS=f"[{destination}]",
        FIRSTREAD_ALERTS__STEPS='[{after_minutes=0, to=["room"]}]',
        FIRSTREAD_ALERTS__STORM_MESSAGES="1000",
    )


def kill_in_turn(processes, until, every):
    victims = itertools.cycle(sorted(processes, key=lambda p: p.name.split("-")[::-1]))
    while time.monotonic() + every < until:
        time.sleep(every)
        victim = next(victims)
        victim.kill()
        time.sleep(min(1, every / 4))
        victim.start()


def check(database, data, senders, hook):
    acknowledged = set().union(*(s.acknowledged for s in senders))
    studies = [study for s in senders for study in s.studies]
    rows = dict(line.split("|") for line in database.ask("SELECT sop_uid, path FROM instance"))
    lost = [uid for uid in acknowledged if uid not in rows or not (data / rows[uid]).is_file()]
    unranked = database.number("SELECT COUNT(*) FROM study WHERE state NOT IN ('screened', 'not_analysed')")
    states = database.ask("SELECT state, COUNT(*) FROM study GROUP BY state ORDER BY state")
    alerts = database.number("SELECT COUNT(*) FROM alert")
    twice = database.number(
        "SELECT COUNT(*) FROM (SELECT alert_id FROM delivery WHERE kind = 'alert' "
        "GROUP BY alert_id, destination, step HAVING COUNT(DISTINCT dedup_key) > 1) d")
    told = set(database.ask("SELECT dedup_key FROM delivery WHERE kind = 'alert' AND state = 'delivered'"))
    strange = set(hook.keys) - told
    left = database.number("SELECT COUNT(*) FROM job")
    result = {
        "studies sent": len(studies),
        "studies recorded": database.number("SELECT COUNT(*) FROM study"),
        "objects acknowledged": len(acknowledged),
        "acknowledged objects lost": len(lost),
        "studies unranked": unranked,
        "states": states,
        "jobs left": left,
        "alerts raised": alerts,
        "alerts told": len(told),
        "alerts told under two keys": twice,
        "keys that stand for no delivered alert": len(strange),
        "repeats under the same key": sum(n - 1 for n in hook.keys.values()),
    }
    wrong = (lost or unranked or twice or strange or left or len(told) != alerts
             or result["studies recorded"] != len(studies) or not studies)
    return result, not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("postgres")
    parser.add_argument("--receivers", type=int, default=3)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--web", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kill-every", type=float, default=10)
    parser.add_argument("--senders", type=int, default=3)
    parser.add_argument("--gap", type=float, default=10, help="seconds between the studies of one sender")
    arguments = parser.parse_args()
    database, hook = Database(arguments.postgres), Hook()
    samples = [[dcmread(path) for path in sorted((ROOT / "tests/samples" / name).glob("*.dcm"))]
               for name in SAMPLES]
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        data = pathlib.Path(folder) / "data"
        data.mkdir()
        environment = settings(arguments, hook)
        counts = {"receiver": arguments.receivers, "worker": arguments.workers, "web": arguments.web}
        processes = [Process(role, n, str(arguments.binary.resolve()), data, environment)
                     for role, count in counts.items() for n in range(count)]
        try:
            def started():
                ended = [p.name for p in processes if not p.alive()]
                return sys.exit(f"ended while starting: {ended}") if ended else all(p.ready() for p in processes)
            start = wait_for("all start", started, 120)
            print(f"{len(processes)} processes ready after {start:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
            until = time.monotonic() + arguments.seconds
            receivers = [p for p in processes if p.role == "receiver"]
            senders = [Sender(n, receivers, until, arguments.gap, samples) for n in range(arguments.senders)]
            for sender in senders:
                sender.start()
            kill_in_turn(processes, until, arguments.kill_every)
            for sender in senders:
                sender.join(arguments.seconds + 120)
            settled = "SELECT COUNT(*) FROM job", \
                "SELECT COUNT(*) FROM study WHERE state = 'received'", \
                "SELECT COUNT(*) FROM delivery WHERE state IN ('waiting', 'sending')"
            drained = wait_for("everything is ranked and told",
                               lambda: not any(database.number(sql) for sql in settled), DRAIN_SECONDS)
            result, good = check(database, data, senders, hook)
            result["drained after"] = f"{drained:.0f} s"
            result["kills"] = {p.name: p.kills for p in processes}
            result["sends repeated elsewhere"] = sum(s.retried for s in senders)
            died = [p.name for p in processes if not p.alive()]
            result["ended by themselves"] = died
            print(json.dumps(result, indent=1))
            failed = not good or died
        except SystemExit:
            failed = True
            raise
        finally:
            for process in processes:
                if process.alive():
                    process.child.terminate()
            for process in processes:
                process.child.wait()
            if sys.exc_info()[0] or failed:
                for log in sorted(pathlib.Path(folder).glob("*.log")):
                    print(f"--- {log.name}\n" + log.read_text(errors="replace")[-3000:], file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
