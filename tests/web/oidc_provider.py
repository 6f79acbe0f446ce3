"""A small OpenID provider: oidc_provider.py FOLDER, prints its port. One client, one person, told by FOLDER/says.json.

Discovery, keys, authorization (which signs in at once), token with client secret and PKCE (RFC 7636, S256 alone), each code
once. Keys and signatures by openssl. says.json: claims of the person, and "wrong": what is wrong with the ID token.
"""

import base64
import hashlib
import json
import secrets
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

folder = Path(sys.argv[1])
for name in ("key", "other"):
    subprocess.run(["openssl", "genrsa", "-out", folder / f"{name}.pem", "2048"], check=True, capture_output=True)
modulus = subprocess.run(
    ["openssl", "rsa", "-in", folder / "key.pem", "-noout", "-modulus"], check=True, capture_output=True, text=True
).stdout.split("=")[1]
codes = {}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims, name):
    head = b64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "1"}).encode())
    text = f"{head}.{b64(json.dumps(claims).encode())}"
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
        if at.path == "/.well-known/openid-configuration":
            self.answer({
                "issuer": issuer, "authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token",
                "jwks_uri": f"{issuer}/keys", "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            })
        elif at.path == "/keys":
            n = b64(bytes.fromhex(modulus.strip()))
            self.answer({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": n, "e": "AQAB"}]})
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
        basic = base64.b64decode(self.headers.get("Authorization", "Basic ").split(" ")[1]).decode()
        if [unquote(part) for part in basic.split(":")] != ["firstread", "a client's secret"]:
            return self.answer({"error": "invalid_client"}, 401)
        asked = codes.pop(given.get("code"), None)
        if asked is None or given.get("redirect_uri") != asked["redirect_uri"]:
            return self.answer({"error": "invalid_grant"}, 400)
        if b64(hashlib.sha256(given.get("code_verifier", "").encode()).digest()) != asked["code_challenge"]:
            return self.answer({"error": "invalid_grant", "error_description": "PKCE"}, 400)
        says = json.loads((folder / "says.json").read_text())
        wrong, now = says.pop("wrong", ""), int(time.time())
        claims = {
            "iss": f"http://127.0.0.1:{self.server.server_port}", "aud": "firstread", "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], **says,
        }
        claims |= {"iss": {"iss": "http://evil.example"}, "aud": {"aud": "another"}, "exp": {"exp": 1000},
                   "nonce": {"nonce": "another"}}.get(wrong, {})
        token = signed(claims, "other" if wrong == "key" else "key")
        if wrong == "none":
            token = f"{b64(json.dumps({'alg': 'none'}).encode())}.{token.split('.')[1]}."
        self.answer({"access_token": "x", "token_type": "Bearer", "expires_in": 300, "id_token": token})


server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
print(server.server_port, flush=True)
server.serve_forever()
