//! The threads of the data plane: each has its own runtime, pools and connections.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
    task::spawn_local,
};

use super::{
    connection::{self, Order},
    limits, listener,
    route::{LocalRoute, Route},
};

/// What the control thread, or another worker, tells a worker.
pub(crate) enum WorkerOrder {
    /// Accept connections for a route; replaces the route's earlier listener.
    Listen { route: Arc<Route>, listener: std::net::TcpListener },
    /// A connection that another worker accepted.
    Adopt { route_id: u64, stream: std::net::TcpStream, peer: SocketAddr },
    /// Look again at the route's sides: something was withdrawn or cut.
    Wake { route_id: u64 },
    /// Accept no more and let the connections end.
    Close { route_id: u64 },
    /// Drop all connections and end the thread.
    Stop,
}

/// What a worker is told, as it hears it.
pub(crate) type Orders = mpsc::UnboundedReceiver<WorkerOrder>;

struct Handle {
    orders: mpsc::UnboundedSender<WorkerOrder>,
    connections: AtomicUsize,
}

/// All workers, as everyone sees them.
#[derive(Clone)]
pub(crate) struct Workers {
    handles: Arc<[Handle]>,
    connections_max: usize,
}

impl Workers {
    /// Starts the threads of all workers but the first: that one works on the caller's, by these orders.
    pub(crate) fn start(connections_max: usize) -> io::Result<(Self, Orders)> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(limits::WORKERS_MAX);
        let (first, own) = mpsc::unbounded_channel();
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (1..count).map(|_| mpsc::unbounded_channel()).unzip();
        let handles = std::iter::once(first)
            .chain(senders)
            .map(|orders| Handle { orders, connections: AtomicUsize::new(0) })
            .collect();
        let workers = Self { handles, connections_max };
        for (index, orders) in (1..).zip(receivers) {
            let workers = workers.clone();
            thread::Builder::new()
                .name(format!("proxy-{index}"))
                .spawn(move || run(index, workers, orders))?;
        }
        Ok((workers, own))
    }

    pub(crate) fn count(&self) -> usize {
        self.handles.len()
    }

    /// Client connections of all workers.
    pub(crate) fn connections(&self) -> usize {
        self.handles.iter().map(|handle| handle.connections.load(Ordering::Relaxed)).sum()
    }

    /// Whether no more connections should be accepted.
    pub(crate) fn is_full(&self) -> bool {
        self.connections() >= self.connections_max
    }

    pub(crate) fn listen(
        &self,
        route: &Arc<Route>,
        listener: &std::net::TcpListener,
    ) -> io::Result<()> {
        // All or none: descriptors may run out.
        let clones: io::Result<Vec<_>> =
            self.handles.iter().map(|_| listener.try_clone()).collect();
        for (handle, listener) in self.handles.iter().zip(clones?) {
            let _ = handle.orders.send(WorkerOrder::Listen { route: route.clone(), listener });
        }
        Ok(())
    }

    pub(crate) fn wake(&self, route_id: u64) {
        for handle in self.handles.iter() {
            let _ = handle.orders.send(WorkerOrder::Wake { route_id });
        }
    }

    pub(crate) fn close(&self, route_id: u64) {
        for handle in self.handles.iter() {
            let _ = handle.orders.send(WorkerOrder::Close { route_id });
        }
    }

    /// Ends the threads; connections that are still open break off.
    pub(crate) fn stop(&self) {
        for handle in self.handles.iter() {
            let _ = handle.orders.send(WorkerOrder::Stop);
        }
    }
}

/// A worker, as its own tasks see it.
pub(crate) struct Worker {
    index: usize,
    pub(crate) workers: Workers,
    clock: Cell<Instant>,
    ids: Cell<u64>,
    routes: RefCell<HashMap<u64, Serving>>,
}

struct Serving {
    route: Rc<LocalRoute>,
    /// Dropped to end the accepting.
    accepting: Option<oneshot::Sender<()>>,
}

