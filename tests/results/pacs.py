"""A PACS that answers as it is told: pacs.py PORT FOLDER ANSWERS_JSON

ANSWERS maps a SOP class name's first letters (or "*") to a status; "commit": 1 (all) or 2 (failed) offers
storage commitment and reports on the same association; "commit": [2, 1] reports on associations of its own to
127.0.0.1 at the port that the file FOLDER.port holds, one after the other, and notes what it is answered in FOLDER.said;
"comment" is the Error Comment of each status; "silent": true never answers; "find": {"matches": N} answers queries with N studies, then with "status" if there is one.
"tls": [CERTIFICATE, KEY, AUTHORITY] speaks TLS to clients of that authority alone.
Prints "ready" once it listens. Stored objects lie in FOLDER.
"""

import json
import ssl
import sys
import threading
import time
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

port, folder, answers = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])


def store(event):
    if answers.get("silent"):
        time.sleep(600)
    name = UID(event.request.AffectedSOPClassUID).name
    for begin, status in answers.items():
        if name.startswith(begin):
            said = Dataset()
            said.Status = status
            said.ErrorComment = answers.get("comment", "told to")
            return said
    data = event.dataset
    data.file_meta = event.file_meta
    data.save_as(folder / f"{data.SOPInstanceUID}.dcm", enforce_file_format=True)
    return answers.get("*", 0)


def report_there(report, kind):
    """On an association of our own, as the provider of the service (PS3.4 J.3.3)."""
    ours = AE(ae_title="PACS")
    ours.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    port = int(folder.with_suffix(".port").read_text())
    assoc = ours.associate("127.0.0.1", port, ae_title="FIRSTREAD", ext_neg=[role])
    assert assoc.is_established
    accepted = assoc.accepted_contexts[0]
    unknown = Dataset()
    unknown.TransactionUID = "1.2.3.4.5"
    said = [f"roles {accepted.as_scu} {accepted.as_scp}"]
    for what in (unknown, report):
        status, _ = assoc.send_n_event_report(what, kind, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
        said.append(f"{status.Status:#06x}")
    assoc.release()
    with folder.with_suffix(".said").open("a") as file:
        print(*said, file=file)


def action(event):
    answered = Dataset()
    asked = event.action_information
    report = Dataset()
    report.TransactionUID = asked.TransactionUID
    report.ReferencedSOPSequence = asked.ReferencedSOPSequence

    def later():
        time.sleep(0.2)
        if isinstance(answers["commit"], list):
            return report_there(report, answers["commit"].pop(0))
        event.assoc.send_n_event_report(
            report, answers["commit"], StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")

    threading.Thread(target=later, daemon=True).start()
    return 0x0000, answered


def find(event):
    told = answers["find"]
    if told.get("silent"):
        time.sleep(600)
    for n in range(told["matches"]):
        found = Dataset()
        found.QueryRetrieveLevel = "STUDY"
        found.PatientID = event.identifier.PatientID
        found.StudyDate = "20240101"
        found.StudyInstanceUID = "../../etc" if told.get("no_uid") else f"1.2.{n + 1}"
        yield 0xFF00, found
    if "status" in told:
        said = Dataset()
        said.Status = told["status"]
        if "comment" in answers:
            said.ErrorComment = answers["comment"]
        yield said, None


ae = AE(ae_title="PACS")
ae.require_called_aet = True
ae.add_supported_context(Verification)
for uid in ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.104.1",
            "1.2.840.10008.5.1.4.1.1.7"):
    syntaxes = ["1.2.840.10008.1.2"] if answers.get("implicit") else ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
    ae.add_supported_context(uid, syntaxes)
if "commit" in answers:
    ae.add_supported_context(StorageCommitmentPushModel)
if "find" in answers:
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
context = None
if "tls" in answers:
    certificate, key, authority = answers["tls"]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
server = ae.start_server(
    ("127.0.0.1", port), block=False, ssl_context=context,
    evt_handlers=[(evt.EVT_C_FIND, find), (evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, action), (evt.EVT_C_ECHO, lambda e: 0)])
print("ready", flush=True)
sys.stdin.read()
