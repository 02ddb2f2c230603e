//! Tokens and what they stand for.

use std::time::Duration;

use syncline_server::store::{SessionError, SessionEvent, SessionKind};

use crate::support::TestStore;

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_token_is_its_user_until_revoked_and_is_stored_nowhere() {
    let test = TestStore::open("");
    let token = test.store.create_session("alice", SessionKind::Guest, HOUR).await.unwrap();
    let session = test.store.session(&token).await.unwrap();
    assert_eq!((session.reader.user_id.as_deref(), session.kind), (Some("alice"), SessionKind::Guest));
    let test = test.reopen("").await;
    let mut events = test.store.watch_sessions();
    assert!(test.store.session(&token).await.is_ok());
    let database = std::fs::read(test.folder.path().join("test.db")).unwrap();
    assert!(!database.windows(token.len()).any(|window| window == token.as_bytes()));
    test.store.select_tenant(&token, Some("org")).await.unwrap();
    assert_eq!(test.store.session(&token).await.unwrap().reader.tenant_id.as_deref(), Some("org"));
    assert!(test.store.revoke_session(&token).await.unwrap());
    assert!(!test.store.revoke_session(&token).await.unwrap());
    assert!(matches!(test.store.session(&token).await, Err(SessionError::Revoked)));
    assert!(test.store.select_tenant(&token, None).await.is_err());
    let token_hash = session.token_hash;
    assert_eq!(events.recv().await.unwrap(), SessionEvent::TenantChanged { token_hash });
    assert_eq!(events.recv().await.unwrap(), SessionEvent::Revoked { token_hash });
}

#[tokio::test]
async fn unknown_and_expired_tokens_differ() {
    let test = TestStore::open("");
    let token = test.store.create_session("alice", SessionKind::Issued, Duration::ZERO).await.unwrap();
    assert!(matches!(test.store.session(&token).await, Err(SessionError::Expired)));
    assert!(matches!(test.store.session("sl_other").await, Err(SessionError::Unknown)));
}
