//! What we offer, and to whom: from a connection to an association (PS3.8).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use dicom_dictionary_std::uids;
use dicom_ul::association::read_pdu_from_wire_async;
use dicom_ul::association::server::{AccessControl, Negotiation};
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceProviderPresentationReason,
    AssociationRJServiceUserReason, AssociationRJSource, Pdu, RequestorRoles, UserIdentity,
    write_pdu,
};
use dicom_ul::{ServerAssociationOptions, association::Error};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::link::Wire;
use super::settings::ReceiveSettings;

/// Storage SOP classes we take.
pub const STORAGE_CLASSES: [&str; 19] = [
    uids::MR_IMAGE_STORAGE,
    uids::ENHANCED_MR_IMAGE_STORAGE,
    uids::ENHANCED_MR_COLOR_IMAGE_STORAGE,
    uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE,
    uids::CT_IMAGE_STORAGE,
    uids::ENHANCED_CT_IMAGE_STORAGE,
    uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_SINGLE_BIT_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::BASIC_TEXT_SR_STORAGE,
    uids::ENHANCED_SR_STORAGE,
    uids::COMPREHENSIVE_SR_STORAGE,
    uids::COMPREHENSIVE3_DSR_STORAGE,
    uids::ENCAPSULATED_PDF_STORAGE,
    uids::SEGMENTATION_STORAGE,
    uids::LABEL_MAP_SEGMENTATION_STORAGE,
];

/// Transfer syntaxes we can decode; the sender's first among them is taken.
///
/// Not 1.2.840.10008.1.2.4.51: the codec registry claims it and fails at 12 bits.
pub const TRANSFER_SYNTAXES: [&str; 14] = [
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    // retired from the standard, not from use
    "1.2.840.10008.1.2.2",
    uids::RLE_LOSSLESS,
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEGLS_LOSSLESS,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
    uids::HTJ2K_LOSSLESS,
    uids::HTJ2K_LOSSLESS_RPCL,
    uids::HTJ2K,
];

/// Lets in who calls us by our name, under a name that is allowed from its address.
struct Gate<'a> {
    settings: &'a ReceiveSettings,
    peer: IpAddr,
}

impl AccessControl for Gate<'_> {
    fn check_access(
        &self,
        this_ae_title: &str,
        calling_ae_title: &str,
        called_ae_title: &str,
        _user_identity: Option<&UserIdentity>,
    ) -> Result<(), AssociationRJServiceUserReason> {
        if called_ae_title != this_ae_title {
            return Err(AssociationRJServiceUserReason::CalledAETitleNotRecognized);
        }
        if !self.settings.admits(self.peer, calling_ae_title) {
            return Err(AssociationRJServiceUserReason::CallingAETitleNotRecognized);
        }
        Ok(())
    }
}

/// Who asks for an association may be the provider of storage commitment on it, and nothing else: it
/// reports what we asked for (PS3.7 D.3.3.4, PS3.4 J.3.3).
struct Roles;

impl Negotiation for Roles {
    fn negotiate_roles(
        &self,
        sop_class_uid: &str,
        _scu_role: bool,
        scp_role: bool,
    ) -> Option<RequestorRoles> {
        let commitment =
            sop_class_uid.trim_end_matches('\0') == uids::STORAGE_COMMITMENT_PUSH_MODEL;
        commitment.then_some(RequestorRoles {
            scu: false,
            scp: scp_role,
        })
    }
}

/// Answers the peer's A-ASSOCIATE-RQ, with `tls` after agreeing on TLS; the error says why there is no association.
pub async fn establish(
    stream: TcpStream,
    peer: IpAddr,
    settings: &ReceiveSettings,
    tls: Option<Arc<ServerConfig>>,
) -> Result<Wire, &'static str> {
    let options = options(settings, Gate { settings, peer });
    let limit = Duration::from_secs(settings.handshake_timeout_seconds);
    let established = async {
        Ok(match tls {
            None => Wire::Plain(Box::new(options.establish_async(stream).await?)),
            Some(tls) => {
                let options = options.tls_config(tls);
                Wire::Tls(Box::new(options.establish_tls_async(stream).await?))
            }
        })
    };
    match tokio::time::timeout(limit, established).await {
        Err(_) => Err("no association request in time"),
        Ok(Err(error)) => Err(describe(&error)),
        Ok(Ok(association)) => Ok(association),
    }
}

