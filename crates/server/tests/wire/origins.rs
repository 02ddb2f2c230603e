//! Which hosts, pages and proxies are answered, and what the files carry with them.

use std::io;
use std::sync::{Arc, Mutex};

use syncline_core::server::Schema;
use syncline_server::{ServerOptions, StartError, StaticFiles};

use crate::socket_client::Socket;
use crate::test_server::{CHAT, TestServer, loopback};

#[tokio::test]
async fn dev_answers_this_machine_only() {
    let server = TestServer::dev().await;
    let http = server.anonymous();
    for host in ["localhost", "localhost:9", "127.0.0.1:1", "[::1]:80"] {
        http.call("GET", "/health", &[("host", host)], "").await.ok();
    }
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
        http.call("GET", "/health", &[("host", host)], "").await.refused(403, "HOST_REFUSED");
    }
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-host"] {
        http.call("GET", "/health", &[(name, "1.2.3.4")], "").await.refused(403, "HOST_REFUSED");
    }
    for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
        http.call("GET", "/health", &[("origin", origin)], "").await.refused(403, "ORIGIN_REFUSED");
        let refused = Socket::offer(server.address, "syncline.1", &[("origin", origin)]).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("403")), "{origin}");
    }
    let own = http.call("GET", "/health", &[("origin", "http://localhost:5173")], "").await;
    assert_eq!(own.header("access-control-allow-origin"), Some("http://localhost:5173"));
    assert!(Socket::offer(server.address, "syncline.1", &[("origin", "http://localhost:5173")]).await.is_ok());
}

#[tokio::test]
async fn dev_does_not_listen_for_others() {
    let store = TestServer::dev().await.store;
    let everywhere = ServerOptions::dev("0.0.0.0:0".parse().unwrap());
    let refused = syncline_server::Server::start(everywhere, store.clone()).await;
    assert!(matches!(refused, Err(StartError::NotLoopback { .. })));
    let options = ServerOptions { allowed_origins: vec!["app.example".to_owned()], ..ServerOptions::dev(loopback()) };
    assert!(matches!(syncline_server::Server::start(options, store).await, Err(StartError::Origin { .. })));
}

#[tokio::test]
async fn serve_answers_the_pages_of_its_list() {
    let server = TestServer::serve(CHAT).await;
    let http = server.anonymous();
    let origin = ("origin", "https://app.example");
    let admitted = http.call("GET", "/health", &[origin, ("host", "api.example")], "").await;
    assert_eq!(admitted.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(admitted.header("access-control-allow-credentials"), None);
    let preflight = [
        origin,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,idempotency-key"),
    ];
    let preflight = http.call("OPTIONS", "/api/sync/push", &preflight, "").await;
    assert!(preflight.status.is_success());
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization,content-type,idempotency-key"));
    assert_eq!(preflight.header("access-control-max-age"), Some("7200"));
    for origin in ["https://evil.example", "http://localhost:5173", "null"] {
        let refused = http.call("GET", "/health", &[("origin", origin)], "").await;
        assert_eq!(refused.header("access-control-allow-origin"), None);
        refused.refused(403, "ORIGIN_REFUSED");
    }
    http.call("GET", "/health", &[("x-forwarded-for", "1.2.3.4")], "").await.ok();
}

/// What is logged on this thread while the guard lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        tracing::subscriber::set_default(tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish())
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_refused_origin_is_logged_once_with_the_setting_that_admits_it() {
    let origin = "https://other.example:8443";
    for (server, setting) in [
        (TestServer::dev().await, "--allow-origin https://other.example:8443"),
        (TestServer::serve(CHAT).await, r#"add "https://other.example:8443" to `allowed_origins` in the [server] table"#),
    ] {
        let log = Log::default();
        let captured = log.capture();
        let http = server.anonymous();
        for _ in 0..3 {
            let refused = http.call("GET", "/health", &[("origin", origin)], "").await.refused(403, "ORIGIN_REFUSED");
            assert!(refused["error"]["hint"].as_str().unwrap().contains(setting), "{refused}");
            assert!(Socket::offer(server.address, "syncline.1", &[("origin", origin)]).await.is_err());
        }
        let file = http.call("GET", "/health", &[("origin", "null")], "").await.refused(403, "ORIGIN_REFUSED");
        assert!(file["error"]["hint"].as_str().unwrap().contains("no origin that could be admitted"), "{file}");
        for number in 0..200 {
            http.call("GET", "/health", &[("origin", &format!("https://{number}.example"))], "").await;
        }
        drop(captured);
        let lines = log.lines();
        let about = lines.iter().filter(|line| line.contains("other.example")).collect::<Vec<_>>();
        assert!(about.len() == 1 && about[0].contains(setting), "{about:?}");
        assert_eq!(lines.iter().filter(|line| line.contains("refused pages of")).count(), 100, "made-up origins fill no log");
        assert!(lines.last().unwrap().contains("further ones are refused without a line"));
    }
}

#[tokio::test]
async fn files_come_with_a_strict_policy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "<!doctype html>").unwrap();
    std::fs::write(folder.path().join("app.wasm"), b"\0asm").unwrap();
    let connect = vec!["http://127.0.0.1:5000".to_owned()];
    let files = StaticFiles { directory: Some(folder.path().to_owned()), cross_origin_isolated: true, connect };
    let options = ServerOptions { files, ..ServerOptions::dev(loopback()) };
    let server = TestServer::start(options, Schema::open()).await;
    let http = server.anonymous();
    let page = http.get("/").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' ws://127.0.0.1"),
        "{policy}"
    );
    assert!(policy.contains(" http://127.0.0.1:5000; base-uri"), "{policy}");
    assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
    assert_eq!(page.header("cross-origin-embedder-policy"), Some("require-corp"));
    assert_eq!(http.get("/app.wasm").await.header("content-type"), Some("application/wasm"));
    let etag = page.header("etag").unwrap().to_owned();
    assert_eq!(http.call("GET", "/", &[("if-none-match", &etag)], "").await.status, 304);
    http.get("/nothing.html").await.refused(404, "NOT_FOUND");
    http.get("/../Cargo.toml").await.refused(404, "NOT_FOUND");
    http.get("/api/nothing").await.refused(404, "NOT_FOUND");
}
