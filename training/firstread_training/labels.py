"""Label codes, network classes and tissues.

*Codes* are FreeSurfer's, with sides.  *Classes* are what the network predicts: left
and right merged, 18 of them.  *Tissues* are what the generator gives an intensity to: the classes and
everything outside the brain.  A prepared map stores, per 1 mm voxel, one byte:
`tissue | SIDE_BIT | HORN_BIT`: right of the mid-sagittal plane; inferior horn of a lateral ventricle.
"""

from __future__ import annotations

import numpy as np

# class index -> left (or unpaired) FreeSurfer code
CLASS_CODES = (0, 2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28)
CLASS_NAMES = (
    "background", "cerebral_wm", "cortex", "lateral_ventricle", "cerebellum_wm", "cerebellum_cortex",
    "thalamus", "caudate", "putamen", "pallidum", "third_ventricle", "fourth_ventricle", "brain_stem",
    "hippocampus", "amygdala", "csf", "accumbens", "ventral_dc")
CLASS_COUNT = len(CLASS_CODES)
RIGHT_OF = {2: 41, 3: 42, 4: 43, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54, 26: 58, 28: 60}
SIDED = tuple(code in RIGHT_OF for code in CLASS_CODES)
# the order of `codes` in the card and of `volumes_mm3`: all left and unpaired codes, then the right ones
CODES = CLASS_CODES + tuple(RIGHT_OF[c] for c in CLASS_CODES if c in RIGHT_OF)
CODE_NAMES = tuple(
    ("left_" + n if s else n) for n, s in zip(CLASS_NAMES, SIDED)) + tuple(
    "right_" + n for n, s in zip(CLASS_NAMES, SIDED) if s)
WM, CORTEX, LATERAL, HIPPOCAMPUS, AMYGDALA, CSF = 1, 2, 3, 13, 14, 15
THALAMUS, VENTRAL_DC = 6, 17
THIRD, FOURTH, BRAIN_STEM, CEREBELLUM_WM, CEREBELLUM_CORTEX = 10, 11, 12, 4, 5
VENTRICLE_CSF_CLASSES = (LATERAL, THIRD, CSF)
# the volumetry network also tells the inferior horns from their ventricles
HORN_CLASS = CLASS_COUNT
VOLUMETRY_CODES = CLASS_CODES + (5,)
VOLUMETRY_NAMES = CLASS_NAMES + ("inferior_lateral_ventricle",)
VOLUMETRY_RIGHT_OF = {**RIGHT_OF, 5: 44}
def codes_with_sides(left: tuple, right_of: dict) -> tuple:
    """The order of a card's `codes`: all left and unpaired codes, then the right ones."""
    return left + tuple(right_of[c] for c in left if c in right_of)


VOLUMETRY_ALL = codes_with_sides(VOLUMETRY_CODES, VOLUMETRY_RIGHT_OF)
VOLUMETRY_ALL_NAMES = tuple(("left_" + n if c in VOLUMETRY_RIGHT_OF else n) for c, n in zip(VOLUMETRY_CODES, VOLUMETRY_NAMES)) + tuple(
    "right_" + n for c, n in zip(VOLUMETRY_CODES, VOLUMETRY_NAMES) if c in VOLUMETRY_RIGHT_OF)
# the 16 structures of every Dice table, as classes
DICE_CLASSES = tuple(i for i, c in enumerate(CLASS_CODES) if c not in (0, 24))

# tissues beyond the classes; the a_lr maps know many, the b_merged maps only skull, head and eyes
SKULL, HEAD, EYES, AIR, ARTERY, MUSCLE, MUCOSA, SKIN, CORD, VEIN, MARROW, NERVE, CHIASM, FAT = range(18, 32)
# painted by the generator
LESION_A, LESION_B, LESION_C, COLLECTION = range(32, 36)
TISSUE_COUNT = 36
SIDE_BIT = 64
HORN_BIT = 128  # beside the lateral ventricle's tissue: its inferior horn

# source codes of the label maps -> tissue (left and right alike)
_FOLD = {
    41: 2, 42: 3, 43: 4, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 58: 26, 60: 28,
    5: 4, 44: 4, 31: 4, 63: 4, 136: 4, 137: 4, 163: 4, 164: 4, 25: 2, 57: 2, 30: 2, 62: 2, 77: 2,
    251: 2, 252: 2, 253: 2, 254: 2, 255: 2, 72: 24}
_OUTSIDE = {
    165: SKULL, 515: SKULL, 258: HEAD, 507: FAT, 259: EYES, 506: EYES, 502: ARTERY, 508: MUSCLE,
    509: MUCOSA, 511: SKIN, 512: CORD, 514: VEIN, 516: MARROW, 530: NERVE, 85: CHIASM, 80: 0}
HORN_SOURCE = (5, 44)
LEFT_SOURCE = (2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 17, 18, 25, 26, 28, 30, 136, 137)
RIGHT_SOURCE = (41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 57, 58, 60, 62, 163, 164)


def tissue_table() -> np.ndarray:
    """Lookup [1024] from a source code to its tissue; unknown codes become head tissue."""
    table = np.full(1024, HEAD, np.uint8)
    for i, code in enumerate(CLASS_CODES):
        table[code] = i
    for source, code in _FOLD.items():
        table[source] = CLASS_CODES.index(code)
    for source, tissue in _OUTSIDE.items():
        table[source] = tissue
    return table
