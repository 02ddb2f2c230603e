//! The open sockets: how many each address holds, and which leader of a replica is the newest.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use syncline_protocol::{ClientId, Identity, limits};
use tokio::sync::watch;

/// Counts sockets and leaders. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct SocketRegistry {
    open: Arc<Mutex<Open>>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Open {
    addresses: HashMap<IpAddr, usize>,
    /// The newest fence of each replica that has a socket.
    leaders: BTreeMap<Replica, watch::Sender<u64>>,
}

/// A replica belongs to one user: another who learns its id from a transaction must not be able to fence it.
pub(crate) type Replica = (Identity, ClientId);

/// A socket's place in the count of its address; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: SocketRegistry,
    address: IpAddr,
}

/// One socket's claim to lead a replica.
#[derive(Debug)]
pub(crate) struct Leadership {
    registry: SocketRegistry,
    replica: Replica,
    fence: u64,
    /// `None` only while it is dropped.
    newest: Option<watch::Receiver<u64>>,
}

impl Default for SocketRegistry {
    fn default() -> Self {
        Self { open: Arc::default(), count: watch::channel(0).0 }
    }
}

impl SocketRegistry {
    /// Waits until no socket is open.
    pub(crate) async fn emptied(&self) {
        // The sender is a field, so the channel cannot be closed.
        let _ = self.watch().wait_for(|count| *count == 0).await;
    }

    /// Follows the number of open sockets.
    pub(crate) fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Counts one more socket; `None` when the address has enough.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Seat> {
        let mut open = self.lock();
        let count = open.addresses.entry(address).or_default();
        if *count >= limits::SOCKETS_PER_ADDRESS {
            return None;
        }
        *count += 1;
        self.count.send_modify(|count| *count += 1);
        Some(Seat { registry: self.clone(), address })
    }

    /// Claims a replica; `None` when a newer leader has it.
    pub(crate) fn lead(&self, replica: Replica, fence: u64) -> Option<Leadership> {
        let mut open = self.lock();
        let leader = open.leaders.entry(replica.clone()).or_insert_with(|| watch::channel(fence).0);
        if *leader.borrow() > fence {
            return None;
        }
        leader.send_if_modified(|newest| std::mem::replace(newest, fence) != fence);
        Some(Leadership { registry: self.clone(), replica, fence, newest: Some(leader.subscribe()) })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leadership {
    /// Whether a newer leader has claimed the replica.
    pub(crate) fn is_lost(&self) -> bool {
        self.newest.as_ref().is_some_and(|newest| *newest.borrow() > self.fence)
    }

    /// Waits until a newer leader claims the replica.
    pub(crate) async fn lost(&mut self) {
        let fence = self.fence;
        if let Some(newest) = &mut self.newest
            && newest.wait_for(|newest| *newest > fence).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.newest = None;
        let mut open = self.registry.lock();
        if open.leaders.get(&self.replica).is_some_and(|leader| leader.receiver_count() == 0) {
            open.leaders.remove(&self.replica);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.count.send_modify(|count| *count -= 1);
        let mut open = self.registry.lock();
        if let Some(count) = open.addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_a_bounded_number_of_sockets() {
        let registry = SocketRegistry::default();
        let address = IpAddr::from([127, 0, 0, 1]);
        let mut seats: Vec<_> = (0..limits::SOCKETS_PER_ADDRESS).map(|_| registry.admit(address).unwrap()).collect();
        assert!(registry.admit(address).is_none());
        assert!(registry.admit(IpAddr::from([127, 0, 0, 2])).is_some());
        seats.pop();
        assert!(registry.admit(address).is_some());
    }

    #[tokio::test]
    async fn a_newer_leader_ends_the_older_and_an_older_is_refused() {
        let registry = SocketRegistry::default();
        let replica = (Identity::default(), ClientId::from_bytes([1; 16]));
        let mut first = registry.lead(replica.clone(), 1).unwrap();
        let second = registry.lead(replica.clone(), 2).unwrap();
        first.lost().await;
        assert!(registry.lead(replica.clone(), 1).is_none());
        drop((first, second));
        assert!(registry.lead(replica, 1).is_some(), "nobody leads any more");
    }
}
