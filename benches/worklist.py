#!/usr/bin/env python3
"""How fast the list is with many studies, while studies arrive and browsers listen.

worklist.py BINARY [--database URL] [--open N] [--read N] [--browsers N] [--requests N] [--orthanc STUDIES] [--markdown FILE]

Without --database SQLite in a temporary folder; a PostgreSQL URL must name an empty database (needs psql).
The rows are written straight into the tables the server made: two series of 20 images, a screening with pictures and
findings for each open study; one image for each that was read.
While pages are asked for, one small study arrives every 12 s by storescu, and every browser holds a
live connection and asks for the list again when it is told of a change, at most twice a second, as the
page's script does. Times are whole HTTP requests over loopback, one at a time. --orthanc fills an Orthanc
with as many studies of one image and asks its /tools/find for one page of them, beside ours in the same run.
Needs dcmtk, Python with numpy and pydicom, and Orthanc for the last.
"""

import argparse
import http.cookiejar
import json
import os
import pathlib
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from receive import free_port  # noqa: E402

PASSWORD = "a password for this bench"
DAY_MS = 86_400_000
ARRIVAL_SECONDS = 12
BANDS = [("routine", 0.8), ("elevated", 0.12), ("urgent", 0.06), ("critical", 0.02)]


def study_row(number, is_open, now, draw):
    band = draw.choices([b for b, _ in BANDS], [w for _, w in BANDS])[0]
    head_start = draw.randrange(240) * 60_000
    arrived = now - draw.randrange((14 if is_open else 400) * DAY_MS)
    minutes = head_start / 60_000
    found = [{"code": code, "group": code, "text": f"{code.replace('_', ' ')} above the 99th percentile", "minutes": 10, "critical": False}
             for code in ("lateral_ventricles_large", "lesion_load_large")]
    evidence = {"order": "routine", "screening": {"p_calibrated": round(draw.random(), 6), "prevalence_train": 0.5}, "not_analysed": None,
                "findings": found, "site_rules": []}
    ranking = {"head_start_ms": head_start, "order_minutes": 0, "ai_minutes": minutes, "findings_minutes": 0,
               "site_rules_minutes": 0, "p_abnormal": 0.1, "band": band,
               "reasons": [{"code": "screening", "text": "screening", "minutes": minutes}]
               + [{k: f[k] for k in ("code", "text", "minutes")} for f in found]}
    return {
        "id": number, "study_uid": f"1.2.826.0.1.3680043.10.7.{number}", "patient_id": f"B{number}",
        "patient_name": (name := f"BENCH{draw.randrange(5000)}^ANNA"), "sex": "F", "age_years": 60.5, "study_date": "20261101",
        "accession": f"A{number}", "description": "MR Brain", "referrer": (referrer := f"REF{draw.randrange(200)}^DR"), "modality": "MR",
        "body_part": draw.choice(["BRAIN", "HEAD"]), "institution": draw.choice(["North", "South", "West"]),
        # as src/store/search.rs writes it
        "search_text": f"{name}\nB{number}\nA{number}\nMR Brain\n{referrer}".lower().replace("^", " "),
        "arrived_at": arrived, "last_received_at": arrived, "reading": "open" if is_open else "read",
        "state": "screened", "volumetry": "not_done", "order_priority": "routine", "evidence_json": json.dumps(evidence),
        "ranking_json": json.dumps(ranking), "settings_version": 1, "head_start_ms": head_start,
        "effective_arrival_ms": arrived - head_start, "band": band, "highest_band": band, "p_abnormal": 0.1,
        "screened_at": arrived + 9000, "changed_at": arrived + 9000, "looked_at": "T1",
    }


