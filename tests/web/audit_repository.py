"""An audit record repository: audit_repository.py PORT CA CERTIFICATE KEY [DIES_AFTER]. Prints its port, then a JSON line a message.

Syslog over TLS with client certificates (RFC 5425): octet counting, header (RFC 5424), and a DICOM audit message whose form
is checked against the schema of PS3.15 A.5.1, transcribed below as tables. With DIES_AFTER it reads so many bytes and is gone.
scripts/check-atna reads with it what rsyslog kept.
"""

import base64
import json
import os
import re
import socket
import ssl
import struct
import sys
import xml.etree.ElementTree as ET

CODED = {"csd-code": True, "codeSystemName": True, "displayName": False, "originalText": True}


def one_of(words):
    return lambda value: value in words.split()


def numbers(last):
    return lambda value: value in [str(n) for n in range(1, last + 1)]


def coded(least, most, name):
    return (name, least, most, {"attributes": CODED, "children": []})


def binary(value):
    base64.b64decode(value, validate=True)
    return True


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)").fullmatch
MANY = 10**6
# attributes: required or not, or a check, which makes it required; "?" before a name makes it optional. children: in order
EVENT = {
    "attributes": {"?EventActionCode": one_of("C R U D E"), "EventDateTime": TIME, "EventOutcomeIndicator": one_of("0 4 8 12")},
    "children": [
        coded(1, 1, "EventID"), coded(0, MANY, "EventTypeCode"),
        ("EventOutcomeDescription", 0, 1, {"attributes": {}, "children": [], "text": True}),
    ],
}
PARTICIPANT = {
    "attributes": {
        "UserID": True, "AlternativeUserID": False, "UserName": False, "UserIsRequestor": one_of("true false"),
        "NetworkAccessPointID": False, "?NetworkAccessPointTypeCode": numbers(5),
    },
    "children": [
        coded(0, MANY, "RoleIDCode"),
        ("MediaIdentifier", 0, 1, {"attributes": {}, "children": [coded(1, 1, "MediaType")]}),
    ],
}
SOURCE = {
    "attributes": {"AuditEnterpriseSiteID": False, "AuditSourceID": True},
    "children": [("AuditSourceTypeCode", 0, MANY, {"attributes": {"csd-code": numbers(9)}, "children": []})],
}
OBJECT = {
    "attributes": {
        "ParticipantObjectID": True, "?ParticipantObjectTypeCode": numbers(4), "?ParticipantObjectTypeCodeRole": numbers(26),
        "?ParticipantObjectDataLifeCycle": numbers(15), "ParticipantObjectSensitivity": False,
    },
    "children": [
        coded(1, 1, "ParticipantObjectIDTypeCode"),
        ("ParticipantObjectName|ParticipantObjectQuery", 1, 1, {"attributes": {}, "children": [], "text": True}),
        ("ParticipantObjectDetail", 0, MANY, {"attributes": {"type": True, "value": binary}, "children": []}),
    ],
}
MESSAGE = {
    "attributes": {},
    "children": [
        ("EventIdentification", 1, 1, EVENT), ("ActiveParticipant", 1, MANY, PARTICIPANT),
        ("AuditSourceIdentification", 1, 1, SOURCE), ("ParticipantObjectIdentification", 0, MANY, OBJECT),
    ],
}


def check(element, form):
    for name, rule in form["attributes"].items():
        value = element.get(name.lstrip("?"))
        if value is None:
            assert name.startswith("?") or rule is False, f"{element.tag} has no {name}"
        elif callable(rule):
            assert rule(value), f"{element.tag}: {name} is {value!r}"
    known = {name.lstrip("?") for name in form["attributes"]}
    assert set(element.attrib) <= known, f"{element.tag}: {set(element.attrib) - known}"
    assert form.get("text") or not (element.text or "").strip(), f"{element.tag} has text"
    rest = list(element)
    for name, least, most, inner in form["children"]:
        n = 0
        while rest and rest[0].tag in name.split("|"):
            child, n = rest.pop(0), n + 1
            check(child, inner)
            if child.tag == "ParticipantObjectQuery":
                binary(child.text or "")
        assert least <= n <= most, f"{element.tag} has {n} {name}"
    assert not rest, f"{element.tag}: {rest[0].tag} has no place there"


HEADER = re.compile(
    r"<(?P<priority>\d{1,3})>1 (?P<at>\S+) (?P<node>[!-~]{1,255}) (?P<program>[!-~]{1,48}) (?P<pid>[!-~]{1,128}) "
    r"(?P<kind>[!-~]{1,32}) - \ufeff(?P<xml>.*)", re.S)


def code(element):
    return [element.get("csd-code"), element.get("codeSystemName")]


def read(message):
    header = HEADER.fullmatch(message.decode("utf-8")).groupdict()
    assert TIME(header["at"]), header["at"]
    xml = header.pop("xml")
    root = ET.fromstring(xml)
    assert root.tag == "AuditMessage"
    check(root, MESSAGE)
    event = root.find("EventIdentification")
    objects = root.findall("ParticipantObjectIdentification")
    details = {d.get("type"): base64.b64decode(d.get("value")).decode() for d in objects[-1].findall("ParticipantObjectDetail")}
    return {
        **header, "xml": xml, "bytes": len(message), "action": event.get("EventActionCode"), "outcome": event.get("EventOutcomeIndicator"),
        "event": code(event.find("EventID")), "types": [code(t) for t in event.findall("EventTypeCode")],
        "users": [p.get("UserID") for p in root.findall("ActiveParticipant")],
        "from": root.find("ActiveParticipant").get("NetworkAccessPointID"),
        "source": root.find("AuditSourceIdentification").attrib,
        "objects": [[code(o.find("ParticipantObjectIDTypeCode")), o.get("ParticipantObjectID")] for o in objects],
        "seq": int(objects[-1].get("ParticipantObjectID")), "details": details,
    }


def frames(data):
    while data:
        length, data = data.split(b" ", 1)
        assert re.fullmatch(rb"[1-9]\d*", length), length
        yield data[: int(length)]
        assert len(data) >= int(length), "cut off"
        data = data[int(length):]


def main():
    port, ca, certificate, key = sys.argv[1:5]
    dies_after = int(sys.argv[5]) if len(sys.argv) > 5 else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", int(port)), reuse_port=False)
    print(listener.getsockname()[1], flush=True)
    while True:
        plain, _ = listener.accept()
        plain.settimeout(20)
        try:
            stream = context.wrap_socket(plain, server_side=True)
        except (ssl.SSLError, OSError):
            plain.close()
            continue
        received = b""
        while part := stream.recv(65536 if dies_after is None else 1000):
            received += part
            if dies_after is not None and len(received) >= dies_after:
                plain = stream.detach()
                gone = socket.socket(fileno=plain)
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                gone.close()
                os._exit(0)
        for message in frames(received):
            print(json.dumps(read(message)), flush=True)
        try:
            stream.unwrap()
        except (ssl.SSLError, OSError):
            pass
        stream.close()


if __name__ == "__main__":
    main()
