"""Commands: `python -m firstread_training COMMAND --help`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import commands, maps

TRAINING = Path(__file__).resolve().parents[1]
CONFIG = TRAINING / "configs" / "screening.toml"


def _common(parser):
    parser.add_argument("--data", type=Path, default=maps.data_folder(), help="data folder (FIRSTREAD_TEST_DATA)")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("FIRSTREAD_CACHE", TRAINING.parent / ".cache")), help="unpacked and prepared label maps (FIRSTREAD_CACHE)")
    parser.add_argument("--runs", type=Path, default=TRAINING / "runs", help="logs and full checkpoints")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes that generate cases (a GPU wants six or more)")
    parser.add_argument("--threads", type=int, default=0, help="torch threads, 0: as torch likes")


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="firstread_training", description=__doc__)
    commands_ = root.add_subparsers(required=True)

    def add(name, run, about, config=True):
        p = commands_.add_parser(name, help=about, description=about)
        _common(p)
        if config:
            p.add_argument("--config", type=Path, default=CONFIG)
        p.set_defaults(run=run)
        return p

    p = add("prepare", commands.prepare, "unpack and prepare the label maps", config=False)
    p.add_argument("--processes", type=int, default=2)
    p = add("train", commands.train, "train a config, resuming its newest checkpoint", config=False)
    p.add_argument("config", type=Path)
    p.add_argument("--steps", type=int, help="stop when this many are done in all")
    p.add_argument("--minutes", type=float)
    p.add_argument("--decay-share", type=float, default=0.0, help="last share of the minutes over which the learning rate falls to 1 %%")
    p = add("continue", commands.continue_, "train each network for its share of N minutes, evaluate, leave a compact checkpoint", config=False)
    p.add_argument("config", type=Path, nargs="*", default=[CONFIG])
    p.add_argument("--minutes", type=float, required=True)
    p.add_argument("--decay-share", type=float, default=0.3)
    p.add_argument("--processes", type=int, default=2)
    p = add("evaluate", commands.evaluate, "measure the newest checkpoint by every row of the table")
    p.add_argument("--only", choices=("real", "generated"))
    p.add_argument("--part", type=float, default=1.0, help="share of the held-out cases, for a quick look")
    p.add_argument("--half", action="store_true", help="bf16 for the generated cases: faster on a CPU that has it")
    p.add_argument("--processes", type=int, default=1)
    p.add_argument("--heldout", type=Path, help="folder of kept cases (`heldout` command)")
    p = add("heldout", commands.make_heldout, "make the frozen cases and keep them, beside a training", config=False)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--processes", type=int, default=2)
    p = add("fit-study", commands.fit_study, "fit the study's readout on generated cases of the training people")
    p.add_argument("--minutes", type=float, default=5.0, help="to collect cases")
    p.add_argument("--processes", type=int, default=2)
    p.add_argument("--evidence", type=Path, help="a file that keeps the pairs: the next run with the same network adds to them")
    p.add_argument("--keep-voxels", action="store_true", help="fit the readout only: where the trunk is the one that the voxels' score was fitted to")
    p = add("fit-lesions", commands.fit_lesions, "train the lesion network without a GPU: collect cubes, then learn from them")
    p.set_defaults(config=TRAINING / "configs" / "lesions.toml")
    p.add_argument("--collect", type=float, default=0.0, help="minutes to collect cubes")
    p.add_argument("--minutes", type=float, default=0.0, help="to train on them")
    p.add_argument("--processes", type=int, default=1)
    p.add_argument("--cubes", type=Path, help="folder of the cubes (FIRSTREAD_CACHE/lesion-cubes)")
    p = add("compare", commands.compare, "table and learning curves of all runs", config=False)
    p.add_argument("--out", type=Path, default=TRAINING.parent / "docs" / "img")
    p = add("export", commands.export, "write models/screening.onnx and its card; refuses if ONNX and PyTorch disagree")
    p.add_argument("--out", type=Path, default=TRAINING.parent / "models")
    p.add_argument("--golden", type=Path, default=TRAINING.parent / "tests" / "samples", help="folder for the golden values")
    p.add_argument("--version")
    p.add_argument("--images", type=int, help="images seen, for the card, where runs had other batch sizes")
    p.add_argument("--trained-on", default="CPU", help="device, for the card")
    p = add("refine-screening", commands.refine_screening, "refine labels and volumes of models/screening.onnx within its graph, and measure their Dice", config=False)
    p.add_argument("--out", type=Path, default=TRAINING.parent / "models")
    p.add_argument("--golden", type=Path, default=TRAINING.parent / "tests" / "samples", help="folder of the golden volume and values")
    p.add_argument("--heldout", type=Path, help="folder of kept cases (`heldout` command)")
    p.add_argument("--unmeasured", action="store_true", help="keep the card's Dice")
    p = add("golden", commands.make_golden, "write the expected values that the Rust tests compare with", config=False)
    p.add_argument("--out", type=Path, default=TRAINING.parent / "tests" / "samples")
    p.add_argument("--models", type=Path, default=TRAINING.parent / "models")
    p = add("export-volumetry", commands.export_volumetry, "write models/volumetry.onnx and its card; refuses if ONNX and PyTorch disagree")
    p.set_defaults(config=TRAINING / "configs" / "volumetry.toml")
    p.add_argument("--out", type=Path, default=TRAINING.parent / "models")
    p.add_argument("--version")
    p.add_argument("--seed", type=int, default=5)
    p.add_argument("--trained-on", default="CPU", help="device, for the card")
    add("atlas", commands.build_atlas, "build atlas.npz, where structures lie, from the training people's maps").set_defaults(config=TRAINING / "configs" / "volumetry.toml")
    p = add("evaluate-volumetry", commands.evaluate_volumetry, "measure the exported volumetry network on the scans with a reference", config=False)
    p.add_argument("--models", type=Path, default=TRAINING.parent / "models")
    p = add("time", commands.measure_time, "seconds and memory of one 1 mm head through the exported network", config=False)
    p.add_argument("--out", type=Path, default=TRAINING.parent / "models")
    p = add("compact", lambda args: commands.save_compact(args, commands.config_module.load(args.config).name), "write the compact checkpoint into the repository")
    p = add("samples", commands.samples, "write the demo's synthetic DICOM studies", config=False)
    p.add_argument("--out", type=Path, default=TRAINING.parent / "tests" / "samples")
    for name, run, about in (("contact-sheet", commands.contact_sheet, "picture of generated cases beside real scans"),
                             ("generate", commands.generate, "write generated cases as NIfTI")):
        p = add(name, run, about)
        p.add_argument("--out", type=Path, required=True)
        p.add_argument("--cases", type=int, default=24)
        p.add_argument("--seed", type=int, default=5)
    return root


def main(argv=None):
    args = parser().parse_args(argv)
    if args.threads:
        import torch
        torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
