"""ONNX and its card.  The graph does everything after the input, so the server needs no arithmetic of its own.

Input `image` float32 [1,1,96,112,96]; outputs `labels` uint8 [96,112,96] (index into the card's codes),
`volumes_mm3` float32 [codes], `abnormality` float32 [96,112,96], `p_logit` and `head_logit` float32 [1].
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import labels as L
from . import preprocess
from .answer import answer, right_labels
from .lesions import lesions
from .location import Location
from .refine import refine, unweighted

OPSET = 17
RUNTIME = "onnxruntime 1.24"
MAX_BYTES = 16_000_000
VOXEL_MM3 = preprocess.SPACING_MM ** 3


class Screening(nn.Module):
    """The network with its post-processing, for a fixed grid and batch 1."""

    def __init__(self, net, map_offset: float = 0.0):
        super().__init__()
        self.map_offset = float(map_offset)
        self.net = net
        right_index = [len(L.CLASS_CODES) + [c for c in L.CLASS_CODES if c in L.RIGHT_OF].index(c) if c in L.RIGHT_OF else i
                       for i, c in enumerate(L.CLASS_CODES)]
        self.register_buffer("right", torch.tensor(right_index))
        self.register_buffer("is_sided", torch.tensor([1.0 if s else 0.0 for s in L.SIDED]))
        self.register_buffer("sided", torch.tensor([i for i, s in enumerate(L.SIDED) if s]))

    def forward(self, image):
        out = self.net(image)
        classes = out["classes"][0]
        side = out["side"][0, 0]
        index = classes.argmax(0)
        labels = torch.where(side > 0, self.right[index], index)
        # softmax by hand: the runtime's own over the leading axis took a quarter of the whole network's
        # time, and products with vectors keep no second copy of the probabilities
        e = torch.exp(classes.clamp(-60.0, 60.0)).flatten(1)
        share = 1.0 / e.sum(0)
        total = torch.mv(e, share)
        right = torch.mv(e, share * torch.sigmoid(side).flatten())
        volumes = torch.cat([total - right * self.is_sided, right.index_select(0, self.sided)]) * VOXEL_MM3
        return labels.to(torch.uint8), volumes, torch.sigmoid(out["lesion"][0, 0] - self.map_offset), out["study"], out["head"]


NAMES = ("labels", "volumes_mm3", "abnormality", "p_logit", "head_logit")
VOLUMETRY_NAMES = ("labels", "volumes_voxels", "confidence", "lesion")
VOLUMETRY_MAX_BYTES = 24_000_000
VOLUMETRY_PROPERTIES = {"box": "upright, measuring.py of 2026-11-26"}
TRACED = (64, 64, 64)  # voxels of the grid that the volumetry graph is recorded on


class Volumetry(nn.Module):
    """The volumetry network with its post-processing, batch 1.

    `labels` index the card's codes; `volumes_voxels` are those of `answer.py`; `confidence` is the mean probability
    of the voxels labelled so, 0 where there is none; `lesion` a probability, by the `LesionNet` beside it.
    """

    def __init__(self, net, lesion_net):
        super().__init__()
        self.net, self.lesion_net = net, lesion_net
        self.location = Location()
        right, self.sided = right_labels(L.VOLUMETRY_CODES, L.VOLUMETRY_RIGHT_OF)
        self.register_buffer("right", torch.tensor(right))

    def forward(self, image):
        out = self.net(image)
        side, lesion = out["side"][0, 0], out["lesion"][0, 0]
        image = image[0, 0]
        first = unweighted(out["classes"][0])
        p = refine(self.location(first, side), image)
        labels, volumes, best = answer(p, side, self.right, self.sided)
        means = []
        for i in range(len(L.VOLUMETRY_ALL)):
            own = (labels == i).float()
            means.append((own * best).sum() / own.sum().clamp(min=1.0))
        return labels.to(torch.uint8), volumes, torch.stack(means), lesions(first, lesion, image, self.lesion_net)


def record(model, inputs, path: Path, input_names: list, output_names: list, axes: dict | None = None) -> None:
    """Writes the graph of a module; `axes` names the axes that may have other lengths than the inputs'."""
    extra = {"dynamo": False} if tuple(int(x) for x in torch.__version__.split(".")[:2]) >= (2, 5) else {}
    if axes:
        extra["dynamic_axes"] = axes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, inputs, str(path), input_names=input_names, output_names=output_names,
                          opset_version=OPSET, do_constant_folding=True, **extra)


