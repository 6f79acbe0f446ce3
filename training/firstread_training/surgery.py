"""Refines an exported screening network without building it again: its graph is cut before the largest class.

The weights in `models/screening.onnx` may come from older code than today's, so that no checkpoint loads.  The
graph still holds the logits of classes and sides: what made labels and volumes of them is replaced by a tail of
today's (`refine.py`, `location.py`).  Map, study and head logits keep every node they had, so every bit.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn

from . import config as config_module, export, labels as L, metrics, preprocess
from .answer import answer, right_labels
from .location import Location
from .refine import refine, unweighted

CELL = 4  # voxels of 2 mm: the same 8 mm as at 1 mm
NEIGHBOURS = 2.0  # log odds; a 2 mm voxel has its own kind around it less often
PREFIX = "refined/"
TRACED = (32, 32, 32)
KEPT = ("abnormality", "p_logit", "head_logit")
MADE = ("labels", "volumes_mm3")
LIMITS = {"labels": 1e-4, "volumes_relative": 5e-3}


class Tail(nn.Module):
    """Image [1,1,X,Y,Z], logits of the classes [18,X,Y,Z] and of the side [X,Y,Z] -> labels uint8, volumes in mm3 by code."""

    def __init__(self, atlas: bool = True):
        super().__init__()
        self.location = Location() if atlas else None
        right, self.sided = right_labels(L.CLASS_CODES, L.RIGHT_OF)
        self.register_buffer("right", torch.tensor(right))

    def forward(self, image, classes, side):
        image = image[0, 0]
        p = unweighted(classes)
        if self.location is not None:
            p = self.location(p, side)
        p = refine(p, image, cell=CELL, neighbours=NEIGHBOURS)
        labels, volumes, _ = answer(p, side, self.right, self.sided)
        return labels.to(torch.uint8), volumes * export.VOXEL_MM3


def producers(graph) -> dict:
    return {name: node for node in graph.node for name in node.output}


def needed(graph, names) -> set:
    """Indices of the nodes that the named values rest on."""
    made = {name: i for i, node in enumerate(graph.node) for name in node.output}
    found, open_ = set(), [made[n] for n in names if n in made]
    while open_:
        i = open_.pop()
        if i not in found:
            found.add(i)
            open_ += [made[n] for n in graph.node[i].input if n in made]
    return found


def logits_of(graph) -> tuple[str, str]:
    """Names of the classes' and the side's logits: what the largest class and the side's sign are taken of."""
    nodes = [graph.node[i] for i in needed(graph, ["labels"])]
    largest = [n for n in nodes if n.op_type == "ArgMax"]
    signs = [n for n in nodes if n.op_type == "Greater"]
    if len(largest) != 1 or len(signs) != 1:
        raise ValueError("the graph takes no largest class, or several: it is refined already, or of other code")
    return largest[0].input[0], signs[0].input[0]


def tail_model(folder: Path, tail: Tail):
    """The tail as ONNX, recorded on a small grid; it takes any whose sides are multiples of 4 voxels."""
    import onnx
    path = folder / "tail.onnx"
    shape, names = TRACED, ["image", "classes", "side"]
    inputs = (torch.zeros(1, 1, *shape), torch.zeros(L.CLASS_COUNT, *shape), torch.zeros(*shape))
    axes = {"image": {2: "x", 3: "y", 4: "z"}, "classes": {1: "x", 2: "y", 3: "z"}, "side": {0: "x", 1: "y", 2: "z"}}
    export.record(tail.eval(), inputs, path, names, list(MADE), axes)
    return onnx.load(path)


def refined(model, tail):
    """The model with its labels and volumes made by the tail; everything else untouched."""
    import onnx
    from onnx import compose
    graph = model.graph
    classes, side = logits_of(graph)
    keep = needed(graph, [*KEPT, classes, side])
    tail = compose.add_prefix(tail, PREFIX)
    joined = {PREFIX + "image": graph.input[0].name, PREFIX + "classes": classes, PREFIX + "side": side,
              **{PREFIX + name: name for name in MADE}}
    nodes = [node for i, node in enumerate(graph.node) if i in keep]
    for node in tail.graph.node:
        node.input[:] = [joined.get(name, name) for name in node.input]
        node.output[:] = [joined.get(name, name) for name in node.output]
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    weights = [w for w in [*graph.initializer, *tail.graph.initializer] if w.name in used]
    out = onnx.helper.make_graph(nodes, graph.name, list(graph.input), list(graph.output), weights)
    result = onnx.helper.make_model(out, opset_imports=list(model.opset_import), ir_version=model.ir_version,
                                    producer_name=model.producer_name, producer_version=model.producer_version)
    onnx.checker.check_model(result, full_check=True)
    return result


