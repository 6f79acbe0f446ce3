"""Judges our DICOM objects: dciodvfy against highdicom's own objects, and what highdicom reads of ours.

check.py RESULTS SOURCE SEGMENTATION.nii.gz VOLUMES.csv [FLAIR LESIONS.nii.gz]
RESULTS holds seg.dcm, sr.dcm, pdf.dcm, sc*.dcm; SOURCE the series they were made from. With the series that lesions were
seen on and their map, RESULTS holds seg_lesions.dcm too.
Prints one line of JSON; what is wrong is an exception.
"""

import csv
import glob
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

results, source, nifti, volumes = map(Path, sys.argv[1:5])


def problems(path):
    """Errors of dciodvfy, without what differs from object to object."""
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    lines = (said.stdout + said.stderr).splitlines()
    return {re.sub(r"</[^>]*>|\[[^\]]*\]|<[^<>]*\d[^<>]*>", "", l) for l in lines if l.startswith("Error")}


def images(folder=source):
    read = [pydicom.dcmread(f) for f in sorted(glob.glob(str(folder / "*")))]
    return [d for d in read if "PixelData" in d]


def theirs(folder, src):
    """highdicom's own segmentation, report and capture of the same series."""
    anatomical = Code("91723000", "SCT", "Anatomical Structure")
    algorithm = hd.AlgorithmIdentificationSequence(
        name="a", version="1", family=codes.cid7162.ArtificialIntelligence)
    mask = np.zeros((len(src), src[0].Rows, src[0].Columns), np.uint8)
    mask[2:4, 5:9, 5:9] = 1
    mask[3:5, 11:14, 5:9] = 2
    described = [hd.seg.SegmentDescription(
        n, "hippocampus", anatomical, codes.cid7140.Hippocampus, "AUTOMATIC", algorithm,
        tracking_uid=hd.UID(), tracking_id="a") for n in (1, 2)]
    common = dict(series_instance_uid=hd.UID(), series_number=1, sop_instance_uid=hd.UID(), instance_number=1,
                  manufacturer="a")
    seg = hd.seg.Segmentation(
        src, mask, "BINARY", described, manufacturer_model_name="a", software_versions="1",
        device_serial_number="1", **common)
    device = hd.sr.DeviceObserverIdentifyingAttributes(uid=hd.UID(), name="a")
    context = hd.sr.ObservationContext(hd.sr.ObserverContext(codes.DCM.Device, device))
    volume = hd.sr.Measurement(codes.SCT.Volume, 1.0, codes.UCUM.CubicMillimeter)
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "a"),
        referenced_segment=hd.sr.ReferencedSegment.from_segmentation(seg, 1),
        finding_type=anatomical, measurements=[volume])
    report = hd.sr.MeasurementReport(context, Code("816077007", "SCT", "MR of brain"), [group])
    sr = hd.sr.ComprehensiveSR(src + [seg], report, is_final=False, **{**common, "sop_instance_uid": hd.UID()})
    sc = hd.sc.SCImage.from_ref_dataset(
        src[0], np.zeros((8, 8, 3), np.uint8), "RGB", 8, "PATIENT", patient_orientation=("L", "P"),
        **{**common, "sop_instance_uid": hd.UID()})
    found = {}
    for kind, made in (("seg", seg), ("sr", sr), ("sc", sc)):
        path = folder / f"{kind}.dcm"
        made.save_as(path)
        found[kind] = problems(path)
    # highdicom makes no PDF: of ours dciodvfy must say nothing at all.
    found["pdf"] = set()
    return found


def check_validity(src):
    with tempfile.TemporaryDirectory() as folder:
        allowed = theirs(Path(folder), src)
    for path in sorted(results.glob("*.dcm")):
        kind = re.match("[a-z]+", path.stem).group()
        more = problems(path) - allowed[kind]
        assert not more, f"{path.name}: {more}"


def check_study(src):
    for path in results.glob("*.dcm"):
        ours = pydicom.dcmread(path)
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
                     "StudyTime", "AccessionNumber", "StudyID", "StudyDescription"):
            assert str(ours.get(name, "")) == str(src[0].get(name, "")), f"{path.name}: {name}"
        assert ours.SeriesInstanceUID != src[0].SeriesInstanceUID
        assert ours.SoftwareVersions, path.name
        assert ours.SOPInstanceUID.startswith("2.25."), path.name
        if path.stem == "pdf":
            told_of = {item.ReferencedSOPInstanceUID for item in ours.SourceInstanceSequence}
            assert {image.SOPInstanceUID for image in src} <= told_of, path.name


def check_segmentation(src):
    """Each pixel of each source image has the label of the voxel it lies in."""
    labels = nibabel.load(nifti)
    codes_of = np.asarray(labels.dataobj).astype(np.uint8)
    seg = hd.seg.segread(results / "seg.dcm")
    number_of = {d.SegmentLabel: d.SegmentNumber for d in seg.SegmentSequence}
    names = {row["structure"]: int(row["label"]) for row in csv.DictReader(open(volumes)) if row["label"]}
    code_of = {number_of[n]: c for n, c in names.items() if n in number_of}
    said = compare(src, seg, code_of, codes_of, labels.affine)
    return {**{f"seg_{key}": n for key, n in said.items()},
            "segments": len(seg.SegmentSequence), "frames": int(seg.NumberOfFrames)}


