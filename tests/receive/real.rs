//! Real clients and reference files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firstread::dicom::extract;
use firstread::dicom::receive::STORAGE_CLASSES;

use super::client::{Client, EXPLICIT, IMPLICIT, MR};
use super::data::{data_set, files, mr, reference};
use super::server::Server;

/// Runs a tool of dcmtk; `None`, and a word about it, where it is not installed.
fn dcmtk(tool: &str, server: &Server, arguments: &[&str], paths: &[PathBuf]) -> Option<Output> {
    let port = server.address.port().to_string();
    // pynetdicom has programs of the same names, which an active Python environment puts in front
    let installed = std::path::Path::new("/usr/bin").join(tool);
    let tool = if installed.exists() {
        installed.to_string_lossy().into_owned()
    } else {
        tool.to_owned()
    };
    let output = Command::new(&tool)
        .args(["-aec", "FIRSTREAD"])
        .args(arguments)
        .args(["127.0.0.1", &port])
        .args(paths)
        .output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: {tool}: {error}");
            None
        }
    }
}

#[track_caller]
fn succeeds(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
fn echoscu() {
    let server = Server::start();
    if let Some(output) = dcmtk("echoscu", &server, &[], &[]) {
        succeeds(&output);
    }
}

#[test]
fn storescu_sends_a_study() {
    let Some(folder) = reference("t1_flair_study") else {
        return;
    };
    let server = Server::start();
    let paths = files(&folder);
    let Some(output) = dcmtk("storescu", &server, &[], &paths) else {
        return;
    };
    succeeds(&output);
    let kept = server.kept();
    assert_eq!(kept.len(), paths.len());
    let mut series = BTreeMap::<_, usize>::new();
    for header in &kept {
        let description = header.series.description.clone().unwrap_or_default();
        *series.entry(description).or_default() += 1;
        assert!(header.has_pixel_data);
        assert!(header.series.orientation.is_some());
        assert_eq!(header.series.modality.as_deref(), Some("MR"));
    }
    assert_eq!(series.values().copied().max(), Some(208));
    assert_eq!(series.len(), 2);
    // storescu writes the data set anew, but the pixels are the sender's
    let pixels = |path: &Path| {
        let object = dicom_object::open_file(path).unwrap();
        let instance = object.meta().media_storage_sop_instance_uid().to_owned();
        let data = object
            .element(dicom_dictionary_std::tags::PIXEL_DATA)
            .unwrap();
        (instance, data.to_bytes().unwrap().into_owned())
    };
    for path in paths.iter().step_by(20) {
        let (instance, sent) = pixels(path);
        assert!(sent == pixels(&server.file(&instance)).1, "{instance}");
    }
}

#[test]
fn storescu_sends_enhanced_objects() {
    let Some(folder) = reference("enhanced_t1") else {
        return;
    };
    let server = Server::start();
    let Some(output) = dcmtk("storescu", &server, &[], &files(&folder)) else {
        return;
    };
    succeeds(&output);
    let header = &server.kept()[0];
    assert!(header.number_of_frames > 1);
    let series = &header.series;
    assert!(series.pixel_spacing_mm.is_some() && series.orientation.is_some());
    assert!(series.repetition_time_ms.is_some() && series.echo_time_ms.is_some());
}

#[test]
fn storescu_sends_compressed_objects() {
    let Some(folder) = reference("compressed") else {
        return;
    };
    let server = Server::start();
    let options = [
        ("1.2.840.10008.1.2.4.70", "-xs"),
        ("1.2.840.10008.1.2.4.80", "-xt"),
        ("1.2.840.10008.1.2.4.90", "-xv"),
        ("1.2.840.10008.1.2.4.91", "-xw"),
        ("1.2.840.10008.1.2.5", "-xr"),
    ];
    let mut sent = BTreeMap::<String, Vec<PathBuf>>::new();
    for path in files(&folder) {
        sent.entry(data_set(&path).0).or_default().push(path);
    }
    for (syntax, paths) in sent {
        let option = options
            .iter()
            .find(|(uid, _)| *uid == syntax)
            .map(|(_, option)| *option);
        let Some(output) = dcmtk("storescu", &server, option.as_slice(), &paths[..1]) else {
            return;
        };
        succeeds(&output);
        let last = server.kept().pop().unwrap();
        if option.is_some() {
            assert_eq!(last.transfer_syntax_uid, syntax);
        }
    }
}

/// Names as pydicom 3.0.2 reads them.
const NAMES: [(&str, &str); 15] = [
    ("chrArab", "قباني^لنزار"),
    ("chrFren", "Buc^Jérôme"),
    ("chrFrenMulti", "Buc^Jérôme"),
    ("chrGerm", "Äneas^Rüdiger"),
    ("chrGreek", "Διονυσιος"),
    ("chrH31", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("chrH32", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    ("chrHbrw", "שרון^דבורה"),
    ("chrI2", "Hong^Gildong=洪^吉洞=홍^길동"),
    ("chrJapMulti", "やまだ^たろう"),
    ("chrJapMultiExplicitIR6", "やまだ^たろう"),
    ("chrKoreanMulti", "김희중"),
    ("chrRuss", "Люкceмбypг"),
    ("chrX1", "Wang^XiaoDong=王^小東"),
    ("chrX2", "Wang^XiaoDong=王^小东"),
];

#[test]
fn names_in_every_character_set() {
    let Some(folder) = reference("charsets") else {
        return;
    };
    let paths = files(&folder);
    for (name, expected) in NAMES {
        let path = paths
            .iter()
            .find(|path| path.file_stem().unwrap() == name)
            .unwrap();
        let (syntax, data) = data_set(path);
        let length = data.len() as u64;
        let header = extract::header(Cursor::new(data), length, &syntax).unwrap();
        let read = header.patient.name.unwrap();
        assert_eq!(read.trim_end_matches('='), expected, "{name}");
    }
}

/// Resident memory of this process, server included, in KiB: now, and the most there was.
fn resident_kib() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((line("VmRSS:")?, line("VmHWM:")?))
}

/// Identifiers from the object where they can be read, so that the sink gets its share.
fn identifiers(data: &[u8], syntax: &str) -> (String, String) {
    let length = data.len() as u64;
    match extract::header(Cursor::new(data), length, syntax) {
        Ok(header) if STORAGE_CLASSES.contains(&header.sop_class_uid.as_str()) => {
            (header.sop_class_uid, header.sop_instance_uid)
        }
        _ => (MR.to_owned(), "1.2.3.4".to_owned()),
    }
}

#[test]
fn the_hostile_set_is_answered() {
    let Some(folder) = reference("hostile") else {
        return;
    };
    let server = Server::start();
    let before = resident_kib();
    let paths = files(&folder);
    let mut statuses = BTreeMap::<String, usize>::new();
    // first as what they are, then as what they are not
    for syntax in [EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.2"] {
        let syntaxes = [syntax];
        let contexts = STORAGE_CLASSES.map(|class| (class, &syntaxes[..]));
        let mut client = Client::with(server.address, &contexts);
        for path in &paths {
            let (_, data) = data_set(path);
            let (class, instance) = identifiers(&data, syntax);
            let response = client.store(&class, &instance, &data);
            let known = [0x0000, 0xA900, 0xC000].contains(&response.status);
            assert!(known, "{}: {response:?}", path.display());
            assert!(response.status == 0 || !response.comment.is_empty());
            *statuses
                .entry(format!("{:04X}", response.status))
                .or_default() += 1;
        }
        client.release();
    }
    eprintln!("statuses: {statuses:?}");
    assert_eq!(statuses.values().sum::<usize>(), 3 * paths.len());
    assert_eq!(
        Client::mr(server.address)
            .store(MR, "1.2.3.4", &mr("1.2.3.4", 10))
            .status,
        0
    );
    assert_eq!(server.spooled(), 0);
    // other tests may run in this process, so the bound is wide; alone it is a few MiB
    if let (Some((before, _)), Some((_, peak))) = (before, resident_kib()) {
        let grown = peak.saturating_sub(before) / 1024;
        eprintln!("memory: {grown} MiB above the start, client and its copies included");
        assert!(grown < 300, "{grown} MiB");
    }
}
