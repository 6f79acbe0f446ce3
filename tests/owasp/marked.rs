//! A hospital whose every text is an attack: studies, messages and words of readers that carry scripts.
//!
//! Each text is a marker with a name of its own, so that whoever finds it in a page knows where it came from.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Database, TestServer, dcmtk, dicom_files, hidden, sample, study_uid};

/// What every marker has, and nothing of ours.
pub const SIGN: &str = "zq";
/// Images of the study of which every text is a marker: nothing is made of them.
const IMAGES: usize = 2;
/// Group and element.
type Tag = (u16, u16);

/// A text that leaves an attribute or an element wherever it is not escaped, and runs.
pub fn mark(name: &str) -> String {
    format!("\"'><script>hit()</script><b {SIGN}{name}>")
}

/// A text as an address has it, every byte of it encoded.
pub fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02X}");
        out
    })
}

fn name_of(prefix: &str, tag: Tag) -> String {
    format!("{prefix}{:04x}{:04x}", tag.0, tag.1)
}

/// A value of a data set in explicit VR little endian, at its top level.
struct Element {
    tag: Tag,
    vr: [u8; 2],
    value: Vec<u8>,
}

/// Those that have 32 bits of length (PS3.5 7.1.2).
const LONG: [&[u8; 2]; 13] = [
    b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV",
];
const PIXELS: Tag = (0x7FE0, 0x0010);
/// Values of text, numbers in text among them.
const TEXT: [&[u8; 2]; 16] = [
    b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"LO", b"LT", b"PN", b"SH", b"ST", b"TM",
    b"UC", b"UR", b"UT",
];
/// Those that people write into.
const FREE: [&[u8; 2]; 8] = [b"LO", b"LT", b"PN", b"SH", b"ST", b"UC", b"UR", b"UT"];
/// Of those, what decides whether a study is looked at.
const CHOSEN_BY: [Tag; 3] = [(0x18, 0x10), (0x18, 0x24), (0x18, 0x9005)];
/// Begin as they were, so that a series is known for what it is.
const DESCRIPTIONS: [Tag; 2] = [(0x08, 0x103E), (0x18, 0x1030)];

/// Texts that the samples lack: all that we read, and what else senders write.
const MORE: [(Tag, &[u8; 2]); 40] = [
    ((0x08, 0x0054), b"AE"),
    ((0x08, 0x0081), b"ST"),
    ((0x08, 0x0119), b"UC"),
    ((0x08, 0x1010), b"SH"),
    ((0x08, 0x1040), b"LO"),
    ((0x08, 0x1048), b"PN"),
    ((0x08, 0x1050), b"PN"),
    ((0x08, 0x1060), b"PN"),
    ((0x08, 0x1070), b"PN"),
    ((0x08, 0x1080), b"LO"),
    ((0x08, 0x1190), b"UR"),
    ((0x08, 0x2111), b"ST"),
    ((0x08, 0x4000), b"LT"),
    ((0x10, 0x1000), b"LO"),
    ((0x10, 0x1001), b"PN"),
    ((0x10, 0x1040), b"LO"),
    ((0x10, 0x2160), b"SH"),
    ((0x10, 0x2180), b"SH"),
    ((0x10, 0x21B0), b"LT"),
    ((0x10, 0x4000), b"LT"),
    ((0x18, 0x0010), b"LO"),
    ((0x18, 0x0024), b"SH"),
    ((0x18, 0x1000), b"LO"),
    ((0x18, 0x1400), b"LO"),
    ((0x18, 0x9005), b"SH"),
    ((0x20, 0x4000), b"LT"),
    ((0x28, 0x4000), b"LT"),
    ((0x32, 0x1032), b"PN"),
    ((0x32, 0x1060), b"LO"),
    ((0x32, 0x4000), b"LT"),
    ((0x40, 0x0241), b"AE"),
    ((0x40, 0x0254), b"LO"),
    ((0x40, 0x0280), b"ST"),
    ((0x40, 0x1001), b"SH"),
    ((0x40, 0x1400), b"LT"),
    ((0x40, 0x2400), b"LT"),
    ((0x40, 0xA123), b"PN"),
    ((0x40, 0xA160), b"UT"),
    ((0x4008, 0x0111), b"PN"),
    ((0x4008, 0x0115), b"LT"),
];
/// Texts in sequences of one item.
const NESTED: [(Tag, Tag, &[u8; 2]); 4] = [
    ((0x08, 0x0051), (0x40, 0x0031), b"UT"),
    ((0x18, 0x0012), (0x08, 0x0104), b"LO"),
    ((0x40, 0x0275), (0x32, 0x1060), b"LO"),
    ((0x40, 0x0275), (0x40, 0x1003), b"SH"),
];

