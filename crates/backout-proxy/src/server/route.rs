//! What the workers know of a route.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::HeaderMap;
use tokio::sync::watch;

use super::{
    connection::ConnState,
    pool::Pool,
    stats::{Counters, Shard},
    sticky::{Session, Sticky, mix},
    weights::{self, Percents},
};
use crate::wire::{SideName, SideSpec};

/// A side as all workers share it. A put that changes anything of it but its weight makes a new one.
pub(crate) struct Side {
    pub(crate) spec: SideSpec,
    pub(crate) counters: Arc<Counters>,
    /// Raised to take back what waits here and may be sent again.
    rescues: AtomicU64,
    /// Raised to end everything here.
    cuts: AtomicU64,
}

impl Side {
    pub(crate) fn new(spec: SideSpec, counters: Arc<Counters>) -> Self {
        Self { spec, counters, rescues: AtomicU64::new(0), cuts: AtomicU64::new(0) }
    }

    pub(crate) fn rescue(&self) {
        self.rescues.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn cut(&self) {
        self.rescue();
        self.cuts.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn rescues(&self) -> u64 {
        self.rescues.load(Ordering::Acquire)
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Acquire)
    }
}

/// What a put replaces as a whole.
pub(crate) struct Table {
    pub(crate) sides: [Option<Arc<Side>>; 2],
    pub(crate) percents: Percents,
    pub(crate) response_timeout: Duration,
    /// Clients stay on their side.
    pub(crate) sticky: Option<Arc<Sticky>>,
    /// How many shards the counters have.
    pub(crate) workers: usize,
}

/// A route as all workers share it.
pub(crate) struct Route {
    /// Differs even between two routes of one name, of which the first was removed.
    pub(crate) id: u64,
    pub(crate) key: String,
    table: ArcSwap<Table>,
    /// Raised after each change of the table, so that workers compare one number per request.
    generation: AtomicU64,
    /// Numbers the requests, over all workers: shares hold even where each worker sees few requests.
    picks: AtomicU64,
    /// Changes with everything that a subscriber must hear at once.
    pub(crate) news: watch::Sender<u64>,
}

impl Route {
    pub(crate) fn new(id: u64, key: String, table: Table) -> Self {
        Self {
            id,
            key,
            table: ArcSwap::from_pointee(table),
            generation: AtomicU64::new(1),
            picks: AtomicU64::new(0),
            news: watch::Sender::new(0),
        }
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Both weights change at one instant, so neither has to be raised first: no request finds none.
    pub(crate) fn replace(&self, table: Table) {
        self.table.store(Arc::new(table));
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.tell();
    }

    fn next_turn(&self) -> u64 {
        weights::turn(self.picks.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// A side as one worker sees it.
pub(crate) struct LocalSide {
    pub(crate) side: Arc<Side>,
    pub(crate) pool: Pool,
    worker: usize,
}

impl LocalSide {
    pub(crate) fn shard(&self) -> &Shard {
        self.side.counters.shard(self.worker)
    }

    pub(crate) fn upstream(&self) -> SocketAddr {
        self.side.spec.upstream
    }
}

/// A table as one worker sees it.
pub(crate) struct LocalTable {
    generation: u64,
    sides: [Option<Rc<LocalSide>>; 2],
    percents: Percents,
    pub(crate) response_timeout: Duration,
    pub(crate) sticky: Option<Arc<Sticky>>,
}

impl LocalTable {
    fn new(shared: &Route, worker: usize, before: Option<&Self>) -> Rc<Self> {
        let generation = shared.generation.load(Ordering::Acquire);
        let table = shared.table.load();
        let sides = SideName::ALL.map(|name| {
            let side = table.sides[name.index()].as_ref()?;
            let known = before.and_then(|before| before.sides[name.index()].as_ref());
            Some(match known {
                Some(known) if Arc::ptr_eq(&known.side, side) => known.clone(),
                _ => Rc::new(LocalSide { side: side.clone(), pool: Pool::default(), worker }),
            })
        });
        let retired = before.into_iter().flat_map(Self::sides);
        retired
            .filter(|before| !sides.iter().flatten().any(|side| Rc::ptr_eq(before, side)))
            .for_each(|before| before.pool.retire());
        Rc::new(Self {
            generation,
            sides,
            percents: table.percents,
            response_timeout: table.response_timeout,
            sticky: table.sticky.clone(),
        })
    }

    /// The side for the next request, or for that of a client which stays where it is, if any has weight.
    pub(crate) fn pick(&self, route: &Route, session: Option<Session>) -> Option<Rc<LocalSide>> {
        let place = match (self.percents, &self.sticky, session) {
            ([0, _] | [_, 0], ..) => 0,
            (_, Some(sticky), Some(session)) => sticky.place(session),
            _ => route.next_turn(),
        };
        let name = weights::at(&self.percents, place)?;
        self.sides[name.index()].clone()
    }

    /// The other side, if it has weight.
    pub(crate) fn instead_of(&self, side: &Rc<LocalSide>) -> Option<Rc<LocalSide>> {
        let (other, _) = self.sides.iter().zip(self.percents).find(|(other, percent)| {
            *percent > 0 && other.as_ref().is_some_and(|other| !Rc::ptr_eq(other, side))
        })?;
        other.clone()
    }

    pub(crate) fn sides(&self) -> impl Iterator<Item = &Rc<LocalSide>> {
        self.sides.iter().flatten()
    }
}

/// A route as one worker sees it, with the connections that it serves for it.
pub(crate) struct LocalRoute {
    pub(crate) shared: Arc<Route>,
    worker: usize,
    table: RefCell<Rc<LocalTable>>,
    pub(crate) connections: RefCell<HashMap<u64, Rc<ConnState>>>,
    /// No more connections come, and kept-alive ones are told to close.
    pub(crate) closing: Cell<bool>,
    /// For the numbers of new clients.
    random: Cell<u64>,
}

impl LocalRoute {
    pub(crate) fn new(shared: Arc<Route>, worker: usize) -> Self {
        let table = RefCell::new(LocalTable::new(&shared, worker, None));
        Self {
            shared,
            worker,
            table,
            connections: RefCell::default(),
            closing: Cell::new(false),
            random: Cell::new(RandomState::new().hash_one(worker)),
        }
    }

    /// Who sends this request, where clients stay on their side.
    pub(crate) fn session(&self, table: &LocalTable, headers: &HeaderMap) -> Option<Session> {
        let sticky = table.sticky.as_ref()?;
        Some(sticky.read(headers).unwrap_or_else(|| {
            let random = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            self.random.set(random);
            sticky.begin(self.shared.next_turn(), mix(random))
        }))
    }

    /// The table in force.
    pub(crate) fn table(&self) -> Rc<LocalTable> {
        let mut table = self.table.borrow_mut();
        if table.generation != self.shared.generation.load(Ordering::Acquire) {
            *table = LocalTable::new(&self.shared, self.worker, Some(&table));
        }
        table.clone()
    }
}
