//! Every path over real sockets shows each user what a naive filter of the rows shows, and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use syncline_protocol::PushAnswer;

use crate::history::{ENTITIES, History, MANIFEST, Random, USERS, seeds, visible};
use crate::http_client::Http;
use crate::pull::pull_all;
use crate::replica::{Replica, Rows};
use crate::socket_client::Socket;
use crate::test_server::{TestServer, push_of, transaction};

/// One user with everything that reads for them.
struct Onlooker {
    user: Option<&'static str>,
    http: Http,
    socket: Socket,
    streamed: Replica,
}

impl Onlooker {
    async fn new(server: &TestServer, name: &'static str) -> Self {
        let user = (!name.is_empty()).then_some(name);
        let http = match user {
            Some(user) => server.sign_in(user).await,
            None => server.anonymous(),
        };
        let (pages, cursor) = pull_all(&http, name, None).await;
        let mut streamed = Replica::default();
        for page in &pages {
            streamed.apply(page);
        }
        let socket = Socket::streaming(server.address, http.token.as_deref(), user, &cursor).await;
        Self { user, http, socket, streamed }
    }

    fn name(&self) -> &'static str {
        self.user.unwrap_or_default()
    }

    /// Reads frames until the socket has passed a seq.
    async fn catch_up(&mut self, seq: u64) {
        while self.streamed.seq < seq {
            let frame = self.socket.frame().await;
            self.streamed.apply(&frame);
        }
    }

    async fn pulled(&self) -> Replica {
        let (pages, _) = pull_all(&self.http, self.name(), None).await;
        let mut replica = Replica::default();
        for page in &pages {
            replica.apply(page);
        }
        replica
    }

    /// Ids over list and query.
    async fn listed(&self, entity: &str) -> [BTreeSet<String>; 2] {
        let ids = |rows: &Value| rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        let list = self.http.get(&format!("/api/entities/{entity}")).await;
        let query = self.http.post(&format!("/api/query/{entity}"), &json!({"$order": {"id": "desc"}})).await;
        if list.status == 403 {
            query.refused(403, "POLICY_DENIED");
            return [BTreeSet::new(), BTreeSet::new()];
        }
        [ids(&list.ok()["data"]), ids(&query.ok())]
    }
}

async fn write(by: &Onlooker, history: &mut History, transactions: &[Vec<Value>]) {
    let intents: Vec<Value> = transactions.iter().map(|changes| transaction(changes.clone())).collect();
    let answer = by.http.post("/api/sync/push", &push_of(by.user, None, &intents)).await.ok();
    let results = PushAnswer::parse(&answer.to_string()).unwrap().results;
    transactions.iter().zip(&results).for_each(|(changes, result)| history.happened(changes, result));
}

fn compare(path: &str, user: &str, found: &Rows, expected: &Rows) -> usize {
    for (key, row) in found {
        assert_eq!(expected.get(key), Some(row), "{path} shows {user:?} {key:?}");
    }
    for key in expected.keys() {
        assert!(found.contains_key(key), "{path} keeps {key:?} from {user:?}");
    }
    expected.len()
}

/// A socket, a pull, a list, a query and a read by id agree with the naive filter, while memberships come and go.
#[tokio::test(flavor = "multi_thread")]
async fn no_socket_or_route_shows_what_a_policy_hides() {
    for seed in seeds(7..8) {
        println!("SYNCLINE_SEED={seed} cargo test -p syncline-server --test wire no_socket_or_route");
        let checked = run_history(seed).await;
        println!("{checked} row checks");
        assert!(checked > 10_000, "{checked}");
    }
}

async fn run_history(seed: u64) -> usize {
    let server = TestServer::dev_with(MANIFEST).await;
    let mut onlookers = Vec::new();
    for user in USERS {
        onlookers.push(Onlooker::new(&server, user).await);
    }
    let (mut random, mut history, mut checked) = (Random(seed), History::default(), 0);
    for round in 0..30 {
        for _ in 0..random.below(8) {
            let transactions: Vec<_> = (0..=random.below(12)).map(|_| history.transaction(&mut random)).collect();
            write(random.pick(&onlookers), &mut history, &transactions).await;
        }
        // Everybody may see it, so everybody's socket gets a frame that ends here.
        let post = json!({"entity": "posts", "row_id": format!("round-{round}"), "kind": "insert", "data": {"title": "seen"}});
        write(&onlookers[1], &mut history, &[vec![post]]).await;
        let rows = history.rows_at(history.head());
        for onlooker in &mut onlookers {
            onlooker.catch_up(history.head()).await;
            assert!(onlooker.streamed.is_settled());
            let expected = visible(&rows, onlooker.name());
            compare("the socket", onlooker.name(), &onlooker.streamed.rows, &expected);
            checked += rows.len();
        }
    }
    let rows = history.rows_at(history.head());
    for onlooker in &onlookers {
        checked += check_routes(onlooker, &rows).await;
    }
    checked
}

async fn check_routes(onlooker: &Onlooker, rows: &Rows) -> usize {
    let user = onlooker.name();
    let expected = visible(rows, user);
    compare("a pull", user, &onlooker.pulled().await.rows, &expected);
    for entity in ENTITIES {
        let allowed: BTreeSet<String> = expected.keys().filter(|(kind, _)| kind == entity).map(|(_, id)| id.clone()).collect();
        let [listed, queried] = onlooker.listed(entity).await;
        assert_eq!(listed, allowed, "list of {entity} for {user:?}");
        assert_eq!(queried, allowed, "query of {entity} for {user:?}");
    }
    for (entity, id) in rows.keys() {
        let answer = onlooker.http.get(&format!("/api/entities/{entity}/{id}")).await;
        let visible = expected.contains_key(&(entity.clone(), id.clone()));
        assert_eq!(answer.status.as_u16() == 200, visible, "{entity}/{id} for {user:?}: {}", answer.text());
    }
    rows.len() * 4
}
