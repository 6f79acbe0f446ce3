#!/usr/bin/env python3
"""Time and memory of `firstread analyze` by stage, on CPU and, where the machine has one, on CUDA, and whether both agree.

volumetry.py BINARY SCAN... [--rounds N] [--json FILE] [--markdown FILE]

Each scan is analysed --rounds times with each provider, in turns, after one run that counts for nothing (page cache).
Stages come from report.json, memory is the process' peak. The second run must give the same bytes as the first; CUDA must
give the CPU's labels but for a stated share of voxels, and its volumes within a stated tolerance. Exit code 1 where not.
Batch scaling: N processes side by side on one device, as a server's workers would (--batch 1,2,4; only with CUDA).
"""
import argparse
import csv
import hashlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

LABELS_APART_MAX = 0.001
VOLUME_APART_MAX = 0.005
FILES = ["segmentation.nii.gz", "volumes.csv"]


def analyse(binary, scan, provider, out):
    environment = dict(os.environ, FIRSTREAD_ANALYSIS__PROVIDER=provider)
    started = time.time()
    subprocess.run([binary, "analyze", scan, "--out", out], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.time() - started


def read(out):
    report = json.loads((out / "report.json").read_text())
    measured = report["measurement"]
    if measured is None:
        sys.exit(f"nothing was measured: {report['volumetry_reason']}")
    stages = {k: v / 1000 for k, v in measured["timings_ms"].items()}
    return {
        "stages": stages,
        "peak_mib": report["memory_peak_mib"],
        "provider": measured["provider"],
        "digest": [hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES],
    }


def volumes(out):
    with open(out / "volumes.csv") as file:
        return {row["structure"]: float(row["volume_mm3"]) for row in csv.DictReader(file)}


def apart(one, other):
    """Share of voxels labelled differently, and the worst relative difference of a volume over 0.1 ml."""
    import nibabel

    a, b = (np.asarray(nibabel.load(folder / "segmentation.nii.gz").dataobj) for folder in (one, other))
    labelled = (a > 0) | (b > 0)
    labels = float((a != b)[labelled].mean()) if labelled.any() else 0.0
    first, second = volumes(one), volumes(other)
    worst = max(abs(second[k] - v) / v for k, v in first.items() if v > 100)
    return labels, worst


def batch(binary, scan, sizes, work):
    """Seconds for so many scans side by side."""
    table = {}
    for size in sizes:
        environment = dict(os.environ, FIRSTREAD_ANALYSIS__PROVIDER="cuda")
        started = time.time()
        running = [
            subprocess.Popen([binary, "analyze", scan, "--out", work / f"batch{n}"], env=environment, stdout=subprocess.DEVNULL)
            for n in range(size)
        ]
        if any(process.wait() for process in running):
            sys.exit(f"{size} side by side: one failed")
        table[size] = time.time() - started
    return table


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=pathlib.Path)
    arguments.add_argument("scans", nargs="+", type=pathlib.Path)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--batch", default="1,2,4")
    arguments.add_argument("--json", type=pathlib.Path)
    arguments.add_argument("--markdown", type=pathlib.Path)
    asked = arguments.parse_args()
    providers = ["cpu"] + (["cuda"] if pathlib.Path("/dev/nvidia0").exists() else [])
    rows, failures, agreement = [], [], []
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "providers": providers, "rows": rows, "agreement": agreement}
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for scan in asked.scans:
            analyse(asked.binary, scan, "cpu", work / "warm")
            for provider in providers:
                runs = []
                for number in range(asked.rounds):
                    out = work / provider
                    seconds = analyse(asked.binary, scan, provider, out)
                    runs.append({**read(out), "whole": seconds})
                if len({tuple(run["digest"]) for run in runs}) > 1:
                    failures.append(f"{scan}: {provider} gave other bytes the second time")
                if runs[0]["provider"] != provider:
                    failures.append(f"{scan}: asked for {provider}, {runs[0]['provider']} ran")
                middle = statistics.median
                stages = {k: middle(r["stages"].get(k, 0) for r in runs) for k in runs[0]["stages"]}
                rows.append(
                    {
                        "scan": str(scan),
                        "provider": provider,
                        "whole_s": middle(r["whole"] for r in runs),
                        "peak_mib": max(r["peak_mib"] for r in runs),
                        "stages_s": stages,
                    }
                )
            if len(providers) > 1:
                labels, worst = apart(work / "cpu", work / "cuda")
                agreement.append({"scan": str(scan), "labels_apart": labels, "volume_apart": worst})
                if labels > LABELS_APART_MAX or worst > VOLUME_APART_MAX:
                    failures.append(f"{scan}: CUDA and CPU differ: labels {labels:.5f}, volumes {worst:.4f}")
        if len(providers) > 1:
            sizes = [int(n) for n in asked.batch.split(",")]
            result["side_by_side_s"] = batch(asked.binary, asked.scans[0], sizes, work)
    lines = ["| scan | on | whole s | network s | grid s | screening s | measure s | peak MiB |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        stage = row["stages_s"]
        cells = [f"{stage.get(k, 0):.2f}" for k in ("network", "grid", "screening", "measure")]
        name = pathlib.Path(row["scan"])
        lines.append(f"| {name.parent.name}/{name.name} | {row['provider']} | {row['whole_s']:.1f} | {' | '.join(cells)} | {row['peak_mib']} |")
    print("\n".join(lines))
    for entry in agreement:
        print(f"{entry['scan']}: labels apart {100 * entry['labels_apart']:.4f} %, worst volume {100 * entry['volume_apart']:.3f} %")
    for size, seconds in result.get("side_by_side_s", {}).items():
        print(f"{size} side by side: {seconds:.1f} s, {seconds / size:.1f} s each")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))
    if asked.markdown:
        asked.markdown.write_text("\n".join(lines) + "\n")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)


main()
