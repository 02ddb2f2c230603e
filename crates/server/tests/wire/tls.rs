//! A backend behind https: its certificate is checked, with the certificates of the system.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::http_client::Http;
use crate::kill::Program;
use crate::test_server::loopback;

fn key(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/keys")).join(name)
}

/// Answers every request with `{"tls":true}`, as `localhost`.
async fn backend() -> SocketAddr {
    let certificate = CertificateDer::from_pem_file(key("localhost.pem")).unwrap();
    let private = PrivateKeyDer::from_pem_file(key("localhost.key.pem")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], private).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate hangs up.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(async |_: Request<Incoming>| {
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(br#"{"tls":true}"#))))
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// The program with a function behind https, trusting the certificates of one file.
fn program(folder: &Path, host: &str, port: u16, trusted: &str) -> Program {
    let manifest = folder.join(format!("{host}.toml"));
    let text = format!("[backend]\nsecret_env = \"SYNCLINE_TEST_SECRET\"\n[functions.f]\nurl = \"https://{host}:{port}/f\"\n");
    std::fs::write(&manifest, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncline"));
    command.arg("dev").arg("--db").arg(folder.join(format!("{host}-{trusted}.db"))).arg("--manifest").arg(&manifest);
    command.env("SSL_CERT_FILE", key(trusted)).env_remove("SSL_CERT_DIR");
    command.env("SYNCLINE_TEST_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    Program::run(&mut command)
}

#[tokio::test]
async fn a_backend_behind_https_is_called_when_its_certificate_holds() {
    let port = backend().await.port();
    let folder = tempfile::tempdir().unwrap();
    for (host, trusted, holds) in
        [("localhost", "ca.pem", true), ("localhost", "other_ca.pem", false), ("127.0.0.1", "ca.pem", false)]
    {
        let program = program(folder.path(), host, port, trusted);
        let answer = Http::new(program.address, None).post("/api/fn/f", &json!({})).await;
        if holds {
            assert_eq!(answer.ok(), json!({"tls": true}));
        } else {
            answer.refused(502, "BACKEND_FAILED");
        }
    }
}
