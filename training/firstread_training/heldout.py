"""The frozen cases of `heldout.toml` and `heldout_calibration.toml`, made on a CPU; kept in a folder where one is given.

They do not depend on the network, so they can be made beside a training (`heldout` command) and be at hand
when it ends.
"""

from __future__ import annotations

import dataclasses
import pickle
from functools import partial
from pathlib import Path

import torch

from . import config as config_module, maps
from .generator import Case, Generator, GeneratorConfig


class Heldout:
    """The cases of one held-out map; `folder` None: made each time they are asked for."""

    def __init__(self, number: int, data: Path, cache: Path, shape, folder: Path | None = None):
        held = config_module.heldout()
        self.number, self.held, self.many, self.folder = number, held, config_module.heldout_calibration(), folder
        self.shape, self.data, self.cache, self.make = tuple(shape), data, cache, None

    def _generator(self, seed: int, shape) -> Generator:
        """The frozen randomisation; loads the map when the first case is made."""
        if self.make is None:
            settings = dataclasses.replace(GeneratorConfig(), **self.held["generator"], nonhead=0.0, same_style=0.6)
            people = maps.load_maps(self.cache, [self.held["maps"][self.number]], self.data)
            self.make = Generator(people, maps.load_shapes(self.cache, self.data), settings, seed)
        self.make.seed, self.make.config.shape = seed, tuple(shape)
        return self.make

    def _kept(self, name: str, make):
        if self.folder is None:
            return make()
        path = self.folder / f"{self.number}-{name}-{'x'.join(map(str, self.shape))}.pickle"
        if path.exists():
            return pickle.loads(path.read_bytes())
        cases = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".part{id(self)}")
        part.write_bytes(pickle.dumps(cases, protocol=5))
        part.rename(path)
        return cases

    def image(self, i: int) -> Case:
        return self._kept(f"image-{i}", lambda: self._generator(self.held["seed"] + self.number, self.shape)(i))

    def pair(self, i: int) -> tuple[Case, Case]:
        return self._kept(f"pair-{i}", lambda: self._generator(self.held["seed"] + self.number, self.shape).paired(10_000 + i))

    def nonhead(self, i: int) -> Case:
        return self._kept(f"nonhead-{i}", lambda: self._generator(self.held["seed"] + self.number, self.shape).nonhead([self.held["seed"], 9, self.number, i]))

    def calibration(self, i: int) -> Case:
        """For the offset of the map."""
        return self._kept(f"calibration-{i}", lambda: self._generator(self.held["calibration_seed"] + 1000 * self.number, self.shape)(i))

    def counted(self, key: str, i: int) -> Case:
        """`key` fit: for the two numbers of the calibration; error: for its error."""
        return self._kept(f"{key}-{i}", lambda: self._generator(self.many[key + "_seed"] + self.number, self.many["shape"])(i))

    def counts(self, part: float = 1.0) -> dict:
        held = {"image": self.held["images_per_map"], "pair": self.held["paired_per_map"], "nonhead": self.held["nonheads"] // len(self.held["maps"]),
                "calibration": self.held["calibration_per_map"], "fit": self.many["fit_per_map"], "error": self.many["error_per_map"]}
        return {k: max(2 if k in ("fit", "error") else 1, int(v * part)) for k, v in held.items()}

    def case(self, kind: str, i: int):
        return self.counted(kind, i) if kind in ("fit", "error") else getattr(self, kind)(i)

    def all(self, part: float = 1.0) -> dict:
        """An iterator of the cases of each kind."""
        return {kind: map(partial(self.case, kind), range(n)) for kind, n in self.counts(part).items()}


def _some(job) -> int:
    """Makes every `stride`-th case from the `first` on; how many."""
    data, cache, folder, first, stride = job
    torch.set_num_threads(1)
    done = 0
    held = config_module.heldout()
    for number in range(len(held["maps"])):
        cases = Heldout(number, data, cache, held["shape"], folder)
        wanted = [(kind, i) for kind, n in cases.counts().items() for i in range(n)]
        for kind, i in wanted[first::stride]:
            cases.case(kind, i)
            done += 1
    return done


def prepare(data: Path, cache: Path, folder: Path, processes: int) -> int:
    """Makes and keeps them all."""
    maps.prepare_all(cache, config_module.heldout()["maps"], data)
    maps.load_shapes(cache, data)
    with torch.multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.map(_some, [(data, cache, folder, i, processes) for i in range(processes)], chunksize=1))
