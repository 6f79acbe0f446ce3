#!/usr/bin/env python3
"""How fast and how surely objects are received, beside dcmtk's storescp and Orthanc.

receive.py SERVER [--objects N] [--rounds N] [--work DIR] [--markdown FILE]

SERVER is the firstread binary (`firstread serve` is measured, database and all), or
target/release/examples/receive_to_folder for reception alone. Needs dcmtk, Orthanc and
Python with numpy and pydicom. One run compares all servers on one machine, in rounds that take turns, so
that whatever else the machine does falls on all of them: only the ratios mean something.

Servers: storescp as it comes (it does not sync), Orthanc as Debian configures it but for
ports and folders, and ours, which answers success only once the object is on disk.
"""

import argparse
import os
import pathlib
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROWS = 256
START_SECONDS = 60
# ext4 passes over inodes deleted in the last 5 s one by one: no run may follow a clean-up
SETTLE_SECONDS = 10
GATES = [
    # row, our rate over whose, at least
    ("stock client, 1 association", "storescp", 10.0),
    ("TCP_NODELAY, 8 associations", "storescp", 0.8),
    ("TCP_NODELAY, 8 associations", "Orthanc", 2.0),
]


def make_objects(folder, count):
    """MR slices of 132 kB in a few series, each its own instance."""
    import numpy
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    noise = numpy.random.default_rng(1)
    paths = []
    for number in range(count):
        instance = f"1.2.826.0.1.3680043.10.1.3.{number + 1}"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = instance
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{number:05}.dcm"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        series = number // 200
        data.SOPClassUID = MRImageStorage
        data.SOPInstanceUID = instance
        data.StudyInstanceUID = f"1.2.826.0.1.3680043.10.1.1.{series // 2 + 1}"
        data.SeriesInstanceUID = f"1.2.826.0.1.3680043.10.1.2.{series + 1}"
        data.PatientID = f"BENCH{series // 2}"
        data.PatientName = f"Bench^{series // 2}"
        data.Modality = "MR"
        # passed over by the choice of series, or the networks would run while we measure
        data.ImageType = ["DERIVED", "SECONDARY", "LOCALIZER"]
        data.SeriesDescription = "localizer"
        data.SeriesNumber = series
        data.InstanceNumber = number % 200 + 1
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [0, 0, number % 200]
        data.PixelSpacing = [1, 1]
        data.SliceThickness = 1
        data.Rows = data.Columns = ROWS
        data.SamplesPerPixel = 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.BitsAllocated = 16
        data.BitsStored = 12
        data.HighBit = 11
        data.PixelRepresentation = 0
        data.PixelData = noise.integers(0, 4096, (ROWS, ROWS), dtype=numpy.uint16).tobytes()
        data.save_as(path)
        paths.append(path)
    return paths


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A receiver under measurement."""

    def __init__(self, name, title):
        self.name, self.title = name, title
        self.port = free_port()

    def command(self, folder):
        raise NotImplementedError

    def start(self, folder):
        folder.mkdir(parents=True)
        self.log = open(folder.parent / f"{self.name}.log", "ab")
        environment = dict(os.environ, TCP_NODELAY="1")
        if not self.nodelay:
            del environment["TCP_NODELAY"]
        self.process = subprocess.Popen(
            self.command(folder), stdout=self.log, stderr=self.log, env=environment,
            cwd=folder, start_new_session=True,
        )
        began = time.monotonic()
        while subprocess.run(
            ["echoscu", "-aec", self.title, "127.0.0.1", str(self.port)], capture_output=True
        ).returncode:
            if time.monotonic() - began > START_SECONDS or self.process.poll() is not None:
                said = pathlib.Path(self.log.name).read_text(errors="replace")
                self.stop()
                sys.exit(f"{self.name} did not start:\n{said[-2000:]}")
            time.sleep(0.2)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


class Storescp(Server):
    def command(self, folder):
        return ["storescp", "--fork", "-od", str(folder), str(self.port)]


class Orthanc(Server):
    def command(self, folder):
        import json

        configuration = folder / "orthanc.json"
        configuration.write_text(json.dumps({
            "Name": "bench",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": self.title,
            "DicomPort": self.port,
            "HttpPort": free_port(),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": True,
        }))
        binary = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
        return [binary, str(configuration)]


class Ours(Server):
    def __init__(self, name, title, binary):
        super().__init__(name, title)
        self.binary = pathlib.Path(binary).resolve()

    def command(self, folder):
        address = f"127.0.0.1:{self.port}"
        if self.binary.name != "firstread":
            return [str(self.binary), str(folder), address]
        http_address = f"127.0.0.1:{free_port()}"
        return [str(self.binary), "serve", "--data", str(folder),
                "--http", http_address, "--dicom", address]


def send(server, paths, associations, nodelay):
    """Objects a second over so many associations, and how many associations failed."""
    environment = dict(os.environ)
    environment.pop("TCP_NODELAY", None)
    if nodelay:
        environment["TCP_NODELAY"] = "1"
    share = [paths[index::associations] for index in range(associations)]
    began = time.monotonic()
    clients = [
        subprocess.Popen(
            ["storescu", "-aec", server.title, "127.0.0.1", str(server.port), *map(str, part)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for part in share
    ]
    outcomes = [(client.communicate()[1], client.returncode) for client in clients]
    seconds = time.monotonic() - began
    failed = [error for error, code in outcomes if code]
    if failed:
        print(f"  {server.name}: {failed[0].decode(errors='replace')[-300:]}", flush=True)
    return len(paths) / seconds, len(failed)


def cpu_seconds(pid):
    """User and system time of a process and the children it has waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0


