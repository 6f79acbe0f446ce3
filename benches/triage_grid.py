#!/usr/bin/env python3
"""Waits under every discipline, at two prevalences and two loads: the tables of docs/triage.md.

triage_grid.py BINARY [--cases N] [--seeds N] [--readers N]

Runs `firstread simulate` for each cell and seed, all disciplines on the same arrivals, and prints
Markdown. A cell gives the mean over the seeds, the half width of its 95 % interval (batch means of
each run, combined), and the ratio to first-come-first-served on the same arrivals.
"""

import argparse
import json
import math
import subprocess

DISCIPLINES = [
    ("first come", ["--discipline", "fifo"]),
    ("flag", ["--discipline", "flag"]),
    ("score", ["--discipline", "score"]),
    ("score, cap 120", ["--discipline", "cap", "--cap-minutes", "120"]),
    *[(f"head start k {k}, floor {floor}, cap {cap}",
       ["--discipline", "head-start", "--k-minutes", str(k), "--p-floor", str(floor), "--cap-minutes", str(cap)])
      for k, floor, cap in [(15, 0.003, 180), (30, 0.003, 120), (30, 0.003, 180), (30, 0.003, 300),
                            (30, 0.03, 180), (60, 0.003, 180), (60, 0.003, 300)]],
]
GROUPS = ["diseased", "missed", "normal"]


def run(binary, prevalence, load, readers, cases, seed, options):
    command = [binary, "simulate", "--readers", str(readers), "--load", str(load), "--prevalence", str(prevalence),
               "--cases", str(cases), "--seed", str(seed), "--json", *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["groups"]


def cell(runs, first_come, group):
    mean = sum(r[group]["mean"] for r in runs) / len(runs)
    half = math.sqrt(sum(((r[group]["ci95"][1] - r[group]["ci95"][0]) / 2) ** 2 for r in runs)) / len(runs)
    base = sum(r[group]["mean"] for r in first_come) / len(first_come)
    return f"{mean:.1f} ± {half:.1f} ({mean / base:.2f}x)"


def longest(runs, first_come):
    top = max(r["normal"]["max"] for r in runs)
    p95 = sum(r["normal"]["p95"] for r in runs) / len(runs)
    return f"{p95:.0f} | {top:.0f} ({top / max(r['normal']['max'] for r in first_come):.1f}x)"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--cases", type=int, default=400_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--readers", type=int, default=2)
    arguments = parser.parse_args()
    for prevalence in (0.1, 0.4):
        for load in (0.8, 0.95):
            print(f"\n### Prevalence {prevalence}, load {load}\n")
            print("| discipline | diseased | missed | normal | normal p95 | normal longest |\n|---|---|---|---|---|---|")
            first_come = None
            for title, options in DISCIPLINES:
                runs = [run(arguments.binary, prevalence, load, arguments.readers, arguments.cases, seed, options)
                        for seed in range(1, arguments.seeds + 1)]
                first_come = first_come or runs
                cells = [cell(runs, first_come, group) for group in GROUPS]
                print(f"| {title} | {' | '.join(cells)} | {longest(runs, first_come)} |", flush=True)


if __name__ == "__main__":
    main()
