"""Batches from worker processes, in an order that does not depend on them.

Batch n is a function of (config, seed, n): worker n modulo the number of workers makes it.  On a GPU the
workers generate there too (a case costs a thousand small kernels, so several workers keep one GPU busy)
and hand over packed bytes: image fp16, class, side and lesion in one byte a voxel.
"""

from __future__ import annotations

import itertools
import queue

import torch
import torch.multiprocessing as mp

from . import labels as L, maps, warp
from .generator import IGNORE, Case, Generator

QUEUE_BATCHES = 3
LOOK_SECONDS = 5  # how often a worker that gives nothing is looked at
# one byte: class 0..30 (31: not scored), side in bit 5, lesion in bits 6 and 7 (2: not scored)
CLASS_BITS, SIDE_AT, LESION_AT = 31, 5, 6


def build_generator(cfg, cache, data, people=None, seed=None, coarse: bool = False) -> Generator:
    names = people or cfg.training_people()
    return Generator(maps.load_maps(cache, names, data), maps.load_shapes(cache, data), cfg.coarse if coarse else cfg.generator,
                     cfg.seed if seed is None else seed)


def pack(case: Case, horns: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Image fp16 and one byte a voxel; `horns` keeps the inferior horns apart."""
    classes = torch.where(case.horn, torch.full_like(case.classes, L.HORN_CLASS), case.classes) if horns else case.classes
    classes = torch.where(classes == IGNORE, torch.full_like(classes, CLASS_BITS), classes)
    side = (case.side == 1).to(torch.uint8)
    lesion = torch.where(case.lesion == IGNORE, torch.full_like(case.lesion, 2), case.lesion)
    return case.image.half(), classes | (side << SIDE_AT) | (lesion << LESION_AT)


def unpack(image, target, abnormal, head, device) -> tuple[torch.Tensor, dict]:
    """A batch on the device: image [B,1,X,Y,Z] float32 and the targets of `losses`."""
    image, target = image.to(device, non_blocking=True)[:, None].float(), target.to(device, non_blocking=True)
    classes = target & CLASS_BITS
    sided = torch.tensor([*L.SIDED, True] + [False] * (CLASS_BITS - L.CLASS_COUNT), device=target.device)
    ignored = torch.full_like(target, IGNORE)
    side = torch.where(sided[classes.long()], (target >> SIDE_AT) & 1, ignored)
    lesion = target >> LESION_AT
    return image, {"classes": torch.where(classes == CLASS_BITS, ignored, classes), "side": side,
                   "lesion": torch.where(lesion == 2, ignored, lesion),
                   "abnormal": abnormal.to(device), "head": head.to(device)}


def make_batch(make: Generator, first: int, count: int, horns: bool):
    """Cases first, first + 1, ... as stacked tensors on the CPU."""
    rows = [make.tensors(first + i) for i in range(count)]
    images, targets = zip(*(pack(case, horns) for case in rows))
    truth = lambda key: torch.tensor([getattr(case, key) for case in rows], device="cpu")
    return torch.stack(images).cpu(), torch.stack(targets).cpu(), truth("abnormal"), truth("head")


def turns(first: int, worker: int, workers: int):
    """The batches of one worker from `first` on: those whose number leaves `worker` when divided by `workers`."""
    return itertools.count(first + (worker - first) % workers, workers)


def _produce(job, worker, workers, first, out, stop):
    torch.set_num_threads(1)
    cfg, cache, data, coarse, device, count, rank, world = job
    if device.startswith("cuda"):
        torch.set_default_device(device)
    make = build_generator(cfg, cache, data, coarse=coarse)
    for n in turns(first, worker, workers):
        if stop.is_set():
            return
        out.put((n, make_batch(make, (n * world + rank) * count, count, cfg.model.kind == "volumetry")))


class Feed:
    """A process's batches in order from batch `first` on; `workers` 0 makes them in this process (tests)."""

    def __init__(self, cfg, cache, data, first: int, count: int, rank: int = 0, world: int = 1, workers: int = 1, device: str = "cpu", coarse: bool = False):
        self.next, self.job = first, (cfg, cache, data, coarse, device, count, rank, world)
        self.workers = []
        if workers == 0:
            self.make = build_generator(cfg, cache, data, coarse=coarse)
            return
        ctx = mp.get_context("spawn")
        self.stop, self.queues = ctx.Event(), [ctx.Queue(QUEUE_BATCHES) for _ in range(workers)]
        for i, out in enumerate(self.queues):
            self.workers.append(ctx.Process(target=_produce, args=(self.job, i, workers, first, out, self.stop), daemon=True))
            self.workers[-1].start()

    def take(self):
        cfg, _, _, _, _, count, rank, world = self.job
        if self.workers:
            n, batch = self._from(self.next % len(self.queues))
            if n != self.next:
                raise RuntimeError(f"batch {n} came instead of {self.next}")
        else:
            batch = make_batch(self.make, (self.next * world + rank) * count, count, cfg.model.kind == "volumetry")
        self.next += 1
        return batch

    def _from(self, number: int):
        """The next batch of a worker; raises RuntimeError where it died, which would be waited for for ever."""
        while True:
            try:
                return self.queues[number].get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if not self.workers[number].is_alive():
                    raise RuntimeError(f"worker {number}, which makes cases, ended with {self.workers[number].exitcode}; its own words are above") from None

    def close(self):
        if self.workers:
            self.stop.set()
            for worker in self.workers:
                worker.terminate()
            for worker in self.workers:
                worker.join()
