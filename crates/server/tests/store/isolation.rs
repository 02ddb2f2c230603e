//! Every path shows a reader exactly what a naive filter of the tables shows.

use serde_json::{Value, json};
use syncline_protocol::{EntityName, RowId};
use syncline_server::store::{PageLimits, ReadError};

use crate::history::{ENTITIES, History, MANIFEST, Random, USERS, seeds, visible};
use crate::replica::{Replica, Rows};
use crate::support::{TestStore, intent, reader};

/// Law: whatever the history, a reader that pulls at any times with any page sizes holds, whenever it is settled, exactly
/// the rows that the policies show its user at its cursor.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_holds_what_it_may_see_at_its_cursor() {
    for seed in seeds(1..13) {
        println!("SYNCLINE_SEED={seed} cargo test -p syncline-server --test store a_reader_holds");
        run_history(seed, 120).await;
    }
}

async fn run_history(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let test = TestStore::open(MANIFEST);
    let mut history = History::default();
    let mut replicas: Vec<(&str, Replica)> =
        USERS.iter().flat_map(|user| [(*user, Replica::default()), (*user, Replica::default())]).collect();
    let mut settled = 0;
    for step in 0..steps {
        write_some(&test, &mut history, &mut random, step as u64).await;
        for _ in 0..random.below(6) {
            let index = random.below(replicas.len());
            let (user, replica) = &mut replicas[index];
            pull_once(&test, user, replica, 1 + random.below(12)).await;
            settled += check(&history, user, replica);
        }
        if random.below(40) == 0 {
            let index = random.below(replicas.len());
            replicas[index].1 = Replica::default();
        }
    }
    for (user, replica) in &mut replicas {
        while replica.token.is_none() || replica.seq < history.head() || replica.snapshot_running {
            pull_once(&test, user, replica, 7).await;
            settled += check(&history, user, replica);
        }
        assert!(replica.is_settled(), "at the head everything fits");
        assert_eq!(replica.seq, history.head());
    }
    assert!(settled > steps / 4, "too few comparisons: {settled}");
}

async fn write_some(test: &TestStore, history: &mut History, random: &mut Random, step: u64) {
    let transactions: Vec<Vec<Value>> = (0..=random.below(4)).map(|_| history.transaction(random)).collect();
    let intents = transactions.iter().zip(step * 100..).map(|(changes, op)| intent(op, &json!(changes))).collect();
    let user = *random.pick(&USERS);
    let results = test.push(user, intents).await;
    for (changes, result) in transactions.iter().zip(&results) {
        history.happened(changes, result);
    }
}

async fn pull_once(test: &TestStore, user: &str, replica: &mut Replica, changes: usize) {
    let limits = PageLimits { changes, ..PageLimits::default() };
    let page = test.store.pull(&reader(user), replica.token.as_deref(), limits).await.unwrap();
    replica.apply(&page);
}

fn check(history: &History, user: &str, replica: &Replica) -> usize {
    if !replica.is_settled() {
        return 0;
    }
    compare(&replica.rows, &visible(&history.rows_at(replica.seq), user), user, replica.seq);
    1
}

fn compare(found: &Rows, expected: &Rows, user: &str, seq: u64) {
    for (key, row) in found {
        assert_eq!(expected.get(key), Some(row), "{user:?} at {seq} holds {key:?}");
    }
    for key in expected.keys() {
        assert!(found.contains_key(key), "{user:?} at {seq} lacks {key:?}: {:?}", expected[key]);
    }
}

/// At least 100,000 decisions of three seeds over pull, query, list and get, against the naive filter.
#[tokio::test(flavor = "multi_thread")]
async fn no_path_shows_what_a_policy_hides() {
    for seed in seeds(100..103) {
        println!("SYNCLINE_SEED={seed} cargo test -p syncline-server --test store no_path_shows");
        let mut checked = 0;
        let mut random = Random(seed);
        let test = TestStore::open(MANIFEST);
        let mut history = History::default();
        let mut step = 0;
        while history.rows_at(history.head()).len() < 2_200 {
            let transactions: Vec<Vec<Value>> = (0..50).map(|_| history.transaction(&mut random)).collect();
            let intents = transactions.iter().zip(step * 100..).map(|(changes, op)| intent(op, &json!(changes))).collect();
            let results = test.push(USERS[1 + random.below(3)], intents).await;
            transactions.iter().zip(&results).for_each(|(changes, result)| history.happened(changes, result));
            step += 1;
        }
        let rows = history.rows_at(history.head());
        for user in USERS {
            checked += check_paths(&test, &rows, user).await;
            let mut replica = Replica::default();
            while replica.token.is_none() || replica.has_more || replica.snapshot_running {
                pull_once(&test, user, &mut replica, 200).await;
            }
            compare(&replica.rows, &visible(&rows, user), user, replica.seq);
            checked += rows.len();
        }
        println!("{checked} row checks");
        assert!(checked >= 100_000 / 3, "{checked}");
    }
}

/// Asks for every row by list, by query and by id; returns the number of decisions compared.
async fn check_paths(test: &TestStore, rows: &Rows, user: &str) -> usize {
    let reader = reader(user);
    let allowed = visible(rows, user);
    let mut checked = 0;
    for name in ENTITIES {
        let entity = EntityName::parse(name).unwrap();
        let ids = |listed: Result<Vec<Value>, ReadError>| match listed {
            Ok(listed) => listed.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
            Err(ReadError::Denied(_)) => Vec::new(),
            Err(other) => panic!("{other}"),
        };
        let parse = |rows: Vec<syncline_protocol::RawJson>| {
            rows.iter().map(|row| serde_json::from_str(row.get()).unwrap()).collect::<Vec<Value>>()
        };
        let expected: Vec<String> = allowed.keys().filter(|(kind, _)| kind == name).map(|(_, id)| id.clone()).collect();
        let listed = test.store.list(&reader, &entity, None, 0).await;
        assert_eq!(ids(listed.map(|list| parse(list.rows))), expected, "list of {name} for {user:?}");
        let queried = test.store.query(&reader, &entity, &json!({"id": {"$gte": ""}})).await;
        assert_eq!(ids(queried.map(parse)), expected, "query of {name} for {user:?}");
        for (_, id) in rows.keys().filter(|(kind, _)| kind == name) {
            let row = test.store.get(&reader, &entity, &RowId::parse(id.as_str()).unwrap()).await;
            let found = matches!(row, Ok(Some(_)));
            assert_eq!(found, allowed.contains_key(&(name.to_owned(), id.clone())), "{name}/{id} for {user:?}");
            checked += 3;
        }
    }
    checked
}
