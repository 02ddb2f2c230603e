//! What the demo's page calls to kill and restart its server: a handful of HTTP on loopback, in this process and nowhere else.
//!
//! Whoever calls must name this run's token, come from the demo's own page, and use a name of this machine, so that no
//! other page of the browser and no name that was bent to 127.0.0.1 can stop anything.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::supervisor::Machine;
use crate::progress::note;

/// Who may call.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    /// The secret of this run.
    token: String,
    /// The port of the demo's pages.
    page_port: u16,
    /// The port of this endpoint.
    own_port: u16,
}

impl Admission {
    /// Makes a token that nobody can guess.
    pub(super) fn new(page_port: u16, own_port: u16) -> anyhow::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)?;
        let mut token = String::new();
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(token, "{byte:02x}");
        }
        Ok(Self { token, page_port, own_port })
    }

    /// What the page's address ends with: where to call and with which token. Browsers send no fragment to a server.
    pub(super) fn fragment(&self) -> String {
        format!("control={}.{}", self.own_port, self.token)
    }

    /// The page's origin if this is a page of the demo.
    fn origin<'a>(&self, request: &'a Request<'a>) -> Option<&'a str> {
        let origin = request.header("origin")?;
        let own = LOOPBACK_NAMES.iter().any(|name| origin == format!("http://{name}:{}", self.page_port));
        let host = request.header("host")?;
        let here = LOOPBACK_NAMES.iter().any(|name| host == format!("{name}:{}", self.own_port));
        (own && here).then_some(origin)
    }

    fn knows_token(&self, request: &Request<'_>) -> bool {
        request.header("authorization").is_some_and(|given| given.strip_prefix("Bearer ") == Some(&self.token))
    }
}

/// Answers calls until the process ends.
pub(super) fn serve(listener: TcpListener, admission: Admission, machine: Arc<dyn Machine>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (admission, machine) = (admission.clone(), Arc::clone(&machine));
            // A caller who says nothing must not keep others waiting. One who leaves early needs no answer.
            thread::spawn(move || converse(stream, &admission, &*machine));
        }
    });
}

fn converse(mut stream: TcpStream, admission: &Admission, machine: &dyn Machine) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = read_head(&mut stream)?;
    let answer = Request::parse(&head).map_or_else(|| Answer::plain(400), |request| respond(&request, admission, machine));
    stream.write_all(answer.into_text().as_bytes())
}

/// Reads up to the empty line; calls have no body.
fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while bytes.len() < HEAD_BYTES_MAX && !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The head of a request.
#[derive(Debug)]
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Request<'a> {
    fn parse(head: &'a str) -> Option<Self> {
        let (head, _) = head.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let headers = lines.map(|line| line.split_once(':').map(|(name, value)| (name, value.trim()))).collect::<Option<_>>()?;
        Some(Self { method, path, headers })
    }

    /// A header that came once; one that came twice could mean either.
    fn header(&self, name: &str) -> Option<&'a str> {
        let mut found = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        found.next().is_none().then_some(*value)
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    origin: Option<String>,
    body: String,
}

impl Answer {
    fn plain(status: u16) -> Self {
        Self { status, origin: None, body: String::new() }
    }

    fn into_text(self) -> String {
        let reason = match self.status {
            200 => "OK",
            204 => "No Content",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            _ => "Internal Server Error",
        };
        let mut text = format!("HTTP/1.1 {} {reason}\r\nConnection: close\r\nCache-Control: no-store\r\n", self.status);
        if let Some(origin) = &self.origin {
            let _ = write!(text, "Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n");
            text.push_str("Access-Control-Allow-Methods: GET, POST\r\nAccess-Control-Allow-Headers: authorization\r\n");
        }
        let _ = write!(text, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}", self.body.len(), self.body);
        text
    }
}

fn respond(request: &Request<'_>, admission: &Admission, machine: &dyn Machine) -> Answer {
    let Some(origin) = admission.origin(request) else { return Answer::plain(403) };
    let answer = |status, body| Answer { status, origin: Some(origin.to_owned()), body };
    if request.method == "OPTIONS" {
        // What a browser asks before it sends the token; it does nothing yet.
        return answer(204, String::new());
    }
    if !admission.knows_token(request) {
        return answer(401, String::new());
    }
    let done = match (request.method, request.path) {
        ("GET", "/state") => Ok(()),
        ("POST", "/kill") => machine.kill(),
        ("POST", "/start") => machine.start(),
        _ => return answer(404, String::new()),
    };
    match done {
        Ok(()) => answer(200, format!("{{\"running\":{}}}", machine.runs())),
        Err(error) => {
            note(&format!("what the page asked for did not work: {error:#}"));
            answer(500, String::new())
        }
    }
}

