//! A client that can do what no decent client does.

use std::net::SocketAddr;
use std::time::Duration;

use dicom_ul::association::ClientAssociation;
use dicom_ul::association::client::ClientAssociationOptions;
use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu};

pub const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub const VERIFICATION: &str = "1.2.840.10008.1.1";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";

/// What the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub field: u16,
    pub message_id: u16,
    pub status: u16,
    pub comment: String,
}

/// An association to the server under test.
pub struct Client {
    pub association: ClientAssociation<std::net::TcpStream>,
    messages: u16,
}

pub fn options<'a>(contexts: &[(&'a str, &[&'a str])]) -> ClientAssociationOptions<'a> {
    let mut options = ClientAssociationOptions::new()
        .calling_ae_title("TESTER")
        .called_ae_title("FIRSTREAD")
        .read_timeout(Duration::from_secs(20));
    for (class, syntaxes) in contexts {
        let syntaxes = syntaxes.to_vec();
        options = options.with_presentation_context(*class, syntaxes);
    }
    options
}

impl Client {
    /// With one context for MR in explicit VR little endian.
    pub fn mr(address: SocketAddr) -> Self {
        Self::with(address, &[(MR, &[EXPLICIT])])
    }

    pub fn with(address: SocketAddr, contexts: &[(&str, &[&str])]) -> Self {
        let association = options(contexts).establish(address).unwrap();
        Self {
            association,
            messages: 0,
        }
    }

    /// The id of the accepted context of a SOP class.
    pub fn context(&self, class: &str) -> u8 {
        let contexts = self.association.presentation_contexts();
        contexts
            .iter()
            .find(|context| context.abstract_syntax == class)
            .unwrap()
            .id
    }

    /// Sends C-STORE-RQ and a data set, and waits for the answer.
    pub fn store(&mut self, class: &str, instance: &str, data: &[u8]) -> Response {
        let context = self.context(class);
        self.messages += 1;
        self.command(context, &store(class, instance, self.messages));
        self.data(context, data, 16_000);
        self.response()
    }

    pub fn command(&mut self, context: u8, command: &[u8]) {
        self.send(vec![pdv(context, PDataValueType::Command, true, command)]);
    }

    /// A whole data set in pieces of `piece` bytes.
    pub fn data(&mut self, context: u8, data: &[u8], piece: usize) {
        self.data_open(context, data, piece);
        self.send(vec![pdv(context, PDataValueType::Data, true, &[])]);
    }

    /// The same without a last piece.
    pub fn data_open(&mut self, context: u8, data: &[u8], piece: usize) {
        for bytes in data.chunks(piece) {
            self.send(vec![pdv(context, PDataValueType::Data, false, bytes)]);
        }
    }

    pub fn send(&mut self, values: Vec<PDataValue>) {
        self.association.send(&Pdu::PData { data: values }).unwrap();
    }

    #[track_caller]
    pub fn response(&mut self) -> Response {
        match self.association.receive().unwrap() {
            Pdu::PData { data } => {
                assert_eq!(data.len(), 1);
                assert!(data[0].is_last && data[0].value_type == PDataValueType::Command);
                parse(&data[0].data)
            }
            other => panic!("no response: {}", other.short_description()),
        }
    }

    /// Whether the server has ended the association by abort or by closing.
    pub fn is_over(&mut self) -> bool {
        match self.association.receive() {
            Ok(Pdu::AbortRQ { .. }) | Err(_) => true,
            Ok(_) => false,
        }
    }

    pub fn echo(&mut self) -> Response {
        self.messages += 1;
        let command = command(0x0030, self.messages, false, &[(0x0002, VERIFICATION)]);
        let context = self.association.presentation_contexts()[0].id;
        self.command(context, &command);
        self.response()
    }

    pub fn release(self) {
        self.association.release().unwrap();
    }
}

pub fn pdv(context: u8, kind: PDataValueType, is_last: bool, bytes: &[u8]) -> PDataValue {
    PDataValue {
        presentation_context_id: context,
        value_type: kind,
        is_last,
        data: bytes.to_vec(),
    }
}

pub fn store(class: &str, instance: &str, message_id: u16) -> Vec<u8> {
    command(
        0x0001,
        message_id,
        true,
        &[(0x0002, class), (0x1000, instance)],
    )
}

/// A command set; elements in ascending order are for the decent.
pub fn command(field: u16, message_id: u16, data_set: bool, uids: &[(u16, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |element: u16, value: &[u8]| {
        bytes.extend([0, 0]);
        bytes.extend(element.to_le_bytes());
        let padded = u32::try_from(value.len() + value.len() % 2).unwrap();
        bytes.extend(padded.to_le_bytes());
        bytes.extend(value);
        if value.len() % 2 == 1 {
            bytes.push(0);
        }
    };
    for (element, uid) in uids {
        put(*element, uid.as_bytes());
    }
    put(0x0100, &field.to_le_bytes());
    put(0x0110, &message_id.to_le_bytes());
    put(
        0x0800,
        &(if data_set { 0x0001u16 } else { 0x0101 }).to_le_bytes(),
    );
    bytes
}

fn parse(mut bytes: &[u8]) -> Response {
    let mut response = Response {
        field: 0,
        message_id: 0,
        status: 0xFFFF,
        comment: String::new(),
    };
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let element = u16::from_le_bytes([head[2], head[3]]);
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let (value, rest) = rest.split_at(usize::try_from(length).unwrap());
        let number = || u16::from_le_bytes([value[0], value[1]]);
        match element {
            0x0100 => response.field = number(),
            0x0120 => response.message_id = number(),
            0x0900 => response.status = number(),
            0x0902 => {
                assert!(value.len() <= 64);
                let text = std::str::from_utf8(value).unwrap();
                text.trim().clone_into(&mut response.comment);
            }
            _ => {}
        }
        bytes = rest;
    }
    response
}