def tables(open_studies, read_studies):
    """Rows of each table, made one by one."""
    now, draw = int(time.time() * 1000), random.Random(1)
    first = 1_000_000
    studies = (study_row(first + n, n < open_studies, now, draw) for n in range(open_studies + read_studies))
    # studies, and how many series and images of each they have
    numbers = [(first + n, *((2, 20) if n < open_studies else (1, 1))) for n in range(open_studies + read_studies)]
    uid = "1.2.826.0.1.3680043.10.7"
    classes = {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"}
    result = json.dumps({"contrast": "T1", "p_logit": 0.1, "p_calibrated": 0.1, "prevalence_train": 0.5, "head_logit": 3.0, "findings": [],
                         "focus_mm": None, "volumes": [], "pictures": ["axial", "coronal", "sagittal"], "timings_ms": {}})
    series = ({"id": n * 2 + s, "study_id": n, "series_uid": f"{uid}.{n}.{s + 1}", **classes, "modality": "MR", "number": s + 1,
               "header_json": "{}", "own_result": False, "first_received_at": now, "last_received_at": now, "quiet_ms": 2000,
               "settled_images": images} for n, of_study, images in numbers for s in range(of_study))
    instances = ({"id": (n * 2 + s) * 20 + i, "series_id": n * 2 + s, "sop_uid": f"{uid}.{n}.{s + 1}.{i + 1}", **classes,
                  "transfer_syntax_uid": "1.2.840.10008.1.2.1", "frames": 1, "digest": "0" * 64, "size_bytes": 1,
                  "path": f"none/{n}", "received_at": now} for n, of_study, images in numbers for s in range(of_study) for i in range(images))
    screenings = ({"id": n, "study_id": n, "series_uid": f"{uid}.{n}.1", "input": "", "outcome": "screened", "partial_volume": False, "model": "bench",
                   "provider": "cpu", "result_json": result, "created_at": now} for n, *_ in numbers[:open_studies])
    return [("study", studies), ("series", series), ("instance", instances), ("screening", screenings)]


def fill(url, open_studies, read_studies):
    for table, rows in tables(open_studies, read_studies):
        rows = iter(rows)
        first = next(rows)
        columns = list(first)
        if url.startswith("sqlite"):
            import sqlite3
            connection = sqlite3.connect(url.removeprefix("sqlite://").split("?")[0])
            marks = ", ".join("?" * len(columns))
            statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
            connection.execute(statement, list(first.values()))
            connection.executemany(statement, (list(row.values()) for row in rows))
            connection.commit()
            connection.close()
            continue
        copy = subprocess.Popen(["psql", url, "-q", "-c", f"COPY {table} ({', '.join(columns)}) FROM STDIN"],
                                stdin=subprocess.PIPE, text=True)
        line = lambda row: "\t".join("\\N" if v is None else str(v).replace("\\", "\\\\").replace("\n", "\\n") for v in row.values()) + "\n"
        copy.stdin.write(line(first))
        for row in rows:
            copy.stdin.write(line(row))
        copy.stdin.close()
        if copy.wait():
            sys.exit(f"could not fill {table}")
    if not url.startswith("sqlite"):
        subprocess.run(["psql", url, "-q", "-c", "VACUUM ANALYZE"], check=True)


class Server:
    def __init__(self, binary, folder, url):
        self.binary, self.folder = pathlib.Path(binary).resolve(), folder
        self.http, self.dicom = free_port(), free_port()
        self.environment = dict(os.environ, FIRSTREAD_ADMIN_PASSWORD=PASSWORD, FIRSTREAD_DATABASE__URL=url)

    def __enter__(self):
        self.log = open(self.folder / "server.log", "ab")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--data", self.folder / "data", "--http", f"127.0.0.1:{self.http}",
             "--dicom", f"127.0.0.1:{self.dicom}"], env=self.environment, stdout=self.log, stderr=self.log)
        for _ in range(150):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=2)
                return self
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.2)
        sys.exit("the server did not start:\n" + (self.folder / "server.log").read_text()[-2000:])

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def token(self, role):
        made = subprocess.run([self.binary, "token", "create", "bench-" + role, "--role", role, "--data", self.folder / "data"],
                              env=self.environment, capture_output=True, text=True)
        if made.returncode:
            sys.exit(f"could not make a token: {made.stderr}")
        return made.stdout.split()[-1]

    def browser(self):
        """An opener that is signed in."""
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        address = f"http://127.0.0.1:{self.http}"
        form = opener.open(address + "/login").read().decode()
        token = re.search(r'name="form_token" value="([^"]*)"', form).group(1)
        fields = {"form_token": token, "next": "/worklist", "name": "admin", "password": PASSWORD}
        opener.open(address + "/login", urllib.parse.urlencode(fields).encode()).read()
        opener.addheaders.append(("Accept-Encoding", "identity"))
        return lambda path: opener.open(address + path if isinstance(path, str) else path, timeout=30)


def arrivals(server, folder, stop):
    """One study of eight images every ARRIVAL_SECONDS."""
    import pydicom
    sources = sorted((pathlib.Path(__file__).parent.parent / "tests/samples/phantom").rglob("*.dcm"))[:8]
    number = 0
    while not stop.wait(ARRIVAL_SECONDS if number else 0):
        number += 1
        out = folder / f"arrival-{number}"
        out.mkdir()
        for index, source in enumerate(sources):
            data = pydicom.dcmread(source)
            base = f"1.2.826.0.1.3680043.10.8.{os.getpid()}.{number}"
            data.StudyInstanceUID, data.SeriesInstanceUID = base, base + ".1"
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{base}.1.{index + 1}"
            data.PatientID = f"ARRIVAL{number}"
            data.save_as(out / source.name)
        config = pathlib.Path(__file__).parent.parent / "tests/common/storescu.cfg"
        subprocess.run(["storescu", "-xf", config, "All", "-aec", "FIRSTREAD", "127.0.0.1", str(server.dicom), "+sd", out],
                       capture_output=True)


