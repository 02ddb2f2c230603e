//! The demo's story, shorter than in Chromium: what differs between engines is IndexedDB, WebSocket and loading the module.

use syncline_webdriver_tests::{Browser, ChatPage, ChatServer, Session};

#[tokio::test]
async fn what_is_written_offline_survives_a_reload_and_arrives() -> anyhow::Result<()> {
    let browser = Browser::from_environment()?;
    let server = ChatServer::start()?;
    let sessions = [browser.open().await?, browser.open().await?];
    let told = tell(&server, &sessions).await;
    for (number, session) in sessions.into_iter().enumerate() {
        if told.is_err() {
            let shot = session.client.screenshot().await?;
            std::fs::write(std::env::temp_dir().join(format!("syncline-{browser:?}-{number}.png")), shot)?;
        }
        session.client.close().await?;
    }
    told
}

async fn tell(server: &ChatServer, [first, second]: &[Session; 2]) -> anyhow::Result<()> {
    let alice = ChatPage::sign_in(&first.client, &server.url, "alice").await?;
    let bob = ChatPage::sign_in(&second.client, &server.url, "bob").await?;
    alice.create_channel("lunch", "bob").await?;
    bob.open_channel("lunch").await?;
    alice.send("Hello Bob").await?;
    bob.shows(&["Hello Bob"]).await?;

    alice.set_offline(true).await?;
    alice.send("In the tunnel").await?;
    alice.delivered(&["confirmed", "local"]).await?;
    alice.reload().await?;
    alice.connection("paused").await?;
    alice.shows(&["Hello Bob", "In the tunnel"]).await?;
    alice.delivered(&["confirmed", "local"]).await?;

    alice.set_offline(false).await?;
    alice.delivered(&["confirmed", "confirmed"]).await?;
    for page in [&alice, &bob] {
        page.shows(&["Hello Bob", "In the tunnel"]).await?;
    }
    let name = format!("{:?}", Browser::from_environment()?).to_lowercase();
    alice.screenshot(&format!("webdriver-{name}-alice")).await?;
    bob.screenshot(&format!("webdriver-{name}-bob")).await
}
