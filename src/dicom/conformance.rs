//! The DICOM conformance statement, from what the code offers (PS3.2). `docs/conformance-dicom.md` is
//! this text; a test compares them.

use std::fmt::Write as _;

use dicom_dictionary_std::uids;
use dicom_transfer_syntax_registry::{TransferSyntaxIndex as _, TransferSyntaxRegistry};

use super::objects::Kind;
use super::receive::{ReceiveSettings, STORAGE_CLASSES, TRANSFER_SYNTAXES};

/// The statement as Markdown.
#[must_use]
pub fn statement() -> String {
    let mut text = String::from(HEAD);
    let defaults = ReceiveSettings::default();
    let _ = write!(
        text,
        "\n## Network\n\n\
         | | |\n|---|---|\n\
         | AE title | `{}` (`dicom.ae_title`) |\n\
         | Implementation class UID | `{}` |\n\
         | Implementation version name | `{}` in files; the library's own in associations |\n\
         | Largest PDU | {} bytes (`dicom.pdu_bytes_max`) |\n\
         | Associations at one time | {} (`dicom.associations_max`), three quarters of them from one address before their first command; a further one is rejected, transient, \"local limit exceeded\" |\n\
         | Longest silence | {} s (`dicom.idle_timeout_seconds`) |\n\
         | Asynchronous operations | none: one operation at a time |\n\
         | TLS | 1.2 and 1.3 (PS3.15 B.9 to B.12: the suites with ECDHE and AES-GCM), in on `listen.dicom_tls`, out per destination, with client certificates both ways where asked: [security.md](security.md) |\n",
        defaults.ae_title,
        super::IMPLEMENTATION_CLASS_UID,
        super::IMPLEMENTATION_VERSION_NAME,
        defaults.pdu_bytes_max,
        defaults.associations_max,
        defaults.idle_timeout_seconds,
    );
    text += "\n## Taken (SCP)\n\nVerification (C-ECHO), and C-STORE of these SOP classes:\n\n\
             | SOP class | UID |\n|---|---|\n";
    for uid in STORAGE_CLASSES {
        let _ = writeln!(text, "| {} | `{uid}` |", name_of(uid));
    }
    text += "\nin these transfer syntaxes, the sender's first among them:\n\n\
             | Transfer syntax | UID |\n|---|---|\n";
    for uid in TRANSFER_SYNTAXES {
        let _ = writeln!(text, "| {} | `{uid}` |", syntax_name(uid));
    }
    text += RECEIVED;
    text += "\n## Sent (SCU)\n\n\
             Verification, and C-STORE of our own results to each of `dicom.destinations` and of those made on the page *Destinations*, in explicit or implicit VR \
             little endian as the peer chooses; one association an object:\n\n\
             | `objects` | SOP class | UID | Modality |\n|---|---|---|---|\n";
    for kind in Kind::ALL {
        let uid = kind.sop_class_uid();
        let _ = writeln!(
            text,
            "| `{}` | {} | `{uid}` | {} |",
            kind.as_str(),
            name_of(uid),
            kind.modality()
        );
    }
    let _ = writeln!(
        text,
        "| `commitment = true` | {} (N-ACTION) | `{}` | |",
        name_of(uids::STORAGE_COMMITMENT_PUSH_MODEL),
        uids::STORAGE_COMMITMENT_PUSH_MODEL
    );
    text += SENT;
    text += ASKED;
    text
}

const ASKED: &str = "
## Asked (SCU)

Where `priors.host` is set, the PACS is asked for earlier brain MR studies of each patient, study root, in explicit or implicit VR little endian; one association a question:

| Service | UID | |
|---|---|---|
| C-FIND | `1.2.840.10008.5.1.4.1.2.2.1` | STUDY level by Patient ID, Issuer of Patient ID where known and Study Date range; SERIES level by Study Instance UID |
| C-MOVE | `1.2.840.10008.5.1.4.1.2.2.2` | STUDY level, to `dicom.ae_title` |

Of a study are read: Study Date, Modalities in Study, Study Description, Patient ID, Issuer of Patient ID, Patient's Birth Date, Study Instance UID, Number of Study Related Instances; of a series: Modality, Body Part Examined, Series Description. Patient ids with `*`, `?` or `\\` are not asked for. At most 500 answers are read, and at most `priors.studies_max` studies moved. What is moved is kept as a prior: not listed, not alerted, no results sent. Failures are repeated, waiting longer each time.
";

