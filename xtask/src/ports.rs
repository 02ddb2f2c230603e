//! Finding a port that nobody listens on.

use std::net::TcpListener;

use anyhow::{Context as _, bail};

/// The first port of the demo; the next ones are tried when it is taken.
pub(crate) const DEMO_PORT: u16 = 4321;

/// Returns the port a person asked for, or the first free one from [`DEMO_PORT`] on.
pub(crate) fn choose(wanted: Option<u16>) -> anyhow::Result<u16> {
    if let Some(port) = wanted {
        if is_free(port) {
            return Ok(port);
        }
        bail!(
            "Port {port} is taken by another program. Stop that program, name another port with `--port`, \
             or leave `--port` out to use the first free one."
        );
    }
    let mut candidates = DEMO_PORT..DEMO_PORT + CANDIDATES;
    candidates.find(|port| is_free(*port)).with_context(|| {
        format!("Ports {DEMO_PORT} to {} are all taken. Name a free one with `--port`.", DEMO_PORT + CANDIDATES - 1)
    })
}

/// Returns a port that the system says is free now.
pub(crate) fn any() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

const CANDIDATES: u16 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_with_what_to_do() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let message = choose(Some(port)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("Port {port} is taken")), "{message}");
        assert!(message.contains("--port"), "{message}");
    }

    #[test]
    fn a_free_port_is_kept() {
        let port = any().unwrap();
        assert_eq!(choose(Some(port)).unwrap(), port);
    }

    #[test]
    fn without_a_wish_the_first_free_port_is_taken() {
        let port = choose(None).unwrap();
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(choose(None).unwrap() > port);
    }
}