const TOKEN_BYTES: usize = 16;
const LOOPBACK_NAMES: [&str; 2] = ["127.0.0.1", "localhost"];
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Fake(AtomicBool);

    impl Machine for Fake {
        fn runs(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }

        fn kill(&self) -> anyhow::Result<()> {
            self.0.store(false, Ordering::SeqCst);
            Ok(())
        }

        fn start(&self) -> anyhow::Result<()> {
            self.0.store(true, Ordering::SeqCst);
            Ok(())
        }
    }

    fn admission() -> Admission {
        Admission { token: "secret".to_owned(), page_port: 4321, own_port: 5000 }
    }

    fn call(machine: &Fake, line: &str, headers: &[&str]) -> Answer {
        let head = format!("{line} HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n"));
        respond(&Request::parse(&head).unwrap(), &admission(), machine)
    }

    const HOST: &str = "Host: 127.0.0.1:5000";
    const ORIGIN: &str = "Origin: http://localhost:4321";
    const TOKEN: &str = "authorization: Bearer secret";

    #[test]
    fn the_page_kills_and_starts_the_server() {
        let machine = Fake(AtomicBool::new(true));
        let killed = call(&machine, "POST /kill", &[HOST, ORIGIN, TOKEN]);
        assert_eq!((killed.status, killed.body.as_str()), (200, "{\"running\":false}"));
        let started = call(&machine, "POST /start", &[HOST, ORIGIN, TOKEN]);
        assert_eq!((started.status, started.body.as_str()), (200, "{\"running\":true}"));
        assert_eq!(call(&machine, "GET /kill", &[HOST, ORIGIN, TOKEN]).status, 404);
        assert!(machine.runs());
    }

    #[test]
    fn nobody_else_does() {
        let machine = Fake(AtomicBool::new(true));
        let refused = [
            (403, vec![HOST, TOKEN]),
            (403, vec![HOST, TOKEN, "Origin: http://evil.example"]),
            (403, vec![HOST, TOKEN, "Origin: http://localhost:4322"]),
            (403, vec!["Host: bent.example:5000", ORIGIN, TOKEN]),
            (403, vec![HOST, "Host: bent.example:5000", ORIGIN, TOKEN]),
            (401, vec![HOST, ORIGIN]),
            (401, vec![HOST, ORIGIN, "Authorization: Bearer secre"]),
            (401, vec![HOST, ORIGIN, "Authorization: secret"]),
        ];
        for (status, headers) in refused {
            assert_eq!(call(&machine, "POST /kill", &headers).status, status, "{headers:?}");
        }
        assert!(machine.runs());
    }

    #[test]
    fn a_browser_may_ask_before_it_calls() {
        let machine = Fake(AtomicBool::new(true));
        let answer = call(&machine, "OPTIONS /kill", &[HOST, ORIGIN, "Access-Control-Request-Method: POST"]);
        let text = answer.into_text();
        assert!(text.starts_with("HTTP/1.1 204 No Content\r\n"), "{text}");
        assert!(text.contains("Access-Control-Allow-Origin: http://localhost:4321\r\n"), "{text}");
        assert!(machine.runs());
    }

    #[test]
    fn nonsense_is_no_request() {
        for head in ["", "GET", "GET / HTTP/1.1\r\nHost 127\r\n\r\n", "GET /state HTTP/1.1\r\nHost: x"] {
            assert!(Request::parse(head).is_none(), "{head:?}");
        }
    }

    #[test]
    fn each_run_has_its_own_token() {
        let [one, other] = [0; 2].map(|_| Admission::new(1, 2).unwrap());
        assert_eq!(one.token.len(), TOKEN_BYTES * 2);
        assert_ne!(one.token, other.token);
        assert_eq!(one.fragment(), format!("control=2.{}", one.token));
    }
}
