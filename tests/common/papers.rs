//! Certificates made for a test with `openssl`: an authority, what it signed, and another authority with the same.

use std::path::PathBuf;
use std::process::Command;

/// `ca.pem`; of it `ca-server` and `ca-client`, `.pem` and `.key`, for `localhost` and 127.0.0.1; and the same of
/// another authority, `other`.
pub struct Papers(tempfile::TempDir);

impl Papers {
    /// With elliptic keys.
    pub fn new() -> Self {
        Self::with("ec -pkeyopt ec_paramgen_curve:prime256v1")
    }

    /// With RSA keys: dcmtk's profiles ask for them.
    pub fn rsa() -> Self {
        Self::with("rsa:2048")
    }

    fn with(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "set -e; new='-newkey {kind} -nodes'; \
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n' > names; \
            for ca in ca other; do \
              openssl req -x509 $new -keyout $ca.key -out $ca.pem -subj /CN=$ca -days 2; \
              for who in server client renewed; do \
                openssl req $new -keyout $ca-$who.key -out $who.csr -subj /CN=$who; \
                openssl x509 -req -in $who.csr -CA $ca.pem -CAkey $ca.key -CAcreateserial \
                  -extfile names -out $ca-$who.pem -days 2; \
              done; \
            done"
        );
        let mut shell = Command::new("sh");
        let made = shell.args(["-c", &script]).current_dir(folder.path());
        let made = made.output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// `to.pem` and `to.key` become those of `from`.
    pub fn renew(&self, from: &str, to: &str) {
        for end in ["key", "pem"] {
            let new = self.path(&format!("{to}.{end}.new"));
            std::fs::copy(self.path(&format!("{from}.{end}")), &new).unwrap();
            std::fs::rename(&new, self.path(&format!("{to}.{end}"))).unwrap();
        }
    }

    /// Subject of the certificate that a server shows, by `openssl s_client`; what it said where there is none.
    pub fn shown_by(port: u16, more: &[&str]) -> String {
        let mut client = Command::new("openssl");
        let at = format!("127.0.0.1:{port}");
        client.args(["s_client", "-connect", &at, "-showcerts"]);
        let out = client.args(more).stdin(std::process::Stdio::null());
        let out = out.output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
        text.into_owned()
    }
}