/// Everything before the data set, its top level, and the pixels as they are.
fn taken_apart(file: &Path) -> (Vec<u8>, Vec<Element>, Vec<u8>) {
    let bytes = std::fs::read(file).unwrap();
    let number = |at: usize, n: usize| {
        let bytes = &bytes[at..at + n];
        bytes
            .iter()
            .rev()
            .fold(0, |sum, b| sum << 8 | usize::from(*b))
    };
    // 128 bytes, DICM, the length of group 2 (PS3.10 7.1)
    let mut at = 144 + number(140, 4);
    let meta = bytes[..at].to_vec();
    let mut elements = Vec::new();
    loop {
        let tag = [number(at, 2), number(at + 2, 2)].map(|n| u16::try_from(n).unwrap());
        let tag = (tag[0], tag[1]);
        if tag == PIXELS {
            return (meta, elements, bytes[at..].to_vec());
        }
        let vr = [bytes[at + 4], bytes[at + 5]];
        let (head, length) = if LONG.contains(&&vr) {
            (12, number(at + 8, 4))
        } else {
            (8, number(at + 6, 2))
        };
        let value = bytes[at + head..at + head + length].to_vec();
        elements.push(Element { tag, vr, value });
        at += head + length;
    }
}

fn written(element: &Element, out: &mut Vec<u8>) {
    let mut value = element.value.clone();
    if value.len() % 2 == 1 {
        value.push(if &element.vr == b"UI" { 0 } else { b' ' });
    }
    out.extend(element.tag.0.to_le_bytes());
    out.extend(element.tag.1.to_le_bytes());
    out.extend(element.vr);
    if LONG.contains(&&element.vr) {
        out.extend([0, 0]);
        out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
    } else {
        out.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    }
    out.extend(value);
}

/// Copies a file with some values set; those that were there are replaced.
pub fn rewritten(file: &Path, to: &Path, set: Vec<(Tag, &[u8; 2], Vec<u8>)>) {
    let (mut out, mut elements, pixels) = taken_apart(file);
    for (tag, vr, value) in set {
        elements.retain(|e| e.tag != tag);
        let vr = *vr;
        elements.push(Element { tag, vr, value });
    }
    elements.sort_by_key(|e| e.tag);
    for element in &elements {
        written(element, &mut out);
    }
    out.extend(pixels);
    std::fs::write(to, out).unwrap();
}

/// Copies a file with markers in its texts: in all of them, or in those that people write into.
fn marked(file: &Path, to: &Path, prefix: &str, all: bool) {
    let (_, elements, _) = taken_apart(file);
    let there: Vec<(Tag, [u8; 2], String)> = elements
        .into_iter()
        .map(|e| (e.tag, e.vr, String::from_utf8_lossy(&e.value).into_owned()))
        .collect();
    let more = MORE.map(|(tag, vr)| (tag, *vr, String::new()));
    let mut set = Vec::new();
    for (tag, vr, before) in there.into_iter().chain(more) {
        let wanted = if all {
            TEXT.contains(&&vr)
        } else {
            FREE.contains(&&vr) && !CHOSEN_BY.contains(&tag)
        };
        if !wanted {
            continue;
        }
        let mut text = mark(&name_of(prefix, tag));
        if !all && DESCRIPTIONS.contains(&tag) {
            text = format!("{} {text}", before.trim());
        }
        let vr = TEXT.into_iter().find(|known| **known == vr).unwrap();
        set.push((tag, vr, text.into_bytes()));
    }
    let mut sequences: Vec<(Tag, Vec<u8>)> = Vec::new();
    for (sequence, tag, vr) in NESTED {
        if !all && sequence != (0x08, 0x0051) {
            continue;
        }
        let value = mark(&name_of(prefix, tag)).into_bytes();
        let element = Element {
            tag,
            vr: *vr,
            value,
        };
        if sequences.last().is_none_or(|(last, _)| *last != sequence) {
            sequences.push((sequence, Vec::new()));
        }
        written(&element, &mut sequences.last_mut().unwrap().1);
    }
    for (tag, item) in sequences {
        let mut value = vec![0xFE, 0xFF, 0x00, 0xE0];
        value.extend(u32::try_from(item.len()).unwrap().to_le_bytes());
        value.extend(item);
        set.push((tag, b"SQ", value));
    }
    if all {
        let frame = mark(&name_of(prefix, (0x20, 0x52))).into_bytes();
        set.push(((0x20, 0x52), b"UI", frame));
    }
    rewritten(file, to, set);
}

/// A RIS that refuses every message, in words that are attacks too.
fn rude_ris() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            refuse(stream);
        }
    });
    at
}

