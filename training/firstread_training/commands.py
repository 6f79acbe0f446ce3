"""What the commands do; `__main__` only parses."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from . import checkpoint, config as config_module, experiments

REPOSITORY = config_module.TRAINING_FOLDER.parent
KNOWN_FAILURES = [
    "2 mm voxels: lesions under about 0.5 ml, microbleeds and small vessels cannot be seen",
    "trained on generated images only; post-operative heads, children and strong metal artefacts were never shown",
    "diffusion and susceptibility images were not modelled",
    "white-matter and small lesions: on above off in only 68 % of 19 painted pairs; the map finds large lesions only (Dice 0.30) and marks healthy tissue (median 1 ml)",
    "MS on single series is ranked little above healthy people; one of four series is below a third of them, and a healthy head with a small thalamus (1119) above three",
    "white matter and cortex sometimes spill into scalp, face and neck",
    "accumbens and putamen are the least accurate structures",
    "the abnormality map shows where the picture differs, not what it is",
]


def newest(args, name: str) -> tuple[dict, str]:
    """The newest state of a network: the run's full checkpoint, else the repository's compact one."""
    full = args.runs / name / "last.pt"
    small = config_module.TRAINING_FOLDER / "checkpoints" / f"{name}.pt"
    if full.exists():
        return checkpoint.load(full), str(full)
    if small.exists():
        return checkpoint.expand(checkpoint.load(small)), str(small)
    raise SystemExit(f"no checkpoint of {name} under {args.runs} or {small.parent}")


def train(args):
    from . import trainer
    t = trainer.start(args.config, args.runs, args.cache, args.data, args.device, args.workers)
    print(f"{t.cfg.name}: from step {t.step}", flush=True)
    t.fit(args.steps, args.minutes, args.decay_share)


def prepare(args):
    """The label maps of all people into the cache, so that trainings side by side find them there."""
    from . import maps
    maps.prepare_all(args.cache, maps.all_names(), args.data, args.processes)
    maps.load_shapes(args.cache, args.data)


def fit_study(args):
    """Fits the study's readout on the averaged weights and stores it in the run's checkpoint."""
    from . import study
    cfg = config_module.load(args.config)
    state, where = newest(args, cfg.name)
    weights, report = study.run(cfg, state["ema"], args.data, args.cache, args.minutes, args.processes, args.device, args.evidence, args.keep_voxels)
    for part in ("ema", "model"):
        state[part] = {**state[part], **{k: v.clone() for k, v in weights.items()}}
    checkpoint.save(args.runs / cfg.name / "last.pt", state)
    print(f"{where}: readout fitted: {json.dumps(report)}", flush=True)


def fit_lesions(args):
    """Collects cubes in some processes, then trains the lesion network on them; goes on where it stopped."""
    import multiprocessing
    from . import lesion_fit, trainer
    folder = args.cubes or args.cache / "lesion-cubes"
    if args.collect:
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=_collect, args=(args.config, args.cache, args.data, folder, i, args.processes, args.collect)) for i in range(args.processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if args.minutes:
        t = trainer.start(args.config, args.runs, args.cache, args.data)
        print(json.dumps(lesion_fit.fit(t, folder, args.minutes)), flush=True)


def _collect(config, cache, data, folder, first, stride, minutes):
    import torch
    from . import feed, lesion_fit
    torch.set_num_threads(1)
    cfg = config_module.load(config)
    lesion_fit.collect(cfg, feed.build_generator(cfg, cache, data), folder, first, stride, minutes)


def save_compact(args, name: str) -> Path:
    state, _ = newest(args, name)
    path = config_module.TRAINING_FOLDER / "checkpoints" / f"{name}.pt"
    checkpoint.save(path, checkpoint.compact(state))
    print(f"{path}: step {state['step']}, {path.stat().st_size / 1e6:.1f} MB")
    return path


def continue_(args):
    """Train for some minutes from the newest checkpoint, measure, and leave a compact checkpoint behind."""
    for path in args.config:
        cfg = config_module.load(path)
        train(argparse.Namespace(**{**vars(args), "config": path, "steps": None, "minutes": args.minutes / len(args.config)}))
        fit_study(argparse.Namespace(**{**vars(args), "config": path, "minutes": max(0.5, 0.1 * args.minutes), "evidence": None, "keep_voxels": False}))
        save_compact(args, cfg.name)
        evaluate(argparse.Namespace(**{**vars(args), "config": path, "only": None, "part": 1.0, "half": True, "heldout": None}))


def evaluate(args) -> dict:
    from . import evaluate as measure
    cfg = config_module.load(args.config)
    state, where = newest(args, cfg.name)
    net = measure.build(cfg, state["ema"])
    real = made = None
    if args.only != "generated":
        real = measure.real_scans(net, args.data, args.cache)
    if args.only != "real":
        made = measure.generated(state["ema"], cfg, args.data, args.cache, args.half, part=args.part, processes=args.processes, device=args.device, folder=args.heldout)
        made["head_threshold"] = measure.head_threshold(made)
    result = experiments.summary(real, made)
    if made:
        result["calibration"] = {k: made[k] for k in ("scale", "offset", "prevalence_train")}
        result["head_threshold"], result["map_offset"] = made["head_threshold"], made["map_offset"]
    experiments.save(args.runs / cfg.name, state["step"], result)
    print(f"{where}, step {state['step']}")
    print(json.dumps(result, indent=1, default=float))
    return result


def make_heldout(args):
    from . import heldout
    print(f"{heldout.prepare(args.data, args.cache, args.out, args.processes)} cases")


def compare(args):
    print(experiments.compare(args.runs))
    for run in sorted(p for p in args.runs.iterdir() if (p / "log.csv").exists()):
        experiments.curves(run, args.out / f"training-{run.name}.png")


def export(args):
    """ONNX, card and golden values from the newest checkpoint's averaged weights; refuses where ONNX disagrees."""
    from . import card, evaluate as measure, export as onnx_export, golden, maps, preprocess, samples, scans, trainer
    cfg = config_module.load(args.config)
    state, _ = newest(args, cfg.name)
    net = measure.build(cfg, state["ema"])
    path = args.out / "screening.onnx"
    part = path.with_suffix(".part.onnx")
    last = {}
    for row in experiments.history(args.runs / cfg.name):  # later evaluations win; a partial one keeps what it did not measure
        last.update(row)
    map_offset = last.get("map_offset", 0.0)
    model = onnx_export.Screening(net, map_offset)
    sha = onnx_export.write(model, part)
    image = samples.picture(samples.STUDIES[1], "t1", args.cache, args.data).astype(np.float32)
    prepared = [preprocess.normalise(image)]
    agreement = onnx_export.compare(model, part, prepared)
    part.rename(path)
    last_step = last.pop("step", None)
    calibration = last.pop("calibration", {"scale": 1.0, "offset": 0.0, "prevalence_train": 0.5})
    threshold = last.pop("head_threshold", 0.0)
    run = {"config": Path(args.config).name, "commit": state["commit"] if state["commit"] != "unknown" else trainer.commit_id(), "steps": state["step"], "minutes": state["seconds"] / 60,
           "device": args.trained_on, "images": args.images or state["step"] * cfg.train.batch, "measured_at_step": last_step if last_step is not None else 0, "onnx_minus_pytorch": agreement}
    version = args.version or f"0.1.{state['step']}"
    card.write(path.with_suffix(".toml"), card.build(version, sha, calibration, threshold, run, last, KNOWN_FAILURES))
    if args.golden is not None:
        golden.write(args.golden, image[8:-8, 6:-6, 14:], path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, step {state['step']}, differences {agreement}")


def refine_screening(args):
    """models/screening.onnx and its card with labels and volumes refined; the source is replaced, so a second time refuses."""
    import tomllib
    from . import card, golden, nifti, preprocess, surgery, trainer
    path = args.out / "screening.onnx"
    part = path.with_suffix(".part.onnx")
    old = tomllib.loads(path.with_suffix(".toml").read_text())
    volume, affine = nifti.read(args.golden / "golden_head.nii.gz")
    sha, differences = surgery.write(path, part, [preprocess.prepare(volume, affine)[0]])
    measured = {} if args.unmeasured else surgery.dice(part, args.data, args.cache, args.heldout)
    part.rename(path)
    card.write(path.with_suffix(".toml"), surgery.carded(old, sha, measured, differences, trainer.commit_id()))
    golden.write(args.golden, None, path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, differences {differences}, {json.dumps(measured)}")


def make_golden(args):
    """The expected values of the kept volume: the screening network's and the volumetry box's."""
    from . import golden
    golden.write(args.out, None, args.models / "screening.onnx")
    golden.write_measuring(args.out)


VOLUMETRY_FAILURES = [
    "trained on generated images only, for eight minutes of a GPU: putamen, pallidum and accumbens are the least accurate",
    "white matter and cortex are told apart by their intensities nearby (refine.py): strong bias fields and thick slices blur that",
    "lesions are the weakest output: faint and small ones are missed, and bright bands beside the ventricles or folds inside white matter can be marked",
    "post-operative heads, children and strong metal artefacts were never shown",
]


def export_volumetry(args):
    """volumetry.onnx and its card from the newest checkpoints' averaged weights; refuses where ONNX disagrees with PyTorch."""
    from . import card, export as onnx_export, feed, lesion_net, measuring, trainer
    from .network import fitting
    cfg = config_module.load(args.config)
    (state, _), (lesions, _) = newest(args, cfg.name), newest(args, "lesions")
    net, head = trainer.build_net(cfg), lesion_net.LesionNet()
    net.load_state_dict(fitting(net, state["ema"]))
    head.load_state_dict(fitting(head, lesions["ema"]))
    model = onnx_export.Volumetry(net.eval(), head.eval())
    path = args.out / "volumetry.onnx"
    part = path.with_suffix(".part.onnx")
    onnx_export.write(model, part, measuring.BOX, onnx_export.VOLUMETRY_NAMES, onnx_export.VOLUMETRY_MAX_BYTES, onnx_export.TRACED)
    sha = onnx_export.mark(part, onnx_export.VOLUMETRY_PROPERTIES)
    case = feed.build_generator(cfg, args.cache, args.data, people=config_module.heldout()["maps"][:1], seed=args.seed)(0)
    agreement = onnx_export.compare_volumetry(model, part, case.image)
    part.rename(path)
    last = {}
    for row in experiments.history(args.runs / cfg.name):
        last.update(row)
    last.pop("step", None)
    t = cfg.train
    images = min(state["step"], t.coarse_steps) * t.coarse_batch + max(0, state["step"] - t.coarse_steps) * t.batch
    run = {"config": Path(args.config).name, "commit": state["commit"] if state["commit"] != "unknown" else trainer.commit_id(), "steps": state["step"],
           "minutes": state["seconds"] / 60, "device": args.trained_on, "images": images, "lesion_steps": lesions["step"], "onnx_minus_pytorch": agreement}
    card.write(path.with_suffix(".toml"), card.volumetry(args.version or f"0.1.{state['step']}", sha, run, last, VOLUMETRY_FAILURES))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, step {state['step']}, differences {agreement}")


def build_atlas(args):
    from . import atlas
    print(json.dumps(atlas.build(args.cache, args.data, config_module.load(args.config).training_people()), indent=1))


def evaluate_volumetry(args):
    """The exported network on the real scans with a reference; appended to the run's metrics."""
    from . import evaluate_volumetry as measure
    result = measure.table(args.models, args.data, args.cache, args.threads or 2)
    rows = experiments.history(args.runs / "volumetry")
    experiments.save(args.runs / "volumetry", rows[-1]["step"] if rows else 0, result)
    print(json.dumps(result, indent=1, default=float))


def measure_time(args):
    """Seconds and memory of one 1 mm head through the exported network, Python preprocessing included."""
    from . import export as onnx_export, nifti
    volume, affine = nifti.read(args.data / "heads_freesurfer" / "sub-01" / "t1.nii.gz")
    result = {"time": onnx_export.speed(args.out / "screening.onnx", volume, affine, args.threads or 2)}
    rows = experiments.history(args.runs / "screening")
    experiments.save(args.runs / "screening", rows[-1]["step"] if rows else 0, result)
    print(json.dumps(result))


def samples(args):
    import shutil
    from . import samples as made
    for study in made.STUDIES:
        shutil.rmtree(args.out / study.name, ignore_errors=True)
    for name, size in made.write_all(args.out, args.cache, args.data).items():
        print(f"{name}: {size / 1e6:.2f} MB")


def contact_sheet(args):
    """Generated cases beside the redistributable real scans (healthy_ixi_2mm, IXI, CC BY-SA 3.0)."""
    from . import feed, preprocess, scans
    cfg = config_module.load(args.config)
    make = feed.build_generator(cfg, args.cache, args.data, people=config_module.heldout()["maps"], seed=args.seed)
    cases = [make(i) for i in range(args.cases)]
    real = []
    for scan in [s for s in scans.validation(args.data, args.cache, dicom=False) if s.group == "healthy_ixi"][:8]:
        real.append((scan.name, preprocess.prepare(*scan.load())[0]))
    experiments.contact_sheet(cases, real, args.out)


def generate(args):
    """Cases as NIfTI: image, classes and lesion mask, with a line of truth each."""
    from . import feed, nifti
    cfg = config_module.load(args.config)
    make = feed.build_generator(cfg, args.cache, args.data, seed=args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    with open(args.out / "truth.jsonl", "w") as f:
        for i in range(args.cases):
            case = make(i)
            nifti.write(args.out / f"{i:04d}_image.nii.gz", case.image.astype(np.float32), affine)
            nifti.write(args.out / f"{i:04d}_classes.nii.gz", case.classes, affine)
            nifti.write(args.out / f"{i:04d}_lesion.nii.gz", case.lesion, affine)
            f.write(json.dumps({"case": i, "kind": case.kind, "contrast": case.contrast, "abnormal": case.abnormal, "head": case.head, "person": case.person}) + "\n")