def mark(path: Path, properties: dict) -> str:
    """Writes properties into an ONNX file and returns its sha256.

    Norms, repeats and calibrations belong to the file's sha256: what the network is fed with must be part of it.
    """
    import onnx
    model = onnx.load(path)
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(model, path: Path, shape=preprocess.GRID, names=NAMES, most: int = MAX_BYTES, traced=None) -> str:
    """Writes the ONNX file of a `Screening` or `Volumetry` and returns its sha256.

    With `traced` the graph is recorded on that smaller grid and takes any: the recording keeps every
    intermediate, 15 GB of them for `refine` on the whole box.
    """
    model = model.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = None if traced is None else {"image": {2: "x", 3: "y", 4: "z"}}
    record(model, torch.zeros(1, 1, *(traced or shape)), path, ["image"], list(names), axes)
    if path.stat().st_size > most:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, more than {most}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def session(path: Path, threads: int = 1):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_cpu_mem_arena = threads, False  # as in the server
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compare(model, path: Path, images) -> dict:
    """Largest differences between PyTorch and ONNX over images [x,y,z]; raises where they disagree."""
    run, model = session(path), model.eval()
    worst = {"labels": 0.0, "volumes_relative": 0.0, "abnormality": 0.0, "p_logit": 0.0, "head_logit": 0.0}
    for image in images:
        x = np.ascontiguousarray(image[None, None], dtype=np.float32)
        with torch.no_grad():
            a = [t.numpy() for t in model(torch.from_numpy(x))]
        b = run.run(list(NAMES), {"image": x})
        worst["labels"] = max(worst["labels"], float((a[0] != b[0]).mean()))
        worst["volumes_relative"] = max(worst["volumes_relative"], float((np.abs(a[1] - b[1]) / (np.abs(a[1]) + 100)).max()))
        worst["abnormality"] = max(worst["abnormality"], float(np.abs(a[2] - b[2]).max()))
        for i, key in ((3, "p_logit"), (4, "head_logit")):
            worst[key] = max(worst[key], float(np.abs(a[i] - b[i]).max()))
    limits = {"labels": 1e-4, "volumes_relative": 1e-3, "abnormality": 5e-3, "p_logit": 5e-3, "head_logit": 5e-3}
    bad = {k: v for k, v in worst.items() if not v <= limits[k]}
    if bad:
        raise ValueError(f"ONNX and PyTorch disagree: {bad}; nothing was exported")
    return worst


def compare_volumetry(model, path: Path, image) -> dict:
    """Largest differences between PyTorch and ONNX on one image [x,y,z]; raises where they disagree."""
    x = np.ascontiguousarray(image[None, None], dtype=np.float32)
    with torch.no_grad():
        a = [t.numpy() for t in model.eval()(torch.from_numpy(x))]
    b = session(path).run(list(VOLUMETRY_NAMES), {"image": x})
    worst = {"labels": float((a[0] != b[0]).mean()), "volumes_relative": float((np.abs(a[1] - b[1]) / (np.abs(a[1]) + 100)).max()),
             "confidence": float(np.abs(a[2] - b[2]).max()), "lesion": float((np.abs(a[3] - b[3]) > 1e-2).mean())}
    limits = {"labels": 1e-4, "volumes_relative": 5e-3, "confidence": 5e-3, "lesion": 1e-4}
    bad = {k: v for k, v in worst.items() if not v <= limits[k]}
    if bad:
        raise ValueError(f"ONNX and PyTorch disagree: {bad}; nothing was exported")
    return worst


def speed(path: Path, volume, affine, threads: int = 2) -> dict:
    """One study from volume to outputs: wall and CPU seconds, and this process's peak memory in MB.

    Call it in a fresh process without PyTorch's buffers; the memory arena is off, as in the server.
    """
    import onnxruntime
    import resource
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_cpu_mem_arena = threads, False
    run = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    out = {}
    started, busy = time.time(), time.process_time()
    image, _ = preprocess.prepare(volume, affine)
    out["preprocess_s"], out["preprocess_cpu_s"] = time.time() - started, time.process_time() - busy
    started, busy = time.time(), time.process_time()
    run.run(None, {"image": image[None, None]})
    out["network_s"], out["network_cpu_s"] = time.time() - started, time.process_time() - busy
    return {**out, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "cores": os.cpu_count()}
