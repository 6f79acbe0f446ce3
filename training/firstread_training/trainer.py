"""Trains one network from one config: batches from worker processes, checkpoints, a log line now and then."""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import torch

from . import checkpoint, config as config_module, losses, maps
from .feed import Feed, unpack
from .network import ScreeningNet, fitting
from .lesion_stage import LesionStage
from .volumetry import VolumetryNet

LOG_EVERY = 20
COLUMNS = ("step", "seconds", "lr", "seg", "seg4", "dice", "side", "lesion", "lesion4", "study", "pair", "head")


def commit_id() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True,
                              cwd=Path(__file__).parent).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def build_net(cfg):
    """The network of a config, untrained."""
    if cfg.model.kind == "lesions":
        return LesionStage()
    kinds = {"screening": ScreeningNet, "volumetry": VolumetryNet}
    return kinds[cfg.model.kind](tuple(cfg.model.widths), cfg.model.thin)


class Trainer:
    def __init__(self, cfg, config_text: str, run: Path, cache: Path, data: Path, device="cpu", workers: int = 1):
        self.cfg, self.config_text, self.run, self.cache, self.data = cfg, config_text, run, cache, data
        self.device, self.workers = torch.device(device), workers
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        torch.manual_seed(cfg.seed)
        self.net = build_net(cfg).to(self.device)
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=cfg.train.learning_rate, betas=(0.9, 0.99),
                                           weight_decay=cfg.train.weight_decay)
        self.step, self.seconds = 0, 0.0
        self.fade = 1.0  # of the learning rate, over the last share of a timed run

    def state(self) -> dict:
        return {"step": self.step, "seconds": self.seconds, "model": self.net.state_dict(), "ema": self.ema,
                "optimizer": self.optimizer.state_dict(), "config_text": self.config_text, "commit": commit_id()}

    def restore(self, state: dict) -> None:
        self.net.load_state_dict(fitting(self.net, state["model"]))
        self.ema = {k: v.to(self.device) for k, v in fitting(self.net, state["ema"]).items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def learning_rate(self) -> float:
        t = self.cfg.train
        return t.learning_rate * self.fade * min(1.0, (self.step + 1) / t.warmup_steps)

    def coarse(self) -> bool:
        """Whether the next step is one of the first, on the coarse grid (volumetry)."""
        return self.step < self.cfg.train.coarse_steps

    def one_step(self, batch) -> dict:
        """One update from a batch of `feed.make_batch`; the values to log, still tensors."""
        image, targets = unpack(*batch, self.device)
        fine = self.step % self.cfg.train.fine_every == 0 if self.cfg.model.kind == "screening" else not self.coarse()
        return self.learn(lambda: self.net(image, fine), targets)

    def learn(self, forward, targets) -> dict:
        """One update from what `forward` gives (a dict of logits) against the targets."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            out = forward()
        terms = losses.KINDS[self.cfg.model.kind](out, targets, self.step)
        losses.total(terms).backward()
        if self.world > 1:
            self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.cfg.train.clip)
        if math.isfinite(float(norm)):
            self.optimizer.step()
        self.step += 1
        decay = min(self.cfg.train.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            new = self.net.state_dict()
            averages = [self.ema[k] for k in new]
            torch._foreach_mul_(averages, decay)
            torch._foreach_add_(averages, list(new.values()), alpha=1 - decay)
        return {k: v.detach() for k, v in terms.items()}

    def _average_gradients(self):
        import torch.distributed as dist
        for p in self.net.parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            dist.all_reduce(p.grad)
            p.grad /= self.world

    def _agreed(self, left: float) -> float:
        """The first process's share of the time that is left: with clocks of their own the others would stop at other steps, and learn at other rates."""
        if self.world > 1:
            import torch.distributed as dist
            told = torch.tensor([left], device=self.device)
            dist.broadcast(told, 0)
            left = float(told)
        return left

    def _feed(self, coarse: bool) -> Feed:
        t = self.cfg.train
        first = self.step if coarse else max(self.step, t.coarse_steps)
        return Feed(self.cfg, self.cache, self.data, first, t.coarse_batch if coarse else t.batch, self.rank, self.world, self.workers, str(self.device), coarse)

    def fit(self, steps: int | None = None, minutes: float | None = None, decay_share: float = 0.0) -> None:
        """Trains until `steps` in all are done or `minutes` are over; the rate falls over the last share of the minutes."""
        # both from the start: a feed needs seconds to begin
        feeds = {coarse: self._feed(coarse) for coarse in {self.coarse(), False}}
        started = last_save = mark = time.time()
        recent, asked = {}, []
        before = signal.signal(signal.SIGTERM, lambda *_: asked.append(1))  # a polite kill saves first
        try:
            while steps is None or self.step < steps:
                left = self._agreed(0.0 if asked else 1.0 if minutes is None else 1 - (time.time() - started) / (60 * minutes))
                if left <= 0:
                    break
                if not self.coarse() and True in feeds:
                    feeds.pop(True).close()
                if minutes is not None and decay_share > 0:
                    self.fade = min(1.0, max(0.01, left / decay_share))
                for key, value in self.one_step(feeds[self.coarse()].take()).items():
                    recent.setdefault(key, []).append(value)
                now = time.time()
                self.seconds += now - mark
                mark = now
                if self.step % LOG_EVERY == 0 and self.rank == 0:
                    self.log(recent)
                    recent = {}
                if now - last_save > 60 * self.cfg.train.checkpoint_minutes and self.rank == 0:
                    checkpoint.save(self.run / "last.pt", self.state())
                    last_save = now
        finally:
            for feed in feeds.values():
                feed.close()
            signal.signal(signal.SIGTERM, before)
        if self.rank == 0:
            checkpoint.save(self.run / "last.pt", self.state())

    def log(self, recent: dict) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        path = self.run / "log.csv"
        new = not path.exists()
        row = {"step": self.step, "seconds": round(self.seconds, 1), "lr": f"{self.learning_rate():.2e}"}
        row.update({k: round(float(torch.stack(v).float().nanmean()), 4) for k, v in recent.items()})
        with open(path, "a", newline="") as f:
            writer = csv.DictWriter(f, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(" ".join(f"{k} {v}" for k, v in row.items()), flush=True)


def start(config_path: Path, runs: Path, cache: Path, data: Path, device="cpu", workers: int = 1, resume=True) -> Trainer:
    """A trainer for a config: resumed from its run folder, else from the repository's compact checkpoint, else new."""
    cfg = config_module.load(config_path)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import torch.distributed as dist
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    maps.prepare_all(cache, cfg.training_people(), data, os.cpu_count() or 1)
    trainer = Trainer(cfg, Path(config_path).read_text(), runs / cfg.name, cache, data, device, workers)
    full = runs / cfg.name / "last.pt"
    small = config_module.TRAINING_FOLDER / "checkpoints" / f"{cfg.name}.pt"
    if resume and full.exists():
        trainer.restore(checkpoint.load(full))
    elif resume and small.exists():
        trainer.restore(checkpoint.expand(checkpoint.load(small)))
    return trainer