fn options<'a>(
    settings: &'a ReceiveSettings,
    gate: Gate<'a>,
) -> ServerAssociationOptions<'a, Gate<'a>, Roles> {
    let mut options = ServerAssociationOptions::new()
        .ae_access_control(gate)
        .ae_title(settings.ae_title.as_str())
        .max_pdu_length(settings.pdu_bytes_max)
        // keeps the length field of a PDU from deciding how much memory we take
        .strict(true)
        .write_timeout(Duration::from_secs(settings.idle_timeout_seconds))
        .with_abstract_syntax(uids::VERIFICATION)
        .with_abstract_syntax(uids::STORAGE_COMMITMENT_PUSH_MODEL)
        .with_negotiation(Roles);
    for class in STORAGE_CLASSES {
        options = options.with_abstract_syntax(class);
    }
    for syntax in TRANSFER_SYNTAXES {
        options = options.with_transfer_syntax(syntax);
    }
    options
}

/// In our words: the errors' own may quote the whole request, credentials included.
fn describe(error: &Error) -> &'static str {
    match error {
        Error::Rejected { association_rj, .. } => match &association_rj.source {
            AssociationRJSource::ServiceUser(
                AssociationRJServiceUserReason::CalledAETitleNotRecognized,
            ) => "called AE title is not ours",
            AssociationRJSource::ServiceUser(
                AssociationRJServiceUserReason::CallingAETitleNotRecognized,
            ) => "calling AE title is not allowed from this address",
            _ => "rejected",
        },
        Error::TlsNotSupported => "TLS on the port without it",
        Error::TlsHandshake { source, .. } => shaken(source),
        Error::ConnectionClosed { .. } => "closed without an association request",
        Error::ReceivePdu { .. } => "association request not understood",
        Error::UnexpectedPdu { .. } | Error::UnknownPdu { .. } | Error::Aborted { .. } => {
            "something else than an association request"
        }
        _ => "connection lost while associating",
    }
}

/// Why there is no TLS, as far as we know and a log may say.
fn shaken(error: &std::io::Error) -> &'static str {
    use tokio_rustls::rustls::Error as Tls;
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Tls>());
    match inner {
        Some(Tls::NoCertificatesPresented) => "no TLS: the peer has no certificate",
        Some(Tls::InvalidCertificate(_)) => {
            "no TLS: the peer's certificate is not one that dicom.tls_client_ca_file signed, or has run out"
        }
        Some(Tls::AlertReceived(_)) => "no TLS: the peer does not accept our certificate or offer",
        Some(Tls::PeerIncompatible(_)) => "no TLS: the peer's versions or ciphers are too old",
        Some(_) => "no TLS: what came is none",
        None => "no TLS: connection lost",
    }
}

/// Turns a peer away because too many are here; it may try again (PS3.8 9.3.4).
pub async fn reject_busy(
    mut stream: TcpStream,
    settings: &ReceiveSettings,
    tls: Option<Arc<ServerConfig>>,
) {
    let limit = Duration::from_secs(settings.handshake_timeout_seconds);
    let answer = async {
        match tls {
            None => refuse(&mut stream, settings).await,
            Some(tls) => {
                if let Ok(mut stream) = TlsAcceptor::from(tls).accept(stream).await {
                    refuse(&mut stream, settings).await;
                }
            }
        }
    };
    let _ = tokio::time::timeout(limit, answer).await;
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, settings: &ReceiveSettings) {
    let mut buffer = BytesMut::with_capacity(4096);
    let request = read_pdu_from_wire_async(stream, &mut buffer, settings.pdu_bytes_max, true);
    let Ok(Pdu::AssociationRQ(_)) = request.await else {
        return;
    };
    let mut bytes = Vec::with_capacity(16);
    if write_pdu(&mut bytes, &busy()).is_ok() && stream.write_all(&bytes).await.is_ok() {
        // the peer closes; until then the rejection must not be overtaken by a reset
        let _ = stream.shutdown().await;
        buffer.clear();
        let _ = tokio::io::AsyncReadExt::read_buf(stream, &mut buffer).await;
    }
}

fn busy() -> Pdu {
    Pdu::AssociationRJ(AssociationRJ {
        result: AssociationRJResult::Transient,
        source: AssociationRJSource::ServiceProviderPresentation(
            AssociationRJServiceProviderPresentationReason::LocalLimitExceeded,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_offered_can_be_decoded() {
        for syntax in TRANSFER_SYNTAXES {
            assert!(
                dicom_ul::association::server::is_supported(syntax),
                "{syntax}"
            );
        }
    }
}