/// Counts a connection while it lives.
pub(crate) struct Counted(Workers, usize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.handles[self.1].connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// The time, as of the last sweep: exact enough for time-outs and free to read.
    pub(crate) fn now(&self) -> Instant {
        self.clock.get()
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.replace(self.ids.get() + 1)
    }

    fn count_connection(&self) -> Counted {
        self.workers.handles[self.index].connections.fetch_add(1, Ordering::Relaxed);
        Counted(self.workers.clone(), self.index)
    }

    /// Serves a fresh connection here, or hands it to a worker that has clearly fewer.
    pub(crate) fn place(
        self: &Rc<Self>,
        route: &Rc<LocalRoute>,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        let load = |handle: &Handle| handle.connections.load(Ordering::Relaxed);
        let own = load(&self.workers.handles[self.index]);
        if let Some(least) = self.workers.handles.iter().min_by_key(|handle| load(handle))
            && load(least) + 1 < own
        {
            if let Ok(stream) = stream.into_std() {
                let _ = least.orders.send(WorkerOrder::Adopt {
                    route_id: route.shared.id,
                    stream,
                    peer,
                });
            }
            return;
        }
        self.serve(route, stream, peer);
    }

    fn serve(self: &Rc<Self>, route: &Rc<LocalRoute>, stream: TcpStream, peer: SocketAddr) {
        let counted = self.count_connection();
        let served = connection::serve(self.clone(), route.clone(), stream, peer);
        spawn_local(async move {
            served.await;
            drop(counted);
        });
    }

    fn obey(self: &Rc<Self>, order: WorkerOrder) {
        match order {
            WorkerOrder::Listen { route, listener } => self.listen(route, listener),
            WorkerOrder::Adopt { route_id, stream, peer } => {
                let route =
                    self.routes.borrow().get(&route_id).map(|serving| serving.route.clone());
                if let (Some(route), Ok(stream)) = (route, TcpStream::from_std(stream)) {
                    self.serve(&route, stream, peer);
                }
            }
            WorkerOrder::Wake { route_id } => {
                if let Some(serving) = self.routes.borrow().get(&route_id) {
                    serving
                        .route
                        .connections
                        .borrow()
                        .values()
                        .for_each(|connection| connection.wake());
                }
            }
            WorkerOrder::Close { route_id } => self.close(route_id),
            WorkerOrder::Stop => {}
        }
    }

    fn listen(self: &Rc<Self>, route: Arc<Route>, listener: std::net::TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(route = route.key, %error, "failed to watch a listening socket");
                return;
            }
        };
        let mut routes = self.routes.borrow_mut();
        let id = route.id;
        let local = routes.get(&id).map_or_else(
            || Rc::new(LocalRoute::new(route, self.index)),
            |serving| serving.route.clone(),
        );
        let (accepting, stop) = oneshot::channel();
        spawn_local(listener::accept(self.clone(), local.clone(), listener, stop));
        routes.insert(id, Serving { route: local, accepting: Some(accepting) });
    }

    /// Clients are told to close with their next answer; idle ones are closed a little later, since a request
    /// may already be on its way.
    fn close(self: &Rc<Self>, route_id: u64) {
        let mut routes = self.routes.borrow_mut();
        let Some(serving) = routes.get_mut(&route_id) else { return };
        serving.accepting = None;
        let route = serving.route.clone();
        drop(routes);
        route.closing.set(true);
        route.connections.borrow().values().for_each(|connection| connection.lame.set(true));
        let worker = self.clone();
        spawn_local(async move {
            tokio::time::sleep(limits::LAME_TIME).await;
            route
                .connections
                .borrow()
                .values()
                .for_each(|connection| connection.order(Order::Finish));
            while !route.connections.borrow().is_empty() {
                tokio::time::sleep(limits::SWEEP).await;
            }
            worker.routes.borrow_mut().remove(&route_id);
        });
    }

    fn sweep(&self, ticks: u64) {
        let now = Instant::now();
        self.clock.set(now);
        for serving in self.routes.borrow().values() {
            serving
                .route
                .connections
                .borrow()
                .values()
                .for_each(|connection| connection.sweep(now));
            if ticks.is_multiple_of(5) {
                serving.route.table().sides().for_each(|side| side.pool.sweep());
            }
        }
    }
}

fn run(index: usize, workers: Workers, orders: Orders) {
    match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime.block_on(work(index, workers, orders)),
        Err(error) => tracing::error!(%error, "failed to start a worker's runtime"),
    }
}

/// Works until told to stop.
pub(crate) async fn work(index: usize, workers: Workers, mut orders: Orders) {
    let worker = Rc::new(Worker {
        index,
        workers,
        clock: Cell::new(Instant::now()),
        ids: Cell::new(0),
        routes: RefCell::default(),
    });
    let sweeper = worker.clone();
    spawn_local(async move {
        let mut ticks = tokio::time::interval(limits::SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 0_u64.. {
            ticks.tick().await;
            sweeper.sweep(tick);
        }
    });
    while let Some(order) = orders.recv().await
        && !matches!(order, WorkerOrder::Stop)
    {
        worker.obey(order);
    }
}
