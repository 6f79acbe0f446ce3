//! What others connect to.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::Config;

/// What others connect to.
pub(super) struct Doors {
    pub http: std::net::TcpListener,
    pub dicom: Option<TcpListener>,
    pub hl7: Option<TcpListener>,
}

fn could_not(what: &str, at: SocketAddr, e: &std::io::Error) -> String {
    format!("could not listen on listen.{what} {at}: {e}")
}

impl Doors {
    /// Opens that of pages and machines that watch, first of all.
    pub fn open_http(config: &Config) -> Result<std::net::TcpListener, String> {
        let at = config.listen.http;
        std::net::TcpListener::bind(at).map_err(|e| could_not("http", at, &e))
    }

    /// Opens the others of this process' role.
    pub async fn open(config: &Config, http: std::net::TcpListener) -> Result<Self, String> {
        let mut doors = Self {
            http,
            dicom: None,
            hl7: None,
        };
        if config.process.role.receives() {
            let at = config.listen.dicom;
            let bound = TcpListener::bind(at).await;
            doors.dicom = Some(bound.map_err(|e| could_not("dicom", at, &e))?);
            if let Some(at) = config.listen.hl7()? {
                let bound = TcpListener::bind(at).await;
                doors.hl7 = Some(bound.map_err(|e| could_not("hl7", at, &e))?);
            }
        }
        Ok(doors)
    }
}
