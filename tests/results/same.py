"""Whether two folders hold the same DICOM objects: same.py ONE OTHER

Files are matched by name. Every element must be equal but the dates and times at which the objects were made; of a PDF
its text must be, but for those lines.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pydicom

WHEN = {"InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime"}


def text_of(document):
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(document)
        file.flush()
        said = subprocess.run(["pdftotext", "-layout", file.name, "-"], capture_output=True, text=True, check=True).stdout
    return re.sub(r"Results of .*", "", said)


def elements(dataset):
    for element in dataset:
        if element.keyword in WHEN:
            continue
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                for inner, value in elements(item):
                    yield f"{element.keyword}[{number}].{inner}", value
        elif element.keyword == "EncapsulatedDocument":
            yield "text", text_of(element.value)
        # Of a PDF whose time of making is written differently.
        elif element.keyword != "EncapsulatedDocumentLength":
            yield str(element.tag), element.value


one, other = map(Path, sys.argv[1:3])
names = sorted(p.name for p in one.glob("*.dcm"))
assert names == sorted(p.name for p in other.glob("*.dcm")), names
by_uid = {}
for folder in (one, other):
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        by_uid.setdefault(dataset.SOPInstanceUID, []).append(list(elements(dataset)))
for uid, found in by_uid.items():
    assert len(found) == 2, f"{uid} is in one folder only"
    differ = [a[0] for a, b in zip(*found) if a != b]
    assert len(found[0]) == len(found[1]) and not differ, f"{uid}: {differ[:5]}"
print(f"{len(by_uid)} objects are the same")
