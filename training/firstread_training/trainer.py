"""Trains one network from one config: cases from a worker process, checkpoints, a log line now and then."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import torch
import torch.multiprocessing as mp

from . import checkpoint, config as config_module, losses, maps
from .generator import Generator
from .network import ScreeningNet, fitting

LOG_EVERY = 20
QUEUE_CASES = 6
COLUMNS = ("step", "seconds", "lr", "seg", "seg4", "dice", "side", "lesion", "lesion4", "study", "head")


def commit_id() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True,
                              cwd=Path(__file__).parent).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def build_generator(cfg, cache: Path, data: Path, people=None, seed=None) -> Generator:
    names = people or cfg.training_people()
    return Generator(maps.load_maps(cache, names, data), maps.load_shapes(cache, data), cfg.generator,
                     cfg.seed if seed is None else seed)


def case_index(n: int, rank: int, world: int, accumulate: int) -> int:
    """The n-th case of a process: a step's cases are neighbours (pairs), processes take turns."""
    step, j = divmod(n, accumulate)
    return (step * world + rank) * accumulate + j


def _produce(cfg, cache, data, start, order, queue, stop):
    """Worker: its cases from the `start`-th on, until told to stop."""
    torch.set_num_threads(1)
    make = build_generator(cfg, cache, data)
    n = start
    while not stop.is_set():
        queue.put((n, dataclasses.asdict(make(case_index(n, *order)))))
        n += 1


class Feed:
    """A process's cases in order, from a worker (or inline, for tests); `order` = (rank, world, accumulate)."""

    def __init__(self, cfg, cache, data, start: int, order, inline: bool = False):
        self.next, self.order, self.make = start, order, None
        if inline:
            self.make = build_generator(cfg, cache, data)
            return
        ctx = mp.get_context("spawn")
        self.queue, self.stop = ctx.Queue(QUEUE_CASES), ctx.Event()
        self.worker = ctx.Process(target=_produce, args=(cfg, cache, data, start, order, self.queue, self.stop), daemon=True)
        self.worker.start()

    def take(self) -> dict:
        if self.make is not None:
            case = dataclasses.asdict(self.make(case_index(self.next, *self.order)))
        else:
            n, case = self.queue.get(timeout=1800)
            assert n == self.next, "cases out of order"
        self.next += 1
        return case

    def close(self):
        if self.make is None:
            self.stop.set()
            self.worker.terminate()
            self.worker.join()


def to_tensors(case: dict, device) -> tuple[torch.Tensor, dict]:
    image = torch.from_numpy(case["image"])[None, None].to(device)
    out = dict(case)
    for key in ("classes", "side", "lesion"):
        out[key] = torch.from_numpy(case[key]).to(device)
    return image, out


