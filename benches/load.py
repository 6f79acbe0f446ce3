#!/usr/bin/env python3
"""A hospital's load on one process: studies of 200 images by 16 senders, networks on; then reception alone.

load.py BINARY [--an-hour 300] [--minutes 10] [--receive-minutes 1] [--work DIR] [--markdown FILE]

Sends copies of a synthetic head, 200 slices of 132 kB each, every tenth as a STAT order, each image by image for as
long as keeps all senders busy (3 minutes at 300 studies an hour). Measured are: objects
lost or refused, the time from the first acknowledged image to the study standing in the list, and whether
each job that is begun is that of the study standing highest among those that wait. Then ten times as much for a while
with series that no network looks at. Needs dcmtk and Python with numpy, scipy, nibabel, pydicom and pynetdicom.
"""

import argparse
import copy
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import nibabel
import numpy
import scipy.ndimage
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage

ROOT = pathlib.Path(__file__).resolve().parent.parent
UID = "1.2.826.0.1.3680043.10.9"
SLICES, ROWS = 200, 256
SENDERS = 16
LISTED_P95_SECONDS = 2.0
DRAIN_SECONDS = 5400


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def head():
    """The golden head on a grid of 200 axial slices of 256 x 256."""
    image = nibabel.as_closest_canonical(nibabel.load(ROOT / "tests/samples/golden_head.nii.gz"))
    volume = numpy.asarray(image.dataobj, dtype=numpy.float32)
    spacing = numpy.array(image.header.get_zooms()[:3]) * volume.shape / numpy.array([ROWS, ROWS, SLICES])
    factors = numpy.array([ROWS, ROWS, SLICES]) / volume.shape
    volume = scipy.ndimage.zoom(volume, factors, order=1)
    volume = numpy.clip(volume / numpy.percentile(volume, 99.9), 0, 1) * 3000
    return volume.astype(numpy.uint16), spacing


def slices(volume, spacing, looked_at=True):
    made = []
    for number in range(SLICES):
        data = Dataset()
        data.SOPClassUID = MRImageStorage
        data.Modality = "MR"
        data.StudyDescription = "MR Brain"
        data.SeriesDescription = "t1_mprage_tra" if looked_at else "localizer"
        data.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"] if looked_at else ["DERIVED", "SECONDARY", "LOCALIZER"]
        data.ScanningSequence, data.SequenceVariant, data.MRAcquisitionType = "GR", "SK", "3D"
        data.RepetitionTime, data.EchoTime, data.InversionTime = 2300, 2.9, 900
        data.BodyPartExamined, data.PatientSex, data.PatientAge = "BRAIN", "F", "054Y"
        data.StudyDate = "20261120"
        data.SeriesNumber, data.InstanceNumber = 2, number + 1
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        x, y, z = spacing
        data.ImagePositionPatient = [0, 0, round(number * z, 4)]
        data.PixelSpacing, data.SliceThickness = [round(y, 4), round(x, 4)], round(z, 4)
        data.Rows = data.Columns = ROWS
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelData = numpy.ascontiguousarray(volume[:, ::-1, number].T).tobytes()
        made.append(data)
    return made