def listen(ask, heard):
    """A browser: notes when each study was named, and asks for the list again."""
    asked = 0.0
    try:
        for line in ask("/events"):
            if not line.startswith(b"data:"):
                continue
            heard.append((time.monotonic(), line.decode()))
            if time.monotonic() - asked >= 0.5:
                asked = time.monotonic()
                ask("/worklist?fragment=1").read()
    except OSError:
        pass  # the server has stopped


def timed(ask, paths, requests):
    """Milliseconds of each request, the paths taking turns."""
    times = {name: [] for name in paths}
    for _ in range(requests):
        for name, path in paths.items():
            began = time.perf_counter()
            ask(path).read()
            times[name].append((time.perf_counter() - began) * 1000)
    return times


def told(heard, uid, began):
    """Seconds until every browser was told of a study; 10 where one was not."""
    at = []
    while len(at) < len(heard) and time.monotonic() - began < 10:
        time.sleep(0.01)
        at = [next((at for at, text in list(h) if at >= began and (uid in text or text.strip().endswith('{}'))), None) for h in heard]
        at = [a for a in at if a]
    return max(at) - began if len(at) == len(heard) else 10.0


def claims(server, token, heard, count):
    """Seconds until every browser was told of a claim."""
    slowest = []
    for number in range(count):
        uid = f"1.2.826.0.1.3680043.10.7.{1_000_000 + number * 11}"
        request = urllib.request.Request(f"http://127.0.0.1:{server.http}/api/v1/studies/{uid}/claim", method="POST",
                                         headers={"Authorization": f"Bearer {token}"})
        began = time.monotonic()
        urllib.request.urlopen(request).read()
        slowest.append(told(heard, uid, began))
    return slowest


def apply(server, ask):
    """Seconds until other ranking settings are in force for every open study."""
    page = ask("/settings?k_minutes_per_logit=20").read().decode()
    form = page[page.index('<form class="stacked narrow" method="post" action="/settings">'):]
    fields = dict(re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form[:form.index("</form>")]))
    fields["note"] = "bench"
    began = time.monotonic()
    request = urllib.request.Request(f"http://127.0.0.1:{server.http}/settings", urllib.parse.urlencode(fields).encode())
    ask(request).read()
    return time.monotonic() - began


def reranks(server, heard, count):
    """Seconds until every browser was told of a changed order priority."""
    token, slowest = server.token("integration"), []
    for number in range(count):
        study = 1_000_000 + number * 7
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.http}/api/v1/orders/A{study}", method="PUT", data=b'{"priority": "asap"}',
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": f"bench-{number}"})
        began, uid = time.monotonic(), f"1.2.826.0.1.3680043.10.7.{study}"
        urllib.request.urlopen(request).read()
        slowest.append(told(heard, uid, began))
    return slowest


