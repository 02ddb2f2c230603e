//! Tokens of another issuer: whose are taken, what their claims mean, and that nothing else passes.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use syncline_core::server::Schema;
use syncline_server::ServerOptions;
use syncline_server::jwt::{AuthTable, ClaimsTable, JwtVerifier};

use crate::http_client::Http;
use crate::socket_client::Socket;
use crate::test_server::{TestServer, loopback};

const SECRET: &str = "a secret of thirty-two bytes, or a few more";
const RSA: &[u8] = include_bytes!("keys/rsa.pem");
const EC: &[u8] = include_bytes!("keys/ec.pem");
const ED: &[u8] = include_bytes!("keys/ed.pem");

fn keys() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/keys"))
}

fn secret(name: &str) -> Option<String> {
    (name == "SECRET").then(|| SECRET.to_owned())
}

async fn server(table: &AuthTable, folder: &Path) -> TestServer {
    let jwt = Some(Arc::new(JwtVerifier::load(table, folder, secret).unwrap()));
    TestServer::start(ServerOptions { jwt, ..ServerOptions::dev(loopback()) }, Schema::open()).await
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn signed(header: &Header, key: &EncodingKey, claims: &Value) -> String {
    encode(header, claims, key).unwrap()
}

fn with_secret(claims: &Value) -> String {
    signed(&Header::new(Algorithm::HS256), &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

fn bearer(server: &TestServer, token: String) -> Http {
    Http::new(server.address, Some(token))
}

fn claims() -> Value {
    json!({"sub": "alice", "exp": now() + 600, "iss": "https://issuer.example", "aud": ["syncline", "others"]})
}

#[tokio::test]
async fn claims_say_who_somebody_is() {
    let table = AuthTable {
        secret_env: Some("SECRET".to_owned()),
        issuer: Some("https://issuer.example".to_owned()),
        audience: Some("syncline".to_owned()),
        leeway_secs: Some(30),
        claims: ClaimsTable { tenant: Some("https://app.example/org".to_owned()), ..ClaimsTable::default() },
        ..AuthTable::default()
    };
    let server = server(&table, keys()).await;
    let changed = |key: &str, value: Value| {
        let mut claims = claims();
        claims[key] = value;
        claims
    };
    let mut full = changed("roles", json!("editor admin"));
    full["https://app.example/org"] = json!("acme");
    let me = bearer(&server, with_secret(&full)).get("/api/auth/me").await.ok();
    assert_eq!(me, json!({"user_id": "alice", "tenant_id": "acme", "is_admin": false, "roles": ["editor", "admin"]}));
    for taken in [
        changed("sub", json!(42)),
        changed("aud", json!("syncline")),
        changed("exp", json!(now() - 20)),
        changed("nbf", json!(now() + 20)),
        changed("https://app.example/org", Value::Null),
    ] {
        bearer(&server, with_secret(&taken)).get("/api/auth/me").await.ok();
    }
    for refused in [
        changed("iss", json!("https://elsewhere.example")),
        changed("iss", Value::Null),
        changed("aud", json!(["others"])),
        changed("aud", Value::Null),
        changed("exp", Value::Null),
        changed("exp", json!("tomorrow")),
        changed("nbf", json!(now() + 300)),
        changed("sub", json!("")),
        changed("sub", json!(["alice"])),
        changed("sub", json!("x".repeat(257))),
        changed("https://app.example/org", json!({"id": "acme"})),
    ] {
        bearer(&server, with_secret(&refused)).get("/api/auth/me").await.refused(401, "UNAUTHENTICATED");
    }
    let expired = with_secret(&changed("exp", json!(now() - 40)));
    bearer(&server, expired.clone()).get("/api/auth/me").await.refused(401, "TOKEN_EXPIRED");
    let mut socket = Socket::open(server.address, Some(&expired)).await;
    assert_eq!(socket.closed().await, (4401, "TOKEN_EXPIRED".to_owned()));

    let alice = bearer(&server, with_secret(&claims()));
    alice.post("/api/auth/select-org", &json!({"orgId": "acme"})).await.refused(403, "FORBIDDEN");
    alice.call("DELETE", "/api/auth/session", &[], "").await.refused(403, "FORBIDDEN");
    alice.post("/api/entities/Todo", &json!({"id": "t", "title": "x"})).await.ok();
    let own = server.sign_in("alice").await;
    assert_eq!(own.get("/api/entities/Todo/t").await.ok()["title"], "x", "tokens of this server are taken as before");
    let (_socket, welcome) = Socket::connect(server.address, alice.token.as_deref(), Some("alice"), None).await;
    assert_eq!(welcome.identity.user_id.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_key_takes_its_own_signature_and_no_other() {
    let kinds = [
        ("rsa.pub.pem", Algorithm::RS256, EncodingKey::from_rsa_pem(RSA).unwrap()),
        ("ec.pub.pem", Algorithm::ES256, EncodingKey::from_ec_pem(EC).unwrap()),
        ("ed.pub.pem", Algorithm::EdDSA, EncodingKey::from_ed_pem(ED).unwrap()),
    ];
    for (file, algorithm, _) in &kinds {
        let table = AuthTable { public_key_file: Some(file.into()), ..AuthTable::default() };
        let server = server(&table, keys()).await;
        for (_, signed_with, key) in &kinds {
            let answer = bearer(&server, signed(&Header::new(*signed_with), key, &claims())).get("/api/auth/me").await;
            if signed_with == algorithm {
                assert_eq!(answer.ok()["user_id"], "alice");
            } else {
                answer.refused(401, "UNAUTHENTICATED");
            }
        }
        // The public key as the secret of HS256, no signature, a cut one, another's claims.
        let public = std::fs::read(keys().join(file)).unwrap();
        let confused = signed(&Header::new(Algorithm::HS256), &EncodingKey::from_secret(&public), &claims());
        let good =
            kinds.iter().find(|(_, own, _)| own == algorithm).map(|(_, own, key)| signed(&Header::new(*own), key, &claims()));
        let good = good.unwrap();
        let (head, signature) = good.rsplit_once('.').unwrap();
        let other = with_secret(&json!({"sub": "root", "exp": now() + 60}));
        let other_claims = other.split('.').nth(1).unwrap();
        let forged = [
            confused,
            format!("{head}."),
            format!("{head}.{}", &signature[..signature.len() - 2]),
            format!("{}.{other_claims}.{signature}", head.split('.').next().unwrap()),
            // {"alg":"none"}
            format!("eyJhbGciOiJub25lIn0.{other_claims}."),
            "..".to_owned(),
            "a.b.c".to_owned(),
        ];
        for token in forged {
            bearer(&server, token).get("/api/auth/me").await.refused(401, "UNAUTHENTICATED");
        }
    }
}

#[tokio::test]
async fn a_set_of_keys_is_searched_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (EncodingKey::from_ec_pem(EC).unwrap(), EncodingKey::from_ed_pem(ED).unwrap());
    let jwk = |key: &EncodingKey, algorithm, id: &str, purpose: &str| {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
        (jwk["kid"], jwk["use"]) = (json!(id), json!(purpose));
        jwk
    };
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    let set = json!({"keys": [
        jwk(&first, Algorithm::ES256, "one", "sig"),
        jwk(&second, Algorithm::EdDSA, "two", "sig"),
        jwk(&rsa, Algorithm::RS256, "three", "enc"),
        {"kty": "oct", "kid": "four", "k": "c2VjcmV0", "alg": "HS256"},
    ]});
    std::fs::write(folder.path().join("keys.json"), set.to_string()).unwrap();
    let table = AuthTable { jwks_file: Some("keys.json".into()), ..AuthTable::default() };
    let server = server(&table, folder.path()).await;
    let header = |algorithm, id: Option<&str>| Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    let call = async |algorithm, id, key: &EncodingKey| {
        bearer(&server, signed(&header(algorithm, id), key, &claims())).get("/api/auth/me").await
    };
    call(Algorithm::ES256, Some("one"), &first).await.ok();
    call(Algorithm::EdDSA, Some("two"), &second).await.ok();
    call(Algorithm::EdDSA, None, &second).await.ok();
    call(Algorithm::EdDSA, Some("one"), &second).await.refused(401, "UNAUTHENTICATED");
    call(Algorithm::RS256, Some("three"), &rsa).await.refused(401, "UNAUTHENTICATED");
    let shared = EncodingKey::from_secret(b"secret");
    call(Algorithm::HS256, Some("four"), &shared).await.refused(401, "UNAUTHENTICATED");
}

#[test]
fn a_table_that_cannot_work_says_why() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty.json"), r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#).unwrap();
    std::fs::write(folder.path().join("empty.pem"), "no key").unwrap();
    let file = |name: &str| Some(name.into());
    let cases = [
        (AuthTable::default(), "one of secret_env, public_key_file and jwks_file"),
        (AuthTable { secret_env: Some("A".to_owned()), jwks_file: file("x"), ..AuthTable::default() }, "one of secret_env"),
        (AuthTable { secret_env: Some("UNSET".to_owned()), ..AuthTable::default() }, "no environment variable UNSET"),
        (AuthTable { secret_env: Some("SHORT".to_owned()), ..AuthTable::default() }, "HS256 needs 32"),
        (AuthTable { public_key_file: file("missing.pem"), ..AuthTable::default() }, "missing.pem"),
        (AuthTable { public_key_file: file("empty.pem"), ..AuthTable::default() }, "holds no public key"),
        (AuthTable { jwks_file: file("empty.json"), ..AuthTable::default() }, "holds no public key"),
        (AuthTable { jwks_file: file("empty.pem"), leeway_secs: Some(601), ..AuthTable::default() }, "at most 600"),
    ];
    for (table, expected) in cases {
        let variable = |name: &str| (name == "SHORT").then(|| "short".to_owned());
        let error = JwtVerifier::load(&table, folder.path(), variable).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {expected}");
    }
}