def check_lesion_segmentation():
    """The same of lesions, on the grid of the series that they were seen on."""
    if len(sys.argv) < 7:
        return {}
    flair, nifti_of_lesions = map(Path, sys.argv[5:7])
    labels = nibabel.load(nifti_of_lesions)
    codes_of = (np.asarray(labels.dataobj) > 0).astype(np.uint8)
    seg = hd.seg.segread(results / "seg_lesions.dcm")
    (segment,) = seg.SegmentSequence
    assert segment.SegmentLabel == "white matter lesions"
    src = images(flair)
    series = seg.ReferencedSeriesSequence[0].SeriesInstanceUID
    assert series == src[0].SeriesInstanceUID, "of the series that lesions were seen on"
    said = compare(src, seg, {1: 1}, codes_of, labels.affine)
    return {f"lesion_seg_{key}": n for key, n in said.items()}


def compare(src, seg, code_of, codes_of, affine):
    """Pixels of a segmentation against the labels of the voxels that they lie in."""
    to_index = np.linalg.inv(affine)
    uids = [d.SOPInstanceUID for d in src]
    planes = seg.get_pixels_by_source_instance(uids, segment_numbers=sorted(code_of), ignore_spatial_locations=True,
                                               assert_missing_frames_are_empty=True)
    ours = np.zeros(planes.shape[:3], np.uint8)
    for at, number in enumerate(sorted(code_of)):
        ours[planes[..., at] > 0] = code_of[number]
    wrong = total = 0
    left = right = 0
    for image, plane in zip(src, ours):
        position = np.array(image.ImagePositionPatient, float)
        row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        spacing = np.array(image.PixelSpacing, float)
        r, c = np.mgrid[: image.Rows, : image.Columns]
        lps = position + c[..., None] * spacing[1] * row + r[..., None] * spacing[0] * column
        ras = lps * (-1, -1, 1)
        index = np.rint(ras @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
        inside = np.all((index >= 0) & (index < codes_of.shape), axis=-1)
        expected = np.zeros(plane.shape, np.uint8)
        expected[inside] = codes_of[tuple(index[inside].T)]
        wrong += int((expected != plane).sum())
        total += int((expected > 0).sum())
        left += int(((plane > 0) & (lps[..., 0] > 0)).sum())
        right += int(((plane > 0) & (lps[..., 0] < 0)).sum())
    return {"wrong": wrong, "labelled": total, "left": left, "right": right}


def check_measurements():
    """Every volume, z and percentile of volumes.csv, and no other."""
    sr = hd.sr.srread(results / "sr.dcm")
    content = sr.content
    groups = list(content.get_volumetric_roi_measurement_groups()) + list(content.get_image_measurement_groups())
    rows = {row["structure"]: row for row in csv.DictReader(open(volumes))}
    sides = {"left": codes.cid244.Left, "right": codes.cid244.Right}
    seen = set()
    for group in groups:
        name = group.tracking_identifier
        row = rows[name]
        seen.add(name)
        (volume,) = group.get_measurements(codes.SCT.Volume)
        assert volume.value == float(row["volume_mm3"]), f"{name}: {volume.value} {row['volume_mm3']}"
        assert volume.unit == codes.UCUM.CubicMillimeter
        properties = getattr(volume[0], "ContentSequence", [])
        numbers = {i.name.value: i.value for i in properties if i.ValueType == "NUM"}
        for key, code in (("z", "121416"), ("percentile", "121415")):
            said = row[key]
            assert (code in numbers) == bool(said), f"{name}: {key}"
            if said:
                assert numbers[code] == float(said), f"{name}: {key} {numbers[code]} {said}"
        site = group.finding_sites[0]
        side = sides.get(name.split(" ")[0])
        assert side is None or site.laterality == side, name
        algorithm = [i for i in group[0].ContentSequence if i.name.value == "111001"]
        assert algorithm, name
    missing = {n for n in rows if n not in seen}
    return {"measurements": len(seen), "missing": sorted(missing)}


def check_pdf():
    ours = pydicom.dcmread(results / "pdf.dcm")
    assert ours.Modality == "DOC"
    assert ours.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert bytes(ours.EncapsulatedDocument[: ours.EncapsulatedDocumentLength]).startswith(b"%PDF")


def check_lesions():
    """On which side lesions lie in the segmentation's space, and on which half of the key images."""
    seg = pydicom.dcmread(results / "seg.dcm")
    numbers = [d.SegmentNumber for d in seg.SegmentSequence if d.SegmentLabel == "white matter lesions"]
    seen = {"lesion_left": 0, "lesion_right": 0, "picture_left": 0, "picture_right": 0}
    shared = seg.SharedFunctionalGroupsSequence[0]
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence):
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber in numbers:
            position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
            r, c = np.nonzero(frame)
            x = position[0] + c * spacing[1] * row[0] + r * spacing[0] * column[0]
            seen["lesion_left"] += int((x > 0).sum())
            seen["lesion_right"] += int((x < 0).sum())
    for path in results.glob("sc*.dcm"):
        picture = pydicom.dcmread(path)
        if picture.PatientOrientation[0] != "L":
            continue
        # Columns go to the patient's left: the right half of the picture is the left half of the head.
        marked = np.all(picture.pixel_array == (255, 100, 20), axis=-1)
        half = marked.shape[1] // 2
        seen["picture_right"] += int(marked[:, :half].sum())
        seen["picture_left"] += int(marked[:, half:].sum())
    return seen


src = images()
check_validity(src)
check_study(src)
check_pdf()
print(json.dumps({**check_segmentation(src), **check_lesion_segmentation(), **check_measurements(), **check_lesions()}))
