//! The parsers of what comes from outside, called as the server calls them, and what their input looks like.
//!
//! Two feed them: the damage test beside this file in every test run, and libFuzzer in `fuzz/` for hours.

mod conversation;

use std::io::{Cursor, Write as _};
use std::sync::LazyLock;

use bytes::BytesMut;
use dicom_ul::pdu::read_pdu;
use firstread::config::Config;
use firstread::dicom::{extract, receive};
use firstread::hl7::message::ack::{self, AckCode, Own};
use firstread::hl7::message::batch::{self, Content};
use firstread::hl7::message::{self, Message};
use firstread::hl7::mllp::Deframer;
use firstread::hl7::{Hl7Settings, inbound};
use firstread::volume::nifti;
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

/// Most voxels that a NIfTI may have here; the server's own bound only takes more memory.
const VOXELS_MAX: usize = 1 << 20;
/// As `dicom.pdu_bytes_max`.
const PDU_BYTES_MAX: u32 = 131_072;

/// One parser.
pub struct Target {
    /// As `scripts/fuzz` and `tests/fuzz/` call it.
    pub name: &'static str,
    /// Returns whatever the input is.
    pub feed: fn(&[u8]),
    /// Real input.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub use conversation::association;

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "header",
        feed: header,
        seeds: || {
            let head = include_bytes!("../samples/one/t1_001.dcm");
            let other = include_bytes!("../samples/two/t1_001.dcm");
            vec![data_set(head), data_set(other)]
        },
    },
    Target {
        name: "dimse",
        feed: dimse,
        seeds: || vec![c_store_rq(), a_associate_rq()],
    },
    Target {
        name: "association",
        feed: association,
        seeds: conversation::conversations,
    },
    Target {
        name: "hl7",
        feed: hl7,
        seeds: || {
            let order = "MSH|^~\\&|RIS|H|FIRSTREAD|H|202611261200||ORM^O01^ORM_O01|1|P|2.5.1\r\
                PID|1||P1^^^H^MR||Doe^Jane\rORC|NW|A1|||||^^^^^S\rOBR|1|A1||MRB^MR Brain|||||||||||||||A1\r";
            let merge = "MSH|^~\\&|RIS|H|||20261126120000+0100||ADT^A40^ADT_A39|2|P|2.5.1|||AL|NE||UNICODE UTF-8\r\
                EVN||20261126\rPID|1||P1^^^H^MR~9^^^X^SS||M\u{fc}ller^Jane^^^||19560102|F\rMRG|P2^^^H^MR\r";
            let imaging = "MSH|^~\\&|RIS|H|||2026||OMI^O23^OMI_O23|3|P|2.5.1\rPID|1||P1\rPV1|1|E|ER^1^2\r\
                ORC|SC|A1^RIS|||CM\rTQ1|1||||||||S^Stat\rOBR|1|A1^RIS||MRB^Brain^L|||||||||||D^Doc\rIPC|A1|R1|1.2.3|S1|MR\r";
            let report = "MSH|^~\\&|RIS|H|||2026||ORU^R01^ORU_R01|4|P|2.4||||||8859/1\rPID|1||P1\rOBR|1|A1|A1|MRB\r\
                OBX|1|TX|GDT^Text||One\\.br\\two \\F\\ \\XE4\\ three||||||F\r";
            let batch = format!("FHS|^~\\&|RIS\rBHS|^~\\&|RIS\r{order}{merge}BTS|2\rFTS|1\r");
            vec![
                order.into(),
                merge.into(),
                imaging.into(),
                report.into(),
                batch.into(),
                format!("\x0b{order}\x1c\r").into(),
            ]
        },
    },
    Target {
        name: "nifti",
        feed: nifti,
        seeds: || {
            let small = small_nifti();
            let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
            zipped.write_all(&small).unwrap();
            vec![small, zipped.finish().unwrap()]
        },
    },
    Target {
        name: "config",
        feed: config,
        seeds: || vec![include_bytes!("../../config/firstread.toml").to_vec()],
    },
];

/// The header walk over a received data set.
pub fn header(bytes: &[u8]) {
    for syntax in [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.4.90",
    ] {
        drop(extract::header(
            Cursor::new(bytes),
            bytes.len() as u64,
            syntax,
        ));
    }
}

/// A command set, and the first PDU of a connection.
pub fn dimse(bytes: &[u8]) {
    if let Ok(request) = receive::Request::read(bytes) {
        drop(format!("{request:?}"));
    }
    drop(read_pdu(Cursor::new(bytes), PDU_BYTES_MAX, true));
}

/// A transmission with and without its frame: read, and answered. What we answer, we can read.
pub fn hl7(bytes: &[u8]) {
    let (mut frames, mut came) = (Deframer::new(4096), BytesMut::from(bytes));
    while let Ok(Some(frame)) = frames.next(&mut came) {
        transmission(&frame);
    }
    transmission(bytes);
}

