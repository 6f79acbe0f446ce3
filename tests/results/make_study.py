"""Writes a DICOM study of a made head with a bright block on one side: make_study.py HEAD.nii.gz FOLDER left|right

Two series on the head's own oblique sagittal grid: a T1 without the block, and a FLAIR with it, 12 mm cubed and 30 mm
beside the middle plane. Patient and scanner are made up.
"""

import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

head, folder, side = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
image = nibabel.load(head)
grey = np.asarray(image.dataobj).astype(float)
affine = image.affine
index = np.stack(np.meshgrid(*map(np.arange, grey.shape), indexing="ij"), -1)
ras = index @ affine[:3, :3].T + affine[:3, 3]
x = -ras[..., 0] if side == "left" else ras[..., 0]
block = (x >= 24) & (x <= 36) & (abs(ras[..., 1]) <= 6) & (abs(ras[..., 2] - 20) <= 6)
white = 0.5 * grey.max()
grey = np.minimum(grey, white)

# Voxel axes in DICOM's space: x to the patient's left, y to the back.
lps = np.diag([-1, -1, 1, 1]) @ affine
sizes = np.linalg.norm(lps[:3, :3], axis=0)
along = lps[:3, :3] / sizes
study, frame = generate_uid(), generate_uid()
for number, (name, te, tr, ti, values) in enumerate([
    ("T1 MPRAGE", 3, 2000, 900, grey),
    ("FLAIR", 120, 9000, 2500, np.where(block, 8 * white, grey)),
], 1):
    series = generate_uid()
    out = folder / name.replace(" ", "_")
    out.mkdir(parents=True)
    for k in range(values.shape[2]):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = MRImageStorage
        d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = "Made^Up", f"MADE-{side}", "19600101", "F"
        d.PatientAge, d.StudyDate, d.StudyTime, d.AccessionNumber = "060Y", "20200101", "120000", "A1"
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = study, series, frame
        d.StudyID, d.Modality, d.Manufacturer, d.PositionReferenceIndicator = "1", "MR", "made", ""
        d.ReferringPhysicianName, d.StudyDescription = "", "Brain MRI"
        d.SeriesNumber, d.InstanceNumber, d.SeriesDescription, d.ProtocolName = number, k + 1, name, name
        d.BodyPartExamined, d.ImageType = "HEAD", ["ORIGINAL", "PRIMARY", "M", "ND"]
        d.ScanningSequence, d.SequenceVariant, d.ScanOptions, d.MRAcquisitionType = "GR", "SP", "", "3D"
        d.EchoTime, d.RepetitionTime, d.InversionTime, d.EchoTrainLength = te, tr, ti, 1
        d.MagneticFieldStrength, d.SliceThickness = 3, float(sizes[2])
        d.ImagePositionPatient = [f"{v:.8g}" for v in lps @ [0, 0, k, 1]][:3]
        d.ImageOrientationPatient = [f"{v:.9f}" for v in [*along[:, 0], *along[:, 1]]]
        d.PixelSpacing = [f"{sizes[1]:.8g}", f"{sizes[0]:.8g}"]
        d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
        d.Rows, d.Columns = values.shape[1], values.shape[0]
        d.BitsAllocated = d.BitsStored = 16
        d.HighBit = 15
        d.PixelData = values[:, :, k].T.astype("<u2").tobytes()
        d.save_as(out / f"{k:03}.dcm", enforce_file_format=True)
print(study)
