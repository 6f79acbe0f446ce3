"""Intensities: a mean and a spread for each tissue, and lesions that show against it.

Fully random contrasts teach the network not to care; priors that look like T1, T2, FLAIR and PD spend
most of the images where real scans are.  Values are roughly 0..1 before the acquisition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import labels as L

CONTRASTS = ("t1", "flair", "t2", "pd", "random")

# means per contrast: wm, gm, csf, then tissues outside the brain
_BASE = {
    "t1": dict(wm=0.80, gm=0.53, csf=0.14, bone=0.08, marrow=0.55, fat=0.85, skin=0.6, muscle=0.42, eye=0.15, vessel=0.35, mucosa=0.4, head=0.6),
    "t2": dict(wm=0.40, gm=0.58, csf=0.95, bone=0.06, marrow=0.40, fat=0.55, skin=0.4, muscle=0.22, eye=0.95, vessel=0.15, mucosa=0.7, head=0.4),
    "flair": dict(wm=0.46, gm=0.60, csf=0.10, bone=0.06, marrow=0.40, fat=0.55, skin=0.45, muscle=0.30, eye=0.12, vessel=0.12, mucosa=0.6, head=0.42),
    "pd": dict(wm=0.62, gm=0.75, csf=0.72, bone=0.08, marrow=0.50, fat=0.75, skin=0.6, muscle=0.50, eye=0.72, vessel=0.30, mucosa=0.7, head=0.6),
}
# where deep structures lie between white matter (0) and grey matter (1)
_GREYNESS = {"thalamus": 0.55, "caudate": 0.92, "putamen": 0.8, "pallidum": 0.25, "brain_stem": 0.18, "hippocampus": 0.95,
             "amygdala": 1.0, "accumbens": 0.9, "ventral_dc": 0.3, "cerebellum_wm": 0.08, "cerebellum_cortex": 0.95}


@dataclass
class Style:
    """One contrast: `mean` and `sd` [TISSUE_COUNT], and what lesions do in it."""
    contrast: str
    mean: np.ndarray
    sd: np.ndarray
    texture: np.ndarray  # amplitude of smooth variation inside each tissue


def draw(rng: np.random.Generator, shares: dict) -> Style:
    names = list(shares)
    p = np.array([shares[n] for n in names], float)
    contrast = names[rng.choice(len(names), p=p / p.sum())]
    mean = _random_means(rng) if contrast == "random" else _prior_means(rng, contrast)
    sd = np.full(L.TISSUE_COUNT, 0.0)
    sd[:] = rng.uniform(0.0, 0.035, L.TISSUE_COUNT) if contrast != "random" else rng.uniform(0.0, 0.08, L.TISSUE_COUNT)
    sd[L.SKULL:] = rng.uniform(0.01, 0.12, L.TISSUE_COUNT - L.SKULL)
    texture = np.full(L.TISSUE_COUNT, rng.uniform(0, 0.04))
    texture[L.SKULL:] = rng.uniform(0.02, 0.35, L.TISSUE_COUNT - L.SKULL)
    air = rng.random() < 0.85
    mean[0] = 0.0 if air else rng.uniform(0, 0.15)
    sd[0] = texture[0] = 0.0
    mean[L.AIR] = mean[0]
    return Style(contrast, np.clip(mean, 0, None).astype(np.float32), sd.astype(np.float32), texture.astype(np.float32))


def _random_means(rng) -> np.ndarray:
    return rng.uniform(0, 1, L.TISSUE_COUNT)


def _prior_means(rng, contrast: str) -> np.ndarray:
    b = {k: v + rng.normal(0, 0.03) for k, v in _BASE[contrast].items()}
    # the grey/white contrast differs more between scanners than anything else
    b["gm"] = b["wm"] + (b["gm"] - b["wm"]) * rng.uniform(0.6, 1.35)
    m = np.zeros(L.TISSUE_COUNT)
    for i, name in enumerate(L.CLASS_NAMES):
        if name in _GREYNESS:
            m[i] = b["wm"] + (_GREYNESS[name] + rng.normal(0, 0.12)) * (b["gm"] - b["wm"])
    m[L.WM], m[L.CORTEX] = b["wm"], b["gm"]
    m[[L.LATERAL, L.THIRD, L.FOURTH, L.CSF]] = b["csf"] + rng.normal(0, 0.02, 4)
    m[L.CSF] = b["csf"] + abs(rng.normal(0, 0.05))  # sulcal CSF is mixed with membranes and vessels
    wide = 0.12
    for tissue, key in ((L.SKULL, "bone"), (L.HEAD, "head"), (L.EYES, "eye"), (L.ARTERY, "vessel"), (L.MUSCLE, "muscle"),
                        (L.MUCOSA, "mucosa"), (L.SKIN, "skin"), (L.VEIN, "vessel"), (L.MARROW, "marrow"), (L.FAT, "fat")):
        m[tissue] = b[key] + rng.normal(0, wide if key != "bone" else 0.04)
    if contrast == "t1" and rng.random() < 0.3:  # contrast agent or inflow: bright vessels and mucosa
        m[[L.ARTERY, L.VEIN, L.MUCOSA]] = rng.uniform(0.6, 1.3, 3)
    if rng.random() < 0.3:  # fat suppression
        m[[L.FAT, L.HEAD, L.MARROW, L.SKIN]] *= rng.uniform(0.2, 0.6)
    m[[L.CORD, L.NERVE, L.CHIASM]] = b["wm"] + rng.normal(0, 0.08, 3)
    return m


def lesion_value(rng, style: Style, kind: str) -> float:
    """A lesion's intensity: always at least 0.15 from the white matter it is mostly seen against.

    `kind`: fluid (oedema, demyelination, chronic stroke), cavity (CSF-like), enhancing, blood.
    """
    wm, gm, csf = (float(style.mean[t]) for t in (L.WM, L.CORTEX, L.CSF))
    c = style.contrast
    if c == "random":
        value = rng.uniform(0, 1.2)
    elif kind == "fluid":
        value = {"t1": wm + (csf - wm) * rng.uniform(0.25, 0.8), "t2": max(gm, wm) + rng.uniform(0.12, 0.4),
                 "flair": max(gm, wm) + rng.uniform(0.08, 0.5), "pd": max(gm, wm) + rng.uniform(0.08, 0.3)}[c]
    elif kind == "cavity":
        value = csf + rng.normal(0, 0.06)
    elif kind == "enhancing":
        value = wm + rng.uniform(0.15, 0.6) if c == "t1" else lesion_value(rng, style, "fluid")
    else:
        value = rng.choice([rng.uniform(0.0, 0.25), max(wm, gm) + rng.uniform(0.15, 0.5)])
    if abs(value - wm) < 0.15:
        value = wm + np.copysign(0.15 + rng.uniform(0, 0.1), value - wm if value != wm else 1.0)
    return float(max(value, 0.0))