fn transmission(bytes: &[u8]) {
    let own = Own {
        application: "FIRSTREAD",
        facility: "",
        at: "20261126120000+0000",
        control_id: "F1",
    };
    match batch::split(bytes) {
        Content::Single(bytes) => drop(answer(bytes, &own)),
        Content::Batch(batch) => {
            let answers = batch.messages.iter().map(|bytes| answer(bytes, &own));
            drop(batch::answer(&batch, &own, &answers.collect::<Vec<_>>()));
        }
    }
}

fn answer(bytes: &[u8], own: &Own<'_>) -> Message {
    static SETTINGS: LazyLock<Hl7Settings> = LazyLock::new(Hl7Settings::default);
    let parsed = message::parse(bytes);
    let header = parsed.as_ref().map(Message::header).unwrap_or_default();
    let read = parsed.and_then(|message| {
        drop(ack::read(&message));
        inbound::check_header(&header)?;
        inbound::read(&message, &SETTINGS)
    });
    let (code, faults) = match read {
        Ok((_, warnings)) => (AckCode::ApplicationAccept, warnings),
        Err(fault) => (AckCode::ApplicationError, vec![fault]),
    };
    let answer = ack::acknowledge(&header, code, &faults, own);
    let told = message::parse(answer.to_text().as_bytes()).and_then(|m| ack::read(&m));
    assert!(told.is_ok(), "an answer that cannot be read: {told:?}");
    answer
}

/// A volume.
pub fn nifti(bytes: &[u8]) {
    drop(nifti::read(bytes, VOXELS_MAX));
}

/// Settings.
pub fn config(bytes: &[u8]) {
    thread_local! {
        static FILE: NamedTempFile = NamedTempFile::new().unwrap();
    }
    FILE.with(|file| {
        std::fs::write(file.path(), bytes).unwrap();
        drop(Config::read(Some(file.path())));
    });
}

/// A file from behind its meta information, cut before most of its pixels.
fn data_set(bytes: &[u8]) -> Vec<u8> {
    // (0002,0000) stands first and says how long the rest of the group is (PS3.10 7.1).
    let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap());
    bytes[144 + length as usize..]
        .iter()
        .copied()
        .take(4096)
        .collect()
}

/// An element of a command set (PS3.7 6.3.1).
fn element(element: u16, value: &[u8]) -> Vec<u8> {
    let mut all = vec![0, 0];
    all.extend(element.to_le_bytes());
    all.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
    all.extend(value);
    all
}

fn c_store_rq() -> Vec<u8> {
    [
        element(0x0002, b"1.2.840.10008.5.1.4.1.1.4\0"),
        element(0x0100, &[1, 0]),
        element(0x0110, &[7, 0]),
        element(0x0700, &[0, 0]),
        element(0x0800, &[0, 0]),
        element(0x1000, b"1.2.3.4\0"),
    ]
    .concat()
}

/// A-ASSOCIATE-RQ (PS3.8 9.3.2) with contexts for images, echoes and commitment, roles and a user identity.
fn a_associate_rq() -> Vec<u8> {
    let item = |kind: u8, parts: &[&[u8]]| {
        let value = parts.concat();
        let mut all = vec![kind, 0];
        all.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        all.extend(value);
        all
    };
    let class = b"1.2.840.10008.5.1.4.1.1.4";
    let roles = [&[0, 25][..], class, &[1, 0]];
    let user = [
        item(0x51, &[&[0, 0, 0x40, 0]]),
        item(0x52, &[b"1.2.3"]),
        item(0x53, &[&[0, 1, 0, 1]]),
        item(0x54, &roles),
        item(0x55, &[b"SCANNER"]),
        item(0x56, &roles[..2]),
        item(0x58, &[&[2, 1, 0, 4], b"anna", &[0, 2], b"pw"]),
    ];
    let context = |id: u8, class: &[u8]| {
        let parts = [
            vec![id, 0, 0, 0],
            item(0x30, &[class]),
            item(0x40, &[b"1.2.840.10008.1.2.1"]),
            item(0x40, &[b"1.2.840.10008.1.2"]),
        ];
        item(0x20, &[&parts.concat()])
    };
    let body = [
        vec![0, 1, 0, 0],
        b"FIRSTREAD       SCANNER         ".to_vec(),
        vec![0; 32],
        item(0x10, &[b"1.2.840.10008.3.1.1.1"]),
        context(1, class),
        context(3, b"1.2.840.10008.1.1"),
        context(5, b"1.2.840.10008.1.20.1"),
        item(0x50, &[&user.concat()]),
    ]
    .concat();
    let mut pdu = vec![1, 0];
    pdu.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    pdu.extend(body);
    pdu
}

/// The header of a NIfTI of 4 x 4 x 4 voxels of 16 bit, and the voxels.
fn small_nifti() -> Vec<u8> {
    let mut bytes = vec![0; 352 + 128];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &348_i32.to_le_bytes());
    for (n, dim) in [3_i16, 4, 4, 4, 1, 1, 1, 1].iter().enumerate() {
        put(40 + 2 * n, &dim.to_le_bytes());
    }
    put(70, &4_i16.to_le_bytes());
    put(72, &16_i16.to_le_bytes());
    for n in 0..4 {
        put(76 + 4 * n, &1_f32.to_le_bytes());
    }
    put(108, &352_f32.to_le_bytes());
    put(344, b"n+1\0");
    bytes
}