def write(source: Path, target: Path, images, tail: Tail | None = None) -> tuple[str, dict]:
    """Writes the refined network and returns its sha256 and how far it is from PyTorch and from its source.

    `images` [x,y,z] are what both are run on; raises where kept outputs differ in a bit, or made ones from PyTorch's.
    """
    import onnx
    tail = (tail or Tail()).eval()
    model = onnx.load(source)
    names = logits_of(model.graph)
    result = refined(model, tail_model(target.parent, tail))
    (target.parent / "tail.onnx").unlink()
    onnx.save(result, target)
    if target.stat().st_size > export.MAX_BYTES:
        raise ValueError(f"{target}: {target.stat().st_size} bytes, more than {export.MAX_BYTES}")
    before = watched(model, names)
    after, worst = export.session(target), {"labels": 0.0, "volumes_relative": 0.0}
    for image in images:
        x = np.ascontiguousarray(image[None, None], dtype=np.float32)
        old = dict(zip([*KEPT, *names], before.run([*KEPT, *names], {"image": x})))
        new = dict(zip([*KEPT, *MADE], after.run([*KEPT, *MADE], {"image": x})))
        for name in KEPT:
            if not np.array_equal(old[name], new[name]):
                raise ValueError(f"{name} is not what it was; nothing was exported")
        with torch.no_grad():
            labels, volumes = (t.numpy() for t in tail(torch.from_numpy(x), *(torch.from_numpy(old[n]) for n in names)))
        worst["labels"] = max(worst["labels"], float((labels != new["labels"]).mean()))
        worst["volumes_relative"] = max(worst["volumes_relative"], float((np.abs(volumes - new["volumes_mm3"]) / (np.abs(volumes) + 100)).max()))
    bad = {k: v for k, v in worst.items() if not v <= LIMITS[k]}
    if bad:
        raise ValueError(f"ONNX and PyTorch disagree: {bad}; nothing was exported")
    return hashlib.sha256(target.read_bytes()).hexdigest(), worst


def watched(model, names):
    """A session of the model that also gives the named values."""
    import onnx
    import onnxruntime
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {o.name for o in copy.graph.output}
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in have)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_cpu_mem_arena = 1, False
    return onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])


def carded(card: dict, sha256: str, measured: dict, differences: dict, commit: str) -> dict:
    """The card of a refined network: the source's, with what it was made of and what was measured of it."""
    first, _, rest = card["version"].partition(".")
    minor, _, rest = rest.partition(".")
    refined = {"from_sha256": card["sha256"], "from_version": card["version"], "by": "python -m firstread_training refine-screening",
               "commit": commit, "refined_minus_pytorch": differences}
    return {**card, "version": f"{first}.{int(minor) + 1}.{rest}", "sha256": sha256, "written": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "output": {**card["output"], "volumes_mm3": f"float32 [{len(L.CODES)}], sum of sharpened probabilities times 8 mm3"},
            "run": {**card["run"], "refined": refined}, "metrics": {**card["metrics"], **measured}}


def dice(path: Path, data: Path, cache: Path, folder: Path | None = None, part: float = 1.0) -> dict:
    """Dice of an exported screening network, as the card has it: the reference heads, and the frozen generated images."""
    from . import evaluate, scans
    from .heldout import Heldout
    run, tables = export.session(path), {"heads": {}, "manual": {}, "generated": {}}

    def add(group, values):
        for name, value in values.items():
            tables[group].setdefault(name, []).append(value)

    def coded(image):
        return np.array(L.CODES)[run.run(["labels"], {"image": image[None, None]})[0]]

    for scan in scans.validation(data, cache, dicom=False):
        if scan.reference is not None:
            image, origin = preprocess.prepare(*scan.load())
            reference, affine = evaluate.nifti_codes(scan)
            add(scan.group, metrics.dice_16(coded(image), evaluate.reference_on_grid(reference, affine, origin)))
    held = config_module.heldout()
    for number in range(len(held["maps"])):
        cases = Heldout(number, data, cache, held["shape"], folder)
        for i in range(max(1, int(held["images_per_map"] * part))):
            case = cases.case("image", i)
            image, where = on_grid(case.image)
            add("generated", evaluate.dice_case({"codes": coded(image)[where]}, case))
    out = {}
    for group, name in (("heads", "dice_heads"), ("generated", "dice_generated")):
        each = np.nanmean(np.array(list(tables[group].values())), 0)
        out |= {f"{name}_sd": float(np.std(each, ddof=1)) if len(each) > 1 else 0.0, f"{name}_n": len(each),
                f"{name}_structures": {k: round(float(np.nanmean(v)), 3) for k, v in tables[group].items()}}
    return {"dice_heads_freesurfer": evaluate.mean_dice(tables["heads"]), "dice_manual": evaluate.mean_dice(tables["manual"]),
            "dice_generated": evaluate.mean_dice(tables["generated"]), **out}


def on_grid(image) -> tuple[np.ndarray, tuple]:
    """A frozen image [x,y,z] in the middle of the server's grid, which is larger and 0 around it, and where it lies there."""
    starts = [(most - n) // 2 for most, n in zip(preprocess.GRID, image.shape)]
    where = tuple(slice(start, start + n) for start, n in zip(starts, image.shape))
    full = np.zeros(preprocess.GRID, np.float32)
    full[where] = image
    return full, where
