"""A webhook receiver for tests: keeps what it gets, answers as a file says.

Usage: http_server.py FOLDER PORT [tls]
Each request is a line of JSON in FOLDER/requests.jsonl, with what FOLDER/secret makes of its signature.
FOLDER/answer, read at each request, holds a status ("500"), several that are used up in turn
("500 500 200"), "hang" (take it, say nothing), or "drop" (take it, close); empty is 200.
FOLDER/delay_ms is how long it works on each request before it answers.
With "tls", FOLDER holds cert.pem and key.pem.
"""

import hashlib
import hmac
import json
import pathlib
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER = pathlib.Path(sys.argv[1])
LOCK = threading.Lock()


def signed(headers, body):
    """Whether the signature is right, by the receiver's own reading of the documentation."""
    given = headers.get("X-Firstread-Signature")
    secret = (FOLDER / "secret").read_text() if (FOLDER / "secret").exists() else ""
    if given is None:
        return None
    parts = dict(part.split("=", 1) for part in given.split(","))
    made = hmac.new(secret.encode(), parts["t"].encode() + b"." + body, hashlib.sha256)
    return hmac.compare_digest(parts["v1"], made.hexdigest())


def next_answer():
    file = FOLDER / "answer"
    words = file.read_text().split() if file.exists() else []
    if len(words) > 1:
        file.write_text(" ".join(words[1:]))
    return words[0] if words else "200"


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with LOCK:
            answer = next_answer()
            taken = {
                "method": self.command,
                "path": self.path,
                "headers": {k.lower(): v for k, v in self.headers.items()},
                "body": body.decode(),
                "signed": signed(self.headers, body),
                "answer": answer,
            }
            with (FOLDER / "requests.jsonl").open("a") as file:
                file.write(json.dumps(taken) + "\n")
        if (FOLDER / "delay_ms").exists():
            time.sleep(int((FOLDER / "delay_ms").read_text()) / 1000)
        if answer == "hang":
            time.sleep(3600)
        if answer == "drop":
            self.close_connection = True
            return
        said = json.dumps({"status": answer}).encode()
        self.send_response(int(answer))
        if answer.startswith("3"):
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_PUT = do_OPTIONS = do_POST

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Receiver)
server.daemon_threads = True
if "tls" in sys.argv:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "cert.pem", FOLDER / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
