"""A mail server for tests: STARTTLS and authentication are required, answers are as a file says.

Usage: smtp_server.py FOLDER PORT [tls]     with "tls" it speaks TLS from the first byte
FOLDER holds cert.pem and key.pem. Each message taken is a line of JSON in FOLDER/messages.jsonl.
FOLDER/answer, read at each message, may hold an SMTP answer that refuses it ("451 later",
"550 unknown"), for some address only ("550 unknown, room@"), or "hang": take it, then say nothing.
FOLDER/delay_ms is how long it works on each message before it answers.
FOLDER/wanted is the password that signs in, where it is not "correct horse".
"""

import asyncio
import json
import logging
import pathlib
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

# It warns at every sign-in about an attribute that we do not use.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)
warnings.simplefilter("ignore")

FOLDER = pathlib.Path(sys.argv[1])


def check_password(server, session, envelope, mechanism, login):
    wanted = (FOLDER / "wanted").read_bytes() if (FOLDER / "wanted").exists() else b"correct horse"
    good = (login.login, login.password) == (b"firstread", wanted)
    # handled: whether we answered ourselves; we do not, so that a wrong one is told 535.
    return AuthResult(success=good, handled=False)


class Keeper:
    async def handle_DATA(self, server, session, envelope):
        answer = (FOLDER / "answer").read_text().strip() if (FOLDER / "answer").exists() else ""
        answer, _, only = answer.partition(", ")
        if only and not any(only in to for to in envelope.rcpt_tos):
            answer = ""
        if answer and answer != "hang":
            with (FOLDER / "refused.jsonl").open("a") as file:
                file.write(json.dumps({"to": envelope.rcpt_tos}) + "\n")
            return answer
        taken = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "data": envelope.content.decode(),
        }
        with (FOLDER / "messages.jsonl").open("a") as file:
            file.write(json.dumps(taken) + "\n")
        if (FOLDER / "delay_ms").exists():
            await asyncio.sleep(int((FOLDER / "delay_ms").read_text()) / 1000)
        if answer == "hang":
            await asyncio.sleep(3600)
        return "250 taken"


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(FOLDER / "cert.pem", FOLDER / "key.pem")

    wrapped = "tls" in sys.argv

    def session():
        return SMTP(
            Keeper(),
            hostname="localhost",
            tls_context=None if wrapped else context,
            require_starttls=not wrapped,
            auth_required=True,
            auth_require_tls=not wrapped,
            authenticator=check_password,
        )

    server = await asyncio.get_running_loop().create_server(
        session, "127.0.0.1", int(sys.argv[2]), ssl=context if wrapped else None
    )
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())