class Trainer:
    def __init__(self, cfg, config_text: str, run: Path, cache: Path, data: Path, device="cpu", inline=False):
        self.cfg, self.config_text, self.run, self.cache, self.data = cfg, config_text, run, cache, data
        self.device, self.inline = torch.device(device), inline
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        torch.manual_seed(cfg.seed)
        self.net = ScreeningNet(tuple(cfg.model.widths), cfg.model.thin).to(self.device)
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=cfg.train.learning_rate, betas=(0.9, 0.99),
                                           weight_decay=cfg.train.weight_decay)
        self.step, self.seconds = 0, 0.0
        self.decay = None  # (first step, last step) of the final linear decay of the learning rate

    def state(self) -> dict:
        return {"step": self.step, "seconds": self.seconds, "model": self.net.state_dict(), "ema": self.ema,
                "optimizer": self.optimizer.state_dict(), "config_text": self.config_text, "commit": commit_id(),
                "decay": self.decay}

    def restore(self, state: dict) -> None:
        self.net.load_state_dict(fitting(self.net, state["model"]))
        self.ema = {k: v.to(self.device) for k, v in fitting(self.net, state["ema"]).items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.decay = state["step"], state["seconds"], state["decay"]

    def learning_rate(self) -> float:
        t = self.cfg.train
        lr = t.learning_rate * min(1.0, (self.step + 1) / t.warmup_steps)
        if self.decay:
            first, last = self.decay
            lr *= min(1.0, max(0.01, (last - self.step) / max(1, last - first)))
        return lr

    def one_step(self, cases: list[dict]) -> dict:
        """One update from the mean gradient of `cases`; the mean of each logged value."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        logged: dict[str, list] = {}
        for case in cases:
            image, tensors = to_tensors(case, self.device)
            with torch.autocast(self.device.type, torch.bfloat16):
                out = self.net(image, self.step % self.cfg.train.fine_every == 0)
            loss, values = losses.total(out, tensors, self.step)
            (loss / len(cases)).backward()
            for key, value in values.items():
                if value == value:
                    logged.setdefault(key, []).append(value)
        if self.world > 1:
            self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.cfg.train.clip)
        if math.isfinite(float(norm)):
            self.optimizer.step()
        self.step += 1
        decay = min(self.cfg.train.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for key, value in self.net.state_dict().items():
                self.ema[key].lerp_(value, 1 - decay)
        return {k: sum(v) / len(v) for k, v in logged.items()}

    def _average_gradients(self):
        import torch.distributed as dist
        for p in self.net.parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            dist.all_reduce(p.grad)
            p.grad /= self.world

    def fit(self, steps: int | None = None, minutes: float | None = None, decay_share: float = 0.0) -> None:
        """Trains until `steps` in all are done or `minutes` are over; the rate falls over the last share of the minutes."""
        count = self.cfg.train.accumulate
        feed = Feed(self.cfg, self.cache, self.data, self.step * count, (self.rank, self.world, count), self.inline)
        started = last_save = mark = time.time()
        recent, first_step, asked = {}, self.step, []
        before = signal.signal(signal.SIGTERM, lambda *_: asked.append(1))  # a polite kill saves first
        if minutes is not None and decay_share > 0:
            self.decay = None
        try:
            while not asked and (steps is None or self.step < steps) and (minutes is None or time.time() - started < 60 * minutes):
                values = self.one_step([feed.take() for _ in range(count)])
                for key, value in values.items():
                    recent.setdefault(key, []).append(value)
                now = time.time()
                self.seconds += now - mark
                mark = now
                if self.decay is None and minutes is not None and decay_share > 0 and now - started > 60 * minutes * (1 - decay_share):
                    per_step = (now - started) / max(1, self.step - first_step)
                    self.decay = (self.step, self.step + int(60 * minutes * decay_share / per_step))
                if self.step % LOG_EVERY == 0 and self.rank == 0:
                    self._log(recent)
                    recent = {}
                if now - last_save > 60 * self.cfg.train.checkpoint_minutes and self.rank == 0:
                    checkpoint.save(self.run / "last.pt", self.state())
                    last_save = now
        finally:
            feed.close()
            signal.signal(signal.SIGTERM, before)
        if self.rank == 0:
            checkpoint.save(self.run / "last.pt", self.state())

    def _log(self, recent: dict) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        path = self.run / "log.csv"
        new = not path.exists()
        row = {"step": self.step, "seconds": round(self.seconds, 1), "lr": f"{self.learning_rate():.2e}"}
        row.update({k: round(sum(v) / len(v), 4) for k, v in recent.items()})
        with open(path, "a", newline="") as f:
            writer = csv.DictWriter(f, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(" ".join(f"{k} {v}" for k, v in row.items()), flush=True)


def start(config_path: Path, runs: Path, cache: Path, data: Path, device="cpu", inline=False, resume=True) -> Trainer:
    """A trainer for a config: resumed from its run folder, else from the repository's compact checkpoint, else new."""
    cfg = config_module.load(config_path)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import torch.distributed as dist
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    trainer = Trainer(cfg, Path(config_path).read_text(), runs / cfg.name, cache, data, device, inline)
    full = runs / cfg.name / "last.pt"
    small = config_module.TRAINING_FOLDER / "checkpoints" / f"{cfg.name}.pt"
    if resume and full.exists():
        trainer.restore(checkpoint.load(full))
    elif resume and small.exists():
        trainer.restore(checkpoint.expand(checkpoint.load(small)))
    return trainer
