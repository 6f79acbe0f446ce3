"""A small OpenID provider: oidc_provider.py FOLDER, prints its port. One client, one person, told by FOLDER/says.json.

Discovery, keys, authorization (which signs in at once), token with client secret and PKCE (RFC 7636, S256 alone), each code
once, user info. Keys and signatures by openssl. says.json: claims of the person, "info": those that only user info says,
"key": "new" signs with another key and publishes that one, "auth": "post" takes the secret in the body alone,
"wrong": what is wrong with the ID token.
"""

import base64
import hashlib
import hmac
import json
import secrets
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

SECRET = "a client's secret"
folder = Path(sys.argv[1])
moduli = {}
for name in ("key", "new", "other"):
    file = folder / f"{name}.pem"
    subprocess.run(["openssl", "genrsa", "-out", file, "2048"], check=True, capture_output=True)
    shown = subprocess.run(["openssl", "rsa", "-in", file, "-noout", "-modulus"], check=True, capture_output=True, text=True)
    moduli[name] = shown.stdout.split("=")[1].strip()
codes, tokens = {}, {}


def says():
    file = folder / "says.json"
    return json.loads(file.read_text()) if file.exists() else {}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims, name, wrong):
    head = {"alg": "RS256", "typ": "JWT", "kid": "new" if name == "new" else "1"}
    if wrong in ("none", "hs256"):
        head = {"alg": "none" if wrong == "none" else "HS256", "typ": "JWT"}
    text = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
    if wrong == "none":
        return f"{text}."
    if wrong == "hs256":
        return f"{text}.{b64(hmac.digest(SECRET.encode(), text.encode(), 'sha256'))}"
    key = ["-sign", folder / f"{name}.pem"]
    signature = subprocess.run(["openssl", "dgst", "-sha256", *key], input=text.encode(), check=True, capture_output=True)
    return f"{text}.{b64(signature.stdout)}"


class Provider(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, value, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def do_GET(self):
        issuer = f"http://127.0.0.1:{self.server.server_port}"
        at = urlsplit(self.path)
        asked = {k: v[0] for k, v in parse_qs(at.query).items()}
        now = says()
        if at.path == "/.well-known/openid-configuration":
            method = "client_secret_post" if now.get("auth") == "post" else "client_secret_basic"
            self.answer({
                "issuer": issuer, "authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token",
                "userinfo_endpoint": f"{issuer}/userinfo", "jwks_uri": f"{issuer}/keys",
                "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
                "token_endpoint_auth_methods_supported": [method],
            })
        elif at.path == "/keys":
            name = now.get("key", "key")
            kid, n = "new" if name == "new" else "1", b64(bytes.fromhex(moduli[name]))
            self.answer({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": "AQAB"}]})
        elif at.path == "/userinfo":
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if token not in tokens:
                return self.answer({"error": "invalid_token"}, 401)
            self.answer({"sub": tokens[token], **now.get("info", {})})
        elif at.path == "/authorize":
            fine = asked.get("response_type") == "code" and asked.get("code_challenge_method") == "S256"
            if not fine or asked.get("client_id") != "firstread" or "openid" not in asked.get("scope", ""):
                return self.answer({"error": "invalid_request"}, 400)
            code = secrets.token_urlsafe(16)
            codes[code] = asked
            back = asked["redirect_uri"] + "?" + urlencode({"code": code, "state": asked["state"]})
            self.send_response(302)
            self.send_header("Location", back)
            self.end_headers()
        else:
            self.answer({}, 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        given = {k: v[0] for k, v in parse_qs(body).items()}
        now = says()
        if now.get("auth") == "post":
            who = [given.get("client_id"), given.get("client_secret")]
        else:
            basic = base64.b64decode(self.headers.get("Authorization", "Basic ").split(" ")[1]).decode()
            who = [unquote_plus(part) for part in basic.split(":")]
        if who != ["firstread", SECRET]:
            return self.answer({"error": "invalid_client"}, 401)
        asked = codes.pop(given.get("code"), None)
        if asked is None or given.get("redirect_uri") != asked["redirect_uri"]:
            return self.answer({"error": "invalid_grant"}, 400)
        if b64(hashlib.sha256(given.get("code_verifier", "").encode()).digest()) != asked["code_challenge"]:
            return self.answer({"error": "invalid_grant", "error_description": "PKCE"}, 400)
        wrong, moment = now.pop("wrong", ""), int(time.time())
        name = now.pop("key", "key")
        for own in ("auth", "info"):
            now.pop(own, None)
        claims = {
            "iss": f"http://127.0.0.1:{self.server.server_port}", "aud": "firstread", "iat": moment, "exp": moment + 300,
            "nonce": asked["nonce"], **now,
        }
        claims |= {"iss": {"iss": "http://evil.example"}, "aud": {"aud": "another"}, "nonce": {"nonce": "another"},
                   "aud2": {"aud": ["firstread", "another"]}}.get(wrong, {})
        access = secrets.token_urlsafe(16)
        tokens[access] = "somebody else" if wrong == "info" else claims["sub"]
        token = signed(claims, "other" if wrong == "key" else name, wrong)
        self.answer({"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": token})


server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
print(server.server_port, flush=True)
server.serve_forever()