class Orthanc:
    def __init__(self, folder, studies):
        self.folder, self.studies = folder / "orthanc", studies
        self.http, self.dicom = free_port(), free_port()

    def __enter__(self):
        self.folder.mkdir()
        (self.folder / "orthanc.json").write_text(json.dumps({
            "Name": "bench", "StorageDirectory": str(self.folder / "s"), "IndexDirectory": str(self.folder / "s"),
            "DicomAet": "ORTHANC", "DicomPort": self.dicom, "HttpPort": self.http, "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "SynchronousCMove": True}))
        self.process = subprocess.Popen([shutil.which("Orthanc") or "/usr/sbin/Orthanc", self.folder / "orthanc.json"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.http}/system")
                break
            except OSError:
                time.sleep(0.2)
        self.fill()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)

    def fill(self):
        import io

        import pydicom
        source = sorted((pathlib.Path(__file__).parent.parent / "tests/samples/phantom").rglob("*.dcm"))[0]
        data = pydicom.dcmread(source)
        connection = __import__("http.client").client.HTTPConnection("127.0.0.1", self.http)
        data.Rows = data.Columns = 1
        for number in range(self.studies):
            base = f"1.2.826.0.1.3680043.10.9.{number}"
            data.StudyInstanceUID, data.SeriesInstanceUID = base, base + ".1"
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = base + ".1.1"
            data.PatientID, data.PatientName = f"B{number}", f"BENCH{number % 5000}^ANNA"
            out = io.BytesIO()
            data.save_as(out)
            connection.request("POST", "/instances", out.getvalue())
            connection.getresponse().read()

    def ask(self, query):
        body = json.dumps({"Level": "Study", "Expand": True, "Query": query, "Limit": 50, "Since": 0}).encode()
        return urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.http}/tools/find", data=body))


def line(name, times, limit=None):
    ordered = sorted(times)
    p95 = ordered[int(len(ordered) * 0.95)]
    verdict = "" if limit is None else ("met" if p95 <= limit else "NOT MET")
    return f"| {name} | {statistics.median(ordered):.1f} ms | {p95:.1f} ms | {ordered[-1]:.1f} ms | {verdict} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--database")
    parser.add_argument("--open", type=int, default=10_000)
    parser.add_argument("--read", type=int, default=200_000)
    parser.add_argument("--browsers", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--orthanc", type=int, default=0)
    parser.add_argument("--markdown", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="worklist-") as folder:
        folder = pathlib.Path(folder)
        (folder / "data").mkdir()
        url = arguments.database or f"sqlite://{folder}/data/firstread.db?mode=rwc"
        with Server(arguments.binary, folder, url):
            pass
        fill(url, arguments.open, arguments.read)
        lines = [f"{os.cpu_count()} cores, {'SQLite' if url.startswith('sqlite') else 'PostgreSQL'}, {arguments.open} open and "
                 f"{arguments.read} read studies, {arguments.browsers} browsers, a study every {ARRIVAL_SECONDS} s, {arguments.requests} requests each",
                 "", "| what | median | p95 | longest | at most 50 ms at p95 |", "|---|---|---|---|---|"]
        with Server(arguments.binary, folder, url) as server:
            stop, heard = threading.Event(), []
            threading.Thread(target=arrivals, args=(server, folder, stop), daemon=True).start()
            ask = server.browser()
            for _ in range(arguments.browsers):
                heard.append([])
                threading.Thread(target=listen, args=(ask, heard[-1]), daemon=True).start()
            last = -(-arguments.open // 50)
            pages = {"first page": "/worklist", "filtered by band": "/worklist?band=urgent",
                     "filtered by referrer": "/worklist?referrer=REF7%5EDR", "filtered by text": "/worklist?q=bench12",
                     "filtered by all at once": "/worklist?band=routine&state=screened&modality=MR&region=HEAD&location=North&assigned=unassigned&q=anna",
                     "sorted by patient": "/worklist?sort=patient", f"page {last}": f"/worklist?page={last}"}
            timed(ask, pages, 5)
            for name, times in timed(ask, pages, arguments.requests).items():
                lines.append(line(name, times, 50))
            token = server.token("reader")
            api = lambda path: urllib.request.urlopen(urllib.request.Request(
                f"http://127.0.0.1:{server.http}{path}", headers={"Authorization": f"Bearer {token}"}))
            for name, times in timed(api, {"API, first page": "/api/v1/worklist"}, arguments.requests).items():
                lines.append(line(name, times, 50))
            slowest = reranks(server, heard, 20)
            lines += ["", f"A changed order priority was told to all {arguments.browsers} browsers within {statistics.median(slowest):.2f} s "
                          f"(median of 20), at most {max(slowest):.2f} s ({'met' if max(slowest) <= 1 else 'NOT MET'}: 1 s)."]
            slowest = claims(server, token, heard, 20)
            lines += [f"A claim was told to all of them within {statistics.median(slowest):.2f} s (median of 20), at most "
                      f"{max(slowest):.2f} s ({'met' if max(slowest) <= 1 else 'NOT MET'}: 1 s)."]
            lines += [f"Applying other ranking settings gave {arguments.open} open studies their new place in {apply(server, ask):.1f} s."]
            stop.set()
        if arguments.orthanc:
            with Orthanc(folder, arguments.orthanc) as orthanc:
                queries = {f"Orthanc /tools/find, 50 of {arguments.orthanc}": {},
                           "Orthanc /tools/find by name": {"PatientName": "BENCH12*"}}
                lines += ["", "| Orthanc, same run | median | p95 | longest | |", "|---|---|---|---|---|"]
                for name, times in timed(orthanc.ask, queries, 20).items():
                    lines.append(line(name, times))
        text = "\n".join(lines)
        print(text)
        if arguments.markdown:
            arguments.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
