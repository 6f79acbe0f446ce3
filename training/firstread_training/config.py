"""One TOML file a run; unknown keys are errors, so a typing mistake cannot pass as a default."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from .generator import GeneratorConfig
from .maps import all_names

TRAINING_FOLDER = Path(__file__).resolve().parents[1]


@dataclass
class ModelConfig:
    kind: str = "screening"  # or "volumetry", or "lesions" (which needs no widths: it rests on the trained volumetry network)
    widths: tuple = (32, 64, 96, 112)
    thin: int = 8


@dataclass
class TrainConfig:
    learning_rate: float = 3e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.999
    batch: int = 2  # cases a step; two are a pair, whose common part cancels in the gradient
    coarse_steps: int = 0  # volumetry: so many first steps on the [coarse] generator's 2 mm images
    coarse_batch: int = 8
    fine_every: int = 1  # one step in so many also trains the 2 mm branch
    checkpoint_minutes: float = 3.0


@dataclass
class Config:
    name: str
    seed: int = 1
    people: tuple = ()  # empty: every map that is not held out
    model: ModelConfig = field(default_factory=ModelConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    coarse: GeneratorConfig = field(default_factory=GeneratorConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def training_people(self) -> list[str]:
        held = set(heldout()["maps"])
        names = list(self.people) or all_names()
        return [n for n in names if n not in held]


def _fill(cls, table: dict, where: str):
    known = {f.name: f for f in dataclasses.fields(cls)}
    for key in table:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})


def load(path) -> Config:
    table = tomllib.loads(Path(path).read_text())
    parts = {"model": ModelConfig, "generator": GeneratorConfig, "coarse": GeneratorConfig, "train": TrainConfig}
    for key, cls in parts.items():
        table[key] = _fill(cls, table.get(key, {}), f"{path}: [{key}]")
    return _fill(Config, table, str(path))


def heldout() -> dict:
    return tomllib.loads((TRAINING_FOLDER / "heldout.toml").read_text())


def heldout_calibration() -> dict:
    return tomllib.loads((TRAINING_FOLDER / "heldout_calibration.toml").read_text())