/// Names of SOP classes (PS3.6 Annex A), without "Storage".
const NAMES: [(&str, &str); 20] = [
    (uids::MR_IMAGE_STORAGE, "MR Image"),
    (uids::ENHANCED_MR_IMAGE_STORAGE, "Enhanced MR Image"),
    (
        uids::ENHANCED_MR_COLOR_IMAGE_STORAGE,
        "Enhanced MR Color Image",
    ),
    (
        uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE,
        "Legacy Converted Enhanced MR Image",
    ),
    (uids::CT_IMAGE_STORAGE, "CT Image"),
    (uids::ENHANCED_CT_IMAGE_STORAGE, "Enhanced CT Image"),
    (
        uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
        "Legacy Converted Enhanced CT Image",
    ),
    (
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        "Secondary Capture Image",
    ),
    (
        uids::MULTI_FRAME_SINGLE_BIT_SECONDARY_CAPTURE_IMAGE_STORAGE,
        "Multi-frame Single Bit Secondary Capture Image",
    ),
    (
        uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
        "Multi-frame Grayscale Byte Secondary Capture Image",
    ),
    (
        uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
        "Multi-frame Grayscale Word Secondary Capture Image",
    ),
    (
        uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
        "Multi-frame True Color Secondary Capture Image",
    ),
    (uids::BASIC_TEXT_SR_STORAGE, "Basic Text SR"),
    (uids::ENHANCED_SR_STORAGE, "Enhanced SR"),
    (uids::COMPREHENSIVE_SR_STORAGE, "Comprehensive SR"),
    (uids::COMPREHENSIVE3_DSR_STORAGE, "Comprehensive 3D SR"),
    (uids::ENCAPSULATED_PDF_STORAGE, "Encapsulated PDF"),
    (uids::SEGMENTATION_STORAGE, "Segmentation"),
    (
        uids::LABEL_MAP_SEGMENTATION_STORAGE,
        "Label Map Segmentation",
    ),
    (
        uids::STORAGE_COMMITMENT_PUSH_MODEL,
        "Storage Commitment Push Model",
    ),
];

fn name_of(uid: &str) -> &str {
    NAMES
        .iter()
        .find(|(known, _)| *known == uid)
        .map_or(uid, |(_, name)| name)
}

fn syntax_name(uid: &str) -> &str {
    TransferSyntaxRegistry
        .get(uid)
        .map_or(uid, |syntax| syntax.name())
}

const HEAD: &str = "# DICOM conformance statement\n\n\
    Research use; not a medical device. Written from the code by the tests of `src/dicom/conformance.rs`; \
    change that, not this.\n\n\
    `firstread` takes brain MRI studies, and sends its own results back. Where it is told of a PACS, it asks that for earlier studies.\n";

const RECEIVED: &str = "\nSuccess (0x0000) is answered once the object is durably on disk. \
    0xA700: no room, or the object is over `dicom.object_bytes_max`. 0xC000: the object cannot be read. \
    0xA900: it is of another object than the command says. 0xB000: taken and kept aside with a reason, such as the same \
    SOP Instance UID with other content. 0x0117, 0x0122: an unusable UID, a SOP class that was not agreed on. \
    0x0211: any other operation. An object that comes again unchanged is answered with success. Character sets: those of PS3.3 C.12.1.1.2 \
    that `src/dicom/charset.rs` knows; text of an unknown one is kept as far as it can be read. \
    Objects of our own that come back are recognised by their UID root and not analysed.\n";

const SENT: &str = "\nThe objects go into the study that was measured, as series 9901 to 9905, with patient and \
    study as in the source (also in the report and the key images: what HL7 said since of merged or corrected \
    patients is for the PACS to apply, to images and objects alike), text in UTF-8 (ISO_IR 192). UIDs follow from the result: the same result carries the \
    same SOP Instance UIDs. An earlier study that comes later makes another result, with the change in it, as \
    objects of its own beside the earlier ones. `seg` is up to two objects: structures on the series that \
    volumes were measured on, and lesions (series 9905) on the one that they were seen on. The measurement \
    report is TID 1500 with TID 1411 for structures that have a segment, TID 1501 for others, TID 4019 for the \
    algorithm; what changed since an earlier study is a Comment (121106, DCM) in the structure's group, as no \
    template of TID 1500 has change against a test-retest limit; structures are coded by CID 7140.\n\n| Status \
    of C-STORE | What follows |\n|---|---|\n| 0x0000, 0xB000, 0xB006, 0xB007, 0x0111 | delivered |\n| 0xA7xx, \
    0x0110, 0x0124, no answer, no association | tried again, waiting longer each time |\n| any other, SOP class \
    not accepted | given up and shown; an administrator can resend |\n\nStorage commitment is asked for where \
    the destination says so and offers it. The report (N-EVENT-REPORT) is taken on the same association, and on \
    one that the PACS opens to our listener, where it proposes the SCP role for Storage Commitment Push Model \
    `1.2.840.10008.1.20.1` and gets it; it must be admitted there as a caller, and is matched by its Transaction \
    UID (0x0112: no such transaction). A report of failure sends the object again, at most three times. What was \
    asked and answered stands on the Deliveries page, the study's page and in the API \
    (`deliveries[].commitment`: `requested`, `committed`, `failed`, `not_offered`).\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_code_offers() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance-dicom.md");
        if std::env::var_os("FIRSTREAD_WRITE_DOCS").is_some() {
            std::fs::write(&path, statement()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == statement(),
            "docs/conformance-dicom.md is not what the code offers: write it with FIRSTREAD_WRITE_DOCS=1 in the environment of this test"
        );
        for uid in STORAGE_CLASSES {
            assert_ne!(name_of(uid), uid, "no name");
        }
    }
}