fn refuse(mut stream: TcpStream) {
    let mut said = Vec::new();
    let mut some = [0; 4096];
    while !said.ends_with(b"\x1c\r") {
        match stream.read(&mut some) {
            Ok(n) if n > 0 => said.extend(&some[..n]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&said).into_owned();
    let id = text.split('|').nth(9).unwrap_or_default();
    let (msa, err) = (mark("nakmsa3"), mark("nakerr8"));
    let answer = format!(
        "\x0bMSH|^~\\&|R|H|F||20261126||ACK|1|P|2.5.1\rMSA|AR|{id}|{msa}\rERR|||207|E||||{err}\r\x1c\r"
    );
    let _ = stream.write_all(answer.as_bytes());
}

/// A server with all of it.
pub struct Hospital {
    pub server: TestServer,
    /// Screened; texts that people write are markers.
    pub study: String,
    /// All texts are markers.
    pub other: String,
    /// A series of the first.
    pub series: String,
    _folder: tempfile::TempDir,
}

impl Hospital {
    pub async fn open() -> Self {
        let ris = rude_ris();
        let to = format!("[{{name=\"ris\", address=\"{ris}\"}}]");
        let settings = [
            ("FIRSTREAD_LISTEN__HL7", "127.0.0.1:0"),
            ("FIRSTREAD_HL7__DESTINATIONS", &to),
        ];
        let settings = settings.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let server = TestServer::start_with(&Database::Sqlite, &settings);
        let folder = tempfile::tempdir().unwrap();
        let (all, some) = (dicom_files(&sample("four")), dicom_files(&sample("one")));
        let copy = |files: &[PathBuf], name: &str, prefix: &str, all: bool| -> Vec<PathBuf> {
            let copy = |(n, file): (usize, &PathBuf)| {
                let to = folder.path().join(format!("{name}{n}.dcm"));
                marked(file, &to, prefix, all);
                to
            };
            files.iter().enumerate().map(copy).collect()
        };
        let other = copy(&all[..IMAGES], "all", "a", true);
        let files = copy(&some, "some", "b", false);
        for sent in [&other, &files] {
            let (fine, said) = server.send(sent);
            assert!(fine, "{said}");
        }
        let hospital = Self {
            study: study_uid(&files[0]),
            other: study_uid(&other[0]),
            series: crate::common::tag(&files[0], "0020,000e"),
            server,
            _folder: folder,
        };
        hospital.keep_aside(&files[0]);
        let item = hospital.server.wait_until_ranked(&hospital.study).await;
        assert_eq!(item["state"], "screened", "{item}");
        hospital.server.wait_until_ranked(&hospital.other).await;
        hospital
    }

    /// An object that ends in quarantine, from a sender with a name of this kind.
    fn keep_aside(&self, file: &Path) {
        let folder = tempfile::tempdir().unwrap();
        let changed = folder.path().join("changed.dcm");
        rewritten(
            file,
            &changed,
            vec![((0x08, 0x1040), b"LO", b"other bytes".to_vec())],
        );
        let mut command = dcmtk("storescu");
        let dicom = self.server.dicom;
        command.args(["-aet", "\"'><b zqae>", "-aec", "FIRSTREAD", "-xv"]);
        command.args([&dicom.ip().to_string(), &dicom.port().to_string()]);
        let out = command.arg(changed).output().unwrap();
        eprint!("{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Orders of the first study in which each field and component is a marker.
    pub fn order(&self) {
        let (patient, accession) = (mark("b00100020"), mark("b00080050"));
        for (kind, prefix) in [("ORM^O01", "orm"), ("OMI^O23", "omi"), ("OMG^O19", "omg")] {
            let said = [
                segment(prefix, "PID", 39, &[(2, ""), (3, &patient)]),
                segment(prefix, "PV1", 52, &[]),
                segment(prefix, "ORC", 31, &[(1, "NW")]),
                segment(prefix, "TQ1", 14, &[(9, "S")]),
                segment(prefix, "OBR", 50, &[(18, &accession)]),
                segment(prefix, "NTE", 5, &[]),
                segment(prefix, "OBX", 25, &[]),
            ];
            self.say(kind, prefix, &said.concat());
        }
        // of the other's patient, and nothing else fits: a possible order
        let other = mark("a00100020");
        let said = [
            segment("may", "PID", 39, &[(2, ""), (3, &other)]),
            segment("may", "ORC", 31, &[(1, "NW")]),
            segment("may", "OBR", 50, &[]),
        ];
        self.say("ORM^O01", "may", &said.concat());
    }

    /// Patients get other names, and are merged.
    pub fn rename(&self) {
        let (patient, other) = (mark("b00100020"), mark("a00100020"));
        let known = segment("adt", "PID", 39, &[(2, ""), (3, &patient)]);
        let visit = segment("adt", "PV1", 52, &[]);
        self.say("ADT^A08", "adt", &[known, visit].concat());
        let survives = segment("mrg", "PID", 39, &[(2, "")]);
        let prior = segment("mrg", "MRG", 7, &[(1, &other)]);
        self.say("ADT^A40", "mrg", &[survives, prior].concat());
    }

    /// The first study is read.
    pub fn report(&self) {
        let (patient, accession) = (mark("b00100020"), mark("b00080050"));
        let said = [
            segment("oru", "PID", 39, &[(2, ""), (3, &patient)]),
            segment("oru", "OBR", 50, &[(18, &accession), (25, "F")]),
            segment("oru", "OBX", 25, &[(8, "A")]),
        ];
        self.say("ORU^R01", "oru", &said.concat());
    }

    /// Says it, and is understood.
    fn say(&self, kind: &str, prefix: &str, rest: &str) {
        let head = format!(
            "MSH|^~\\&|{}|{}|FIRSTREAD||20261126083000|{}|{kind}|{prefix}1|P|2.5.1||||||UNICODE UTF-8\r",
            mark(&format!("{prefix}msh3")),
            mark(&format!("{prefix}msh4")),
            mark(&format!("{prefix}msh8")),
        );
        let mut stream = TcpStream::connect(self.server.hl7.unwrap()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let frame = format!("\x0b{head}{rest}\x1c\r");
        stream.write_all(frame.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut some = [0; 4096];
        while !answer.ends_with(b"\x1c\r") {
            let n = stream.read(&mut some).unwrap();
            assert!(n > 0, "{kind} is not answered");
            answer.extend(&some[..n]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains("MSA|AA|"), "{kind}: {answer}");
    }

    /// What readers write: a comment, a filter's name.
    pub async fn write(&self, browser: &Visitor) {
        let said =
            json!({"finding": "screening", "verdict": "comment", "comment": mark("comment")});
        let path = format!("/api/v1/studies/{}/feedback", self.study);
        let answer = reqwest::Client::new()
            .post(self.url(&path))
            .bearer_auth(&self.server.token)
            .body(said.to_string())
            .send();
        let answer: Value = answer.await.unwrap().json().await.unwrap();
        assert!(answer["feedback"].is_array(), "{answer}");
        let kept = [("name", mark("f")), ("list", "q=abc".to_owned())];
        assert_eq!(browser.post("/worklist/filters", &kept).await.0, 303);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.http)
    }

    /// Waits until the RIS has refused something.
    pub async fn wait_for_refusal(&self, browser: &Visitor) {
        let began = Instant::now();
        // its words stand on the delivery's own page, for who asks for all of it
        while !browser
            .post("/deliveries/1/message", &[])
            .await
            .1
            .contains("zqnak")
        {
            assert!(began.elapsed() < Duration::from_secs(20), "never refused");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A segment of so many fields, each of components, subcomponents and repetitions that are markers; but for some.
fn segment(prefix: &str, name: &str, fields: usize, but: &[(usize, &str)]) -> String {
    let short = name.to_lowercase();
    let field = |n: usize| {
        if let Some((_, value)) = but.iter().find(|(at, _)| *at == n) {
            return (*value).to_owned();
        }
        let part = |what: &str| mark(&format!("{prefix}{short}{n}{what}"));
        let parts = ["c1", "c2", "c3", "c4", "c5", "c6"].map(part);
        let (sub, again) = (part("s"), part("r"));
        format!("{}&{sub}~{again}", parts.join("^"))
    };
    let all: Vec<String> = (1..=fields).map(field).collect();
    format!("{name}|{}\r", all.join("|"))
}

/// An administrator at a browser.
pub struct Visitor {
    base: String,
    pub client: reqwest::Client,
    csrf: String,
    /// Name and value of the session's cookie.
    cookie: String,
}

impl Visitor {
    pub async fn sign_in(server: &TestServer) -> Self {
        let client = reqwest::Client::builder()
            .cookie_store(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let base = format!("http://{}", server.http);
        let mut visitor = Self {
            base,
            client,
            csrf: String::new(),
            cookie: String::new(),
        };
        let form = visitor.page("/login").await;
        let filled = [
            ("form_token", hidden(&form, "form_token")),
            ("name", "admin".to_owned()),
            ("password", "a long test password".to_owned()),
        ];
        let login = visitor.client.post(visitor.url("/login")).form(&filled);
        let login = login.send().await.unwrap();
        assert_eq!(login.status(), 303);
        let cookie = login.headers()["set-cookie"].to_str().unwrap();
        visitor.cookie = cookie.split(';').next().unwrap().to_owned();
        visitor.csrf = hidden(&visitor.page("/account").await, "csrf");
        visitor
    }

    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn page(&self, path: &str) -> String {
        let answer = self.client.get(self.url(path)).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// Sends a form of a page.
    pub async fn post(&self, path: &str, fields: &[(&str, String)]) -> (u16, String) {
        let mut all = vec![("csrf", self.csrf.clone())];
        all.extend_from_slice(fields);
        let answer = self.client.post(self.url(path)).form(&all).send();
        let answer = answer.await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}
