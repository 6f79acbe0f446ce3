"""The peers that firstread's HL7 is tested with: python-hl7 sends, hl7apy builds and validates.

    peer.py send HOST PORT [CA CERT KEY]   with files it speaks TLS, and shows its certificate; reads {"kind", "id", "set": [[segment, field, value], ...]} a line: hl7apy builds
                             the message, python-hl7 sends it; prints what the answer says
    peer.py serve [CERT KEY [CA]]   with files it speaks TLS, with CA to clients with a certificate alone; prints {"port"}; reads {"answer": AA|AE|AR|CA|wrong|close|hang, "text": MSA-3} a line, which
                             holds for the messages after it; prints each message with what hl7apy says of it
    peer.py collect MILLISECONDS   as serve, works so long on each message, and says what it took only when it is asked
                             by {"answer": ..., "taken": true}
"""

import asyncio
import json
import ssl
import sys

import hl7
from hl7.client import MLLPClient
from hl7.mllp import start_hl7_server
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.core import Message, Segment
from hl7apy.parser import parse_message, parse_segment


def build(asked):
    """A message by hl7apy; its structure is not checked, as senders' is not."""
    # of a structure that every version has: only its MSH is used
    message = Message("ACK", version=asked.get("version", "2.5.1"))
    message.msh.msh_3, message.msh.msh_4, message.msh.msh_5 = "RIS", "HOSP", "FIRSTREAD"
    message.msh.msh_7, message.msh.msh_9 = "20261126083000", asked["kind"]
    message.msh.msh_10, message.msh.msh_11 = asked["id"], "P"
    segments = {}
    for name, field, value in asked["set"]:
        if name not in segments:
            segments[name] = Segment(name, version=message.version)
        setattr(segments[name], f"{name.lower()}_{field}", value)
    return "\r".join([message.msh.to_er7()] + [s.to_er7() for s in segments.values()]) + "\r"


def validate(text):
    """hl7apy's word on a message: None where it is valid.

    Segments that begin with Z are no part of the standard (2.5.1 2.17) and are only parsed. hl7apy wants all six
    alternatives of the choice in an ORM at once, so an ORM is judged as the OMG^O19 that has the same segments.
    """
    local = [s for s in text.split("\r") if s.startswith("Z")]
    text = "\r".join(s for s in text.split("\r") if not s.startswith("Z"))
    text = text.replace("|ORM^O01^ORM_O01|", "|OMG^O19^OMG_O19|")
    try:
        for segment in local:
            parse_segment(segment, version="2.5.1")
        message = parse_message(text, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
        message.validate()
    except Exception as problem:  # whatever it finds is the answer
        return f"{type(problem).__name__}: {problem}"
    return None


def send(host, port, ca=None, cert=None, key=None):
    with MLLPClient(host, int(port)) as client:
        if ca:
            context = ssl.create_default_context(cafile=ca)
            if cert:
                context.load_cert_chain(cert, key)
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        for line in sys.stdin:
            asked = json.loads(line)
            answer = client.send_message(asked.get("text") or build(asked)).decode("utf-8")
            answer = answer.strip("\x0b\x1c\r") + "\r"
            parsed = hl7.parse(answer)
            said = {
                "code": str(parsed.segment("MSA")[1]),
                "control_id": str(parsed.segment("MSA")[2]),
                "invalid": validate(answer),
                "text": answer,
            }
            print(json.dumps(said), flush=True)


def serve(cert=None, key=None, ca=None):
    context = None
    if cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    asyncio.run(Server().run(context))


def collect(milliseconds):
    asyncio.run(Server(int(milliseconds) / 1000).run(None))


class Server:
    """Takes messages, and answers them as it is told."""

    def __init__(self, work_seconds=None):
        self.work_seconds = work_seconds
        self.taken = []
        self.answer = "AA"
        self.text = None
        self.connections = 0
        self.judged = {}

    async def run(self, context):
        server = await start_hl7_server(self.talk, host="127.0.0.1", port=0, encoding="utf-8", ssl=context)
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            self.answer, self.text = asked["answer"], asked.get("text")
            said = {"connections": self.connections}
            if asked.get("taken"):
                said["taken"], self.taken = self.taken, []
            print(json.dumps(said), flush=True)

    async def talk(self, reader, writer):
        self.connections += 1
        try:
            while not writer.is_closing():
                await self.take(await reader.readmessage(), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def take(self, message, writer):
        text, control_id = str(message), str(message["MSH"][0][10])
        if self.work_seconds is not None:
            self.taken.append({"control_id": control_id, "text": text})
            await asyncio.sleep(self.work_seconds)
            writer.writemessage(message.create_ack("AA"))
            return await writer.drain()
        if text not in self.judged:
            self.judged[text] = validate(text)
        if self.answer == "close":
            writer.close()
        elif self.answer != "hang":
            code = "AA" if self.answer == "wrong" else self.answer
            ack = message.create_ack(code)
            if self.answer == "wrong":
                ack["MSA"][0][2] = "NOT-" + control_id
            if self.text:
                ack.assign_field(self.text, "MSA", 1, 3)
            writer.writemessage(ack)
            await writer.drain()
        said = {
            "connection": self.connections,
            "control_id": control_id,
            "invalid": self.judged[text],
            "text": text,
        }
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    {"send": send, "serve": serve, "collect": collect}[sys.argv[1]](*sys.argv[2:])
