"""Synthetic studies for the demo and for tests: DICOM series of heads that nobody has.

Every head comes from the generator (training maps, fixed seeds), so the same command gives the same
pictures.  Names are fictitious; UIDs live under 2.25 and are derived from the study's name.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from . import maps, nonhead, preprocess
from .generator import Generator, GeneratorConfig

SHAPE = (96, 112, 96)
STORED_PER_UNIT = 700


@dataclass
class Study:
    name: str
    kind: str  # a pathology, "healthy" or "rods"
    person: str
    seed: int
    patient: str
    sex: str
    age: int
    priority: str
    flair: bool = False
    syntax: str = "JPEG2000Lossless"  # pydicom's name of the transfer syntax


STUDIES = (
    Study("one", "healthy", "a_lr_07", 11, "SAMPLE^ONE", "F", 34, "ROUTINE"),
    Study("two", "tumour", "b_merged_03", 4, "SAMPLE^TWO", "M", 58, "ROUTINE", flair=True),
    Study("three", "wm_lesions", "a_lr_09", 21, "SAMPLE^THREE", "F", 41, "HIGH", flair=True),
    Study("four", "ventricles", "b_merged_11", 31, "SAMPLE^FOUR", "M", 73, "ROUTINE", syntax="JPEGLSLossless"),
    Study("five", "stroke", "a_lr_02", 41, "SAMPLE^FIVE", "F", 66, "STAT"),
    Study("phantom", "rods", "", 51, "SAMPLE^PHANTOM", "O", 0, "ROUTINE", syntax="RLELossless"),
)


def uid(*parts) -> str:
    """A stable UID under 2.25 (a 128-bit number derived from the parts)."""
    return "2.25." + str(int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:16], "big"))


def picture(study: Study, contrast: str, cache: Path, data: Path, person=None) -> np.ndarray:
    """Stored values int16 [x,y,z] at 2 mm of one study in one contrast."""
    if study.kind == "rods":
        gen = warp.generator(study.seed)
        image, _ = nonhead.draw(np.random.default_rng(study.seed), gen, SHAPE, "rods")
        image = (image + 0.01 * torch.randn(SHAPE, generator=gen)).abs().numpy()
        return np.clip(image * STORED_PER_UNIT, 0, 4095).astype(np.int16)
    kinds = {study.kind if study.kind != "healthy" else "wm_lesions": 1.0}
    config = GeneratorConfig(shape=SHAPE, contrasts={contrast: 1.0}, kinds=kinds, stripped=0.0, defaced=0.0, cropped=0.0,
                             ghosted=0.0, nonhead=0.0, centre_sd_mm=(0.0, 0.0, 0.0), clean=True)
    people = [person] if person is not None else maps.load_maps(cache, [study.person], data)
    make = Generator(people, maps.load_shapes(cache, data), config, study.seed)
    case = make.paired(0)[0 if study.kind != "healthy" else 1]
    return np.clip(case.image * STORED_PER_UNIT, 0, 4095).astype(np.int16)


def write_series(folder: Path, study: Study, stored: np.ndarray, contrast: str, number: int, every: int) -> int:
    """One series: axial slices of every `every`-th plane; returns the number of files."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom import uid as syntaxes
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
    planes = range(0, stored.shape[2], every)
    mm = preprocess.SPACING_MM
    origin = -mm * (np.array(stored.shape) - 1) / 2.0
    for i, k in enumerate(planes):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.file_meta.ImplementationClassUID = uid("firstread synthetic")
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = MRImageStorage
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = uid(study.name, contrast, i)
        _patient(d, study)
        _series(d, study, contrast, number, len(planes), every)
        d.InstanceNumber = i + 1
        # rows run to patient left and columns to posterior: x and y of the array are reversed
        d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        d.ImagePositionPatient = [float(-(origin[0] + mm * (stored.shape[0] - 1))), float(-(origin[1] + mm * (stored.shape[1] - 1))), float(origin[2] + mm * k)]
        d.SliceLocation = float(origin[2] + mm * k)
        d.PixelSpacing = [mm, mm]
        d.Rows, d.Columns = stored.shape[1], stored.shape[0]
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
        d.WindowCenter, d.WindowWidth = STORED_PER_UNIT // 2, STORED_PER_UNIT
        d.PixelData = np.ascontiguousarray(stored[::-1, ::-1, k].T.astype("<u2")).tobytes()
        d.compress(getattr(syntaxes, study.syntax), generate_instance_uid=False)
        folder.mkdir(parents=True, exist_ok=True)
        d.save_as(folder / f"{contrast}_{i + 1:03d}.dcm", enforce_file_format=True)
    return len(planes)


def _patient(d, study: Study):
    d.PatientName, d.PatientID = study.patient, f"SAMPLE-{study.name.upper()}"
    d.IssuerOfPatientID = "FIRSTREAD-SAMPLES"
    d.PatientSex, d.PatientAge = study.sex, f"{study.age:03d}Y"
    d.PatientBirthDate = f"{2026 - study.age}0101" if study.age else ""
    d.StudyInstanceUID, d.StudyID = uid(study.name), study.name[:16]
    d.AccessionNumber = f"SAMPLE{STUDIES.index(study) + 1:03d}"
    d.StudyDate, d.StudyTime = "20261120", f"09{STUDIES.index(study) * 7:02d}00"
    d.StudyDescription = "MR Brain" if study.kind != "rods" else "MR quality assurance"
    d.ReferringPhysicianName = ""
    d.RequestedProcedurePriority = study.priority  # (0040,1003)


def _series(d, study: Study, contrast: str, number: int, count: int, every: int):
    t1 = contrast == "t1"
    d.SeriesInstanceUID, d.SeriesNumber = uid(study.name, contrast), number
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = uid(study.name, "frame"), ""
    d.Modality, d.Manufacturer = "MR", "firstread synthetic"
    d.ManufacturerModelName, d.SoftwareVersions = "generator", "1"
    d.InstitutionName = "Synthetic"
    d.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    d.SeriesDescription = "t1_mprage_tra" if t1 else "t2_flair_tra"
    d.ProtocolName = d.SeriesDescription
    d.BodyPartExamined = "BRAIN"
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions = ("GR" if t1 else "SE"), "SK", ""
    d.MRAcquisitionType = "3D" if t1 else "2D"
    d.RepetitionTime, d.EchoTime, d.InversionTime = (2300, 2.9, 900) if t1 else (9000, 120, 2500)
    d.EchoTrainLength, d.FlipAngle, d.MagneticFieldStrength = (1, 9, 3) if t1 else (16, 150, 3)
    d.SliceThickness = preprocess.SPACING_MM if every == 1 else preprocess.SPACING_MM * every * 0.9
    d.SpacingBetweenSlices = preprocess.SPACING_MM * every
    d.PatientPosition, d.ImagesInAcquisition, d.AcquisitionNumber = "HFS", count, 1
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = "20261120"
    d.SeriesTime = d.AcquisitionTime = d.ContentTime = d.StudyTime


def write_all(out: Path, cache: Path, data: Path) -> dict[str, int]:
    """All studies below `out`, one folder each; returns bytes by study."""
    sizes = {}
    for study in STUDIES:
        folder = out / study.name
        write_series(folder, study, picture(study, "t1", cache, data), "t1", 2, 2 if study.kind == "rods" else 1)
        if study.flair:
            write_series(folder, study, picture(study, "flair", cache, data), "flair", 3, 2)
        sizes[study.name] = sum(p.stat().st_size for p in folder.glob("*.dcm"))
    return sizes