class Server:
    def __init__(self, binary, folder):
        self.http, self.dicom, self.data = free_port(), free_port(), folder / "data"
        self.log = open(folder / "serve.log", "ab")
        self.child = subprocess.Popen(
            [binary, "serve", "--data", str(self.data), "--http", f"127.0.0.1:{self.http}",
             "--dicom", f"127.0.0.1:{self.dicom}"],
            stdout=self.log, stderr=self.log,
            env=dict(os.environ, FIRSTREAD_ADMIN_PASSWORD="a long test password",
                     FIRSTREAD_LOG="info,firstread::dicom=warn"))
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=2).close()
                break
            except (urllib.error.URLError, OSError):
                if self.child.poll() is not None:
                    sys.exit(pathlib.Path(self.log.name).read_text()[-2000:])
                time.sleep(0.2)
        made = subprocess.run([binary, "token", "create", "bench", "--role", "reader", "--data", str(self.data)],
                              capture_output=True, text=True, check=True)
        self.token = made.stdout.strip()

    def listed(self, uid):
        ask = urllib.request.Request(f"http://127.0.0.1:{self.http}/api/v1/studies/{uid}",
                                     headers={"authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(ask, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            return None

    def database(self):
        return sqlite3.connect(f"file:{self.data}/firstread.db?mode=ro", uri=True, timeout=20)


class Results:
    def __init__(self):
        self.lock = threading.Lock()
        self.sent = self.failed = 0
        self.why = {}
        self.acknowledged, self.listed_seconds, self.send_seconds = set(), [], []


def keep_still(association):
    """Keeps pynetdicom's own thread from taking an answer away from the sender.

    It looks for messages of the peer unless it is paused, and says that it is paused just before it looks whether
    it is: an answer that comes within that moment is taken for a request and dropped, and the sender waits for
    it in vain (seen with 3 associations of 50; ours had answered, and the socket was read empty).
    """
    association._reactor_checkpoint.clear()
    association._reactor_checkpoint.set = lambda: None
    time.sleep(0.05)


def let_go(association):
    del association._reactor_checkpoint.set
    association._reactor_checkpoint.set()


def send_study(server, sample, uid, stat, takes, results):
    """Sends as a scanner does, image by image over `takes` seconds."""
    entity = AE("BENCH")
    entity.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", server.dicom, ae_title="FIRSTREAD")
    keep_still(association)
    began, listening = time.monotonic(), None
    for number, source in enumerate(sample):
        time.sleep(max(0, began + number * takes / len(sample) - time.monotonic()))
        image = copy.copy(source)
        image._dict = dict(source._dict)
        image.StudyInstanceUID, image.SeriesInstanceUID = uid, f"{uid}.1"
        image.SOPInstanceUID = f"{uid}.1.{number}"
        image.PatientID = image.AccessionNumber = uid[-14:]
        if stat:
            image.RequestedProcedurePriority = "STAT"
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        status = association.send_c_store(image) if association.is_established else None
        with results.lock:
            results.sent += 1
            if status and status.Status == 0:
                results.acknowledged.add(str(image.SOPInstanceUID))
            else:
                results.failed += 1
                why = f"0x{status.Status:04X}" if status and "Status" in status else "no answer"
                results.why[why] = results.why.get(why, 0) + 1
        if listening is None and status and status.Status == 0:
            listening = threading.Thread(target=wait_listed, args=(server, uid, results))
            listening.start()
    if association.is_established:
        let_go(association)
        association.release()
    with results.lock:
        results.send_seconds.append(time.monotonic() - began)
    if listening:
        listening.join()


def wait_listed(server, uid, results):
    began = time.monotonic()
    while server.listed(uid) is None:
        time.sleep(0.05)
    with results.lock:
        results.listed_seconds.append(time.monotonic() - began)


class Watcher(threading.Thread):
    """Looks whether each job that is begun is of the study that stood highest of those that waited."""

    SQL = ("SELECT j.kind, s.id, j.leased_until IS NOT NULL, s.effective_arrival_ms FROM job j "
           "JOIN study s ON s.id = j.study_id WHERE j.kind IN ('screen', 'volumetry') AND j.run_after <= ?")

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.stop = server, threading.Event()
        self.begun, self.out_of_order, self.most_waiting = {}, 0, {}

    def run(self):
        database, waited, running = self.server.database(), {}, set()
        while not self.stop.is_set():
            rows = database.execute(self.SQL, (int(time.time() * 1000),)).fetchall()
            now = {(kind, study): place for kind, study, leased, place in rows if not leased}
            leased = {(kind, study): place for kind, study, leased, place in rows if leased}
            for (kind, study), place in leased.items():
                if (kind, study) in running:
                    continue
                self.begun[kind] = self.begun.get(kind, 0) + 1
                # what waited at the look before and waits still was passed over
                over = [p for (k, s), p in now.items() if k == kind and (k, s) in waited and p < place]
                self.out_of_order += bool(over)
            for kind in {k for k, _ in now}:
                n = sum(k == kind for k, _ in now)
                self.most_waiting[kind] = max(self.most_waiting.get(kind, 0), n)
            waited, running = now, set(leased)
            time.sleep(0.1)


def load(server, arguments):
    volume, spacing = head()
    generator = numpy.random.default_rng(1)
    noisy = [slices((volume + generator.integers(0, 40 * (n + 1), volume.shape, dtype=numpy.uint16))
                    .astype(numpy.uint16), spacing) for n in range(2)]
    count = max(1, round(arguments.an_hour * arguments.minutes / 60))
    gap = arguments.minutes * 60 / count
    # so long that all senders send at once, and none waits for a place
    takes = 0.95 * SENDERS * gap
    results, watcher, places = Results(), Watcher(server), threading.Semaphore(SENDERS)
    watcher.start()
    began, senders = time.monotonic(), []

    def one(number):
        with places:
            send_study(server, noisy[number % len(noisy)], f"{UID}.{number}", number % 10 == 5, takes, results)

    for number in range(count):
        time.sleep(max(0, began + number * gap - time.monotonic()))
        sender = threading.Thread(target=one, args=(number,))
        sender.start()
        senders.append(sender)
    for sender in senders:
        sender.join()
    sending = time.monotonic() - began
    database = server.database()
    ask = lambda sql: database.execute(sql).fetchone()[0]
    screened = time.monotonic()
    while ask("SELECT COUNT(*) FROM study WHERE state = 'received'"):
        if time.monotonic() - screened > DRAIN_SECONDS:
            break
        time.sleep(1)
    screened = time.monotonic() - screened
    drained = time.monotonic()
    while arguments.drain and ask("SELECT COUNT(*) FROM job"):
        if time.monotonic() - drained > DRAIN_SECONDS:
            break
        time.sleep(2)
    drained = time.monotonic() - drained
    watcher.stop.set()
    watcher.join()
    rows = dict(database.execute("SELECT sop_uid, path FROM instance"))
    lost = [u for u in results.acknowledged if u not in rows or not (server.data / rows[u]).is_file()]
    states = dict(database.execute("SELECT state, COUNT(*) FROM study GROUP BY state"))
    p95 = statistics.quantiles(results.listed_seconds, n=20)[-1] if len(results.listed_seconds) > 1 else 0
    said = {
        "studies": count, "objects sent": results.sent, "not acknowledged": results.failed, "why": results.why, "lost": len(lost),
        "sent within s": round(sending), "receive to listed p95 s": round(p95, 3),
        "receive to listed max s": round(max(results.listed_seconds), 3),
        "states": states, "all screened s after the last image": round(screened),
        "backlog drained s later": round(drained) if arguments.drain else "not waited for",
        "jobs left": ask("SELECT COUNT(*) FROM job"), "most jobs waiting": watcher.most_waiting,
        "jobs begun": watcher.begun, "begun out of order": watcher.out_of_order,
    }
    good = not (results.failed or lost or watcher.out_of_order or states.get("failed") or p95 > LISTED_P95_SECONDS)
    return said, good


def receive_alone(server, arguments, folder):
    """Ten times the load, by stock senders with identifiers that they make up."""
    files = folder / "images"
    files.mkdir()
    for number, image in enumerate(slices(numpy.zeros((ROWS, ROWS, SLICES), numpy.uint16), (1, 1, 1), False)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = f"{UID}.7.{number}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.StudyInstanceUID, image.SeriesInstanceUID, image.PatientID = f"{UID}.7", f"{UID}.7.1", "ALONE"
        made = FileDataset(str(files / f"{number:04}.dcm"), image, file_meta=meta, preamble=bytes(128))
        made.save_as(files / f"{number:04}.dcm")
    count = max(SENDERS, round(10 * arguments.an_hour * arguments.receive_minutes / 60))
    database = server.database()
    before = database.execute("SELECT COUNT(*) FROM instance").fetchone()[0]
    began, failed, gap = time.monotonic(), 0, arguments.receive_minutes * 60 / count
    running = []
    for number in range(count):
        while sum(child.poll() is None for child in running) >= SENDERS:
            time.sleep(0.01)
        time.sleep(max(0, began + number * gap - time.monotonic()))
        running.append(subprocess.Popen(
            ["storescu", "-aec", "FIRSTREAD", "+II", "+IR", str(SLICES), "+IS", "1", "+IP", "1",
             "+sd", "127.0.0.1", str(server.dicom), str(files)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    failed = sum(child.wait() != 0 for child in running)
    took = time.monotonic() - began
    time.sleep(1)  # rows follow the answers (docs/ARCHITECTURE.md)
    kept = database.execute("SELECT COUNT(*) FROM instance").fetchone()[0] - before
    said = {"studies": count, "senders that failed": failed, "objects kept": kept, "of": count * SLICES,
            "s": round(took, 1), "studies an hour": round(count / took * 3600), "MB/s": round(kept * 0.132 / took, 1)}
    return said, not failed and kept == count * SLICES and count / took * 3600 >= 9.5 * arguments.an_hour


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--an-hour", type=float, default=300)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--receive-minutes", type=float, default=1)
    parser.add_argument("--no-drain", dest="drain", action="store_false", help="do not wait for volumetry")
    parser.add_argument("--work", type=pathlib.Path, help="folder on the disk to measure")
    parser.add_argument("--markdown", type=pathlib.Path, help="write the figures here")
    arguments = parser.parse_args()
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before"
    work = pathlib.Path(tempfile.mkdtemp(dir=arguments.work, prefix="load-"))
    server = Server(str(arguments.binary.resolve()), work)
    try:
        loaded, good = load(server, arguments)
        print(json.dumps(loaded, indent=1), flush=True)
        alone, held = receive_alone(server, arguments, work) if arguments.receive_minutes else ({}, True)
        print(json.dumps(alone, indent=1))
        lines = [f"- {machine}; {os.getloadavg()[0]:.1f} after"]
        lines += [f"- {what}: {said}" for part in (loaded, alone) for what, said in part.items()]
        if arguments.markdown:
            arguments.markdown.write_text("\n".join(lines) + "\n")
    finally:
        server.child.terminate()
        server.child.wait()
        if not sys.exc_info()[0]:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(0 if good and held else 1)


if __name__ == "__main__":
    main()
