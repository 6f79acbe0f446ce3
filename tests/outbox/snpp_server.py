"""A paging server for tests, by RFC 1861, levels 1 to 3.

Usage: snpp_server.py FOLDER PORT
Each page that was sent is a line of JSON in FOLDER/pages.jsonl, with the commands that made it.
FOLDER/level is the highest level it knows (default 3): commands above it are answered 500.
FOLDER/answer, read at each SEND, may hold a reply that refuses ("554 Error, failed").
FOLDER/reply holds what the pager answers from now on: "1" or "2" (a choice), or text.
Pager numbers are digits; PAGE of anything else is answered 550. LOGI needs "firstread" "correct".
"""

import json
import pathlib
import socketserver
import sys
import threading

FOLDER = pathlib.Path(sys.argv[1])
LOCK = threading.Lock()
LEVELS = {
    1: {"PAGE", "MESS", "RESE", "SEND", "QUIT", "HELP"},
    2: {"DATA", "LOGI", "LEVE", "ALER", "COVE", "HOLD", "CALL", "SUBJ"},
    3: {"2WAY", "PING", "EXPT", "NOQU", "ACKR", "RTYP", "MCRE", "MSTA", "KTAG"},
}
MOMENT = "261126040000+0"


def setting(name, default=""):
    file = FOLDER / name
    return file.read_text().strip() if file.exists() else default


class Pager(socketserver.StreamRequestHandler):
    def handle(self):
        self.reset()
        self.logged_in = False
        self.say("220 SNPP (V3) Gateway Ready")
        while line := self.rfile.readline(600):
            self.commands.append(line.decode().rstrip("\r\n"))
            verb, _, rest = self.commands[-1].partition(" ")
            verb = verb.upper()[:4]
            if verb == "QUIT":
                self.say("221 OK, Goodbye")
                return
            self.do(verb, rest)

    def reset(self):
        self.commands, self.pager, self.message = [], None, None
        self.two_way, self.choices = False, {}

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def do(self, verb, rest):
        known = set().union(*(v for k, v in LEVELS.items() if k <= int(setting("level", "3"))))
        if verb not in known:
            self.say("500 Command Not Implemented, Try Again")
        elif verb in LEVELS[3] - {"2WAY", "MSTA"} and not self.two_way:
            self.say("550 This Command Is For 2-Way Transactions")
        else:
            self.say(getattr(self, f"on_{verb.lower()}".replace("2way", "two_way"))(rest))

    def on_help(self, _):
        return "214 PAGE MESS SEND\r\n250 End of Help"

    def on_rese(self, _):
        self.reset()
        return "250 Reset OK"

    def on_logi(self, rest):
        self.logged_in = rest == "firstread correct"
        return "250 Login Accepted" if self.logged_in else "550 Invalid LoginID or Password"

    def on_page(self, rest):
        if setting("login") and not self.logged_in:
            return "550 Login First"
        if not rest.isdigit():
            return "550 Error, Invalid Pager ID"
        self.pager = rest
        return "850 Unit Online" if self.two_way else "250 Pager ID Accepted"

    def on_mess(self, rest):
        if self.message is not None:
            return "503 Error, Message Already Entered"
        if not rest or len(rest) > 200 or not rest.isascii():
            return "550 Error, Invalid Message"
        self.message = rest
        return "250 Message OK"

    def on_subj(self, rest):
        return "250 Message Subject Accepted"

    def on_aler(self, rest):
        return "250 Alert Override Accepted" if rest in "01" else "550 Invalid Alert Parameter"

    def on_two_way(self, _):
        if self.pager:
            return "550 Standard Transaction Already Underway, Use RESEt"
        self.two_way = True
        return "250 OK, Beginning 2-Way Transaction"

    def on_ackr(self, _):
        return "250 Read Acknowledgment Enabled"

    def on_rtyp(self, rest):
        known = rest in ("NONE", "YESNO", "SIMREPLY", "MULTICHOICE", "TEXT")
        return "250 Reply Type Accepted" if known else "550 Illegal Reply Type"

    def on_mcre(self, rest):
        code, _, text = rest.partition(" ")
        if not self.message:
            return "503 Message First"
        if not (code.isdigit() and len(code) <= 2 and text):
            return "550 Invalid Reply Code"
        self.choices[code] = text
        return "250 Response Added to Transaction"

    def on_send(self, _):
        if not self.pager or self.message is None:
            return "503 Error, Pager ID or Message Incomplete"
        refused = setting("answer")
        if refused:
            return refused
        with LOCK:
            pages = FOLDER / "pages.jsonl"
            tag = len(pages.read_text().splitlines()) + 1 if pages.exists() else 1
            page = {
                "to": self.pager,
                "text": self.message,
                "two_way": self.two_way,
                "choices": self.choices,
                "commands": self.commands,
            }
            with pages.open("a") as file:
                file.write(json.dumps(page) + "\n")
        two_way = self.two_way
        self.reset()
        if two_way:
            return f"860 {tag} {tag * 7} Delivered, Awaiting Read Ack"
        return "250 Message Sent Successfully"

    def on_msta(self, rest):
        tag, _, code = rest.partition(" ")
        if not tag.isdigit() or code != str(int(tag) * 7):
            return "550 Unknown or Illegal Message_Tag or Pass_Code"
        reply = setting("reply")
        if not reply:
            return f"861 {tag} {MOMENT} Delivered, Awaiting Reply (MCR)"
        if reply.isdigit():
            return f"888 {tag} {MOMENT} {reply} MCR Reply Received"
        return f"889 {tag} {MOMENT} {reply}"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


server = Server(("127.0.0.1", int(sys.argv[2])), Pager)
print("ready", flush=True)
server.serve_forever()