def measure(servers, rows, rounds, work, objects):
    rates = {}
    for round_number in range(rounds):
        for title, count, associations, nodelay in rows:
            for server in servers:
                server.nodelay = nodelay
                folder = work / f"{server.name}-{round_number}-{associations}-{nodelay}"
                server.start(folder)
                try:
                    cpu = cpu_seconds(server.process.pid)
                    rate, failed = send(server, objects[:count], associations, nodelay)
                    cpu = (cpu_seconds(server.process.pid) - cpu) / count * 1000
                    peak = resident_mib(server.process.pid)
                finally:
                    server.stop()
                rates.setdefault((title, server.name), []).append((rate, failed, cpu, peak))
                print(f"round {round_number + 1}: {title}: {server.name}: {rate:.0f} objects/s, "
                      f"{failed} of {associations} associations failed, "
                      f"{cpu:.2f} CPU-ms an object, peak {peak:.0f} MiB", flush=True)
        for folder in work.glob(f"*-{round_number}-*"):
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(SETTLE_SECONDS)
    return rates


def report(servers, rows, rates, arguments):
    lines = ["| | " + " | ".join(server.name for server in servers) + " |",
             "|---|" + "---|" * len(servers)]
    for title, count, associations, _ in rows:
        cells = []
        for server in servers:
            runs = rates[title, server.name]
            median = statistics.median(run[0] for run in runs)
            failed = sum(run[1] for run in runs)
            cell = f"{median:.0f} objects/s"
            cells.append(cell + (f", {failed} of {associations * len(runs)} failed" if failed else ""))
        lines.append(f"| {title}, {count} objects | " + " | ".join(cells) + " |")
    passed = True
    lines.append("")
    for title, other, least in GATES:
        # ratio within each round, where both saw the same machine
        ratios = [ours[0] / theirs[0] for ours, theirs
                  in zip(rates[title, "firstread"], rates[title, other])]
        ratio = statistics.median(ratios)
        good = ratio >= least
        passed &= good
        lines.append(f"- {title}: {ratio:.2f} x {other} (at least {least:g}): "
                     f"{'met' if good else 'NOT MET'}; by round "
                     + ", ".join(f"{r:.2f}" for r in ratios))
    all_here = all(run[1] == 0 for title, *_ in rows for run in rates[title, "firstread"])
    lines.append(f"- every association of ours succeeded: {'yes' if all_here else 'NO'}")
    text = "\n".join(lines)
    print("\n" + text)
    if arguments.markdown:
        arguments.markdown.write_text(text + "\n")
    return passed and all_here


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("server", type=pathlib.Path)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path, help="folder on the disk to measure")
    parser.add_argument("--markdown", type=pathlib.Path, help="write the table here")
    arguments = parser.parse_args()
    servers = [Storescp("storescp", "ANY-SCP"), Orthanc("Orthanc", "ORTHANC"),
               Ours("firstread", "FIRSTREAD", arguments.server)]
    rows = [
        ("stock client, 1 association", min(200, arguments.objects), 1, False),
        ("TCP_NODELAY, 8 associations", arguments.objects, 8, True),
        ("TCP_NODELAY, 64 associations", arguments.objects, 64, True),
    ]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.platform()}")
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="receive-") as work:
        work = pathlib.Path(work)
        (work / "objects").mkdir()
        objects = make_objects(work / "objects", arguments.objects)
        rates = measure(servers, rows, arguments.rounds, work, objects)
    sys.exit(0 if report(servers, rows, rates, arguments) else 1)


if __name__ == "__main__":
    main()
