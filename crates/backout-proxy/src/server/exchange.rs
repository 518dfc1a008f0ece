//! Keeps the books of one request on one side; whatever way it ends, it is counted once.

use std::{rc::Rc, time::Duration};

use hyper::StatusCode;

use super::{
    endpoints::Kind,
    route::{LocalRoute, LocalSide},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Answered { failed: bool },
    Over,
}

/// A request on a side. Dropped while it waits for the answer, it counts as a client that left.
pub(crate) struct Exchange {
    side: Rc<LocalSide>,
    route: Rc<LocalRoute>,
    state: State,
    tunnel: bool,
    kind: Kind,
    session: Option<u64>,
}

impl Exchange {
    /// `kind`: the endpoint that is asked for; `session`: the client, where routing is sticky.
    pub(crate) fn begin(
        side: Rc<LocalSide>,
        route: Rc<LocalRoute>,
        kind: Kind,
        session: Option<u64>,
    ) -> Self {
        side.shard().began();
        Self { side, route, state: State::Waiting, tunnel: false, kind, session }
    }

    pub(crate) fn side(&self) -> &Rc<LocalSide> {
        &self.side
    }

    /// The head of the answer has come.
    pub(crate) fn answered(&mut self, status: StatusCode, latency: Duration) {
        let failed = self.side.shard().answered(status.as_u16(), latency);
        self.side.shard().endpoint(self.kind, true, failed);
        self.side.shard().session(self.session, (!failed).then_some(latency));
        self.state = State::Answered { failed };
        if failed {
            self.route.shared.tell();
        }
    }

    /// The answer is complete.
    pub(crate) fn ended(&mut self) {
        if matches!(self.state, State::Answered { .. }) {
            self.side.shard().answer_ended();
            self.state = State::Over;
        }
    }

    /// The release broke its answer off.
    pub(crate) fn broke_off(&mut self) {
        if let State::Answered { failed } = self.state {
            self.side.shard().broke(failed);
            self.side.shard().endpoint(self.kind, false, !failed);
            if !failed {
                self.side.shard().session(self.session, None);
            }
            self.side.shard().answer_ended();
            self.state = State::Over;
            self.route.shared.tell();
        }
    }

    /// The release did not answer.
    pub(crate) fn no_answer(mut self) {
        self.side.shard().no_answer();
        self.side.shard().endpoint(self.kind, true, true);
        self.side.shard().session(self.session, None);
        self.state = State::Over;
        self.route.shared.tell();
    }

    /// The request met a connection that the release had just closed, and can't be sent again.
    pub(crate) fn raced(mut self) {
        self.side.shard().raced();
        self.state = State::Over;
    }

    /// The request goes elsewhere, or ends, because the side has no weight any more.
    pub(crate) fn rescued(mut self) {
        self.side.shard().rescued();
        self.state = State::Over;
    }

    /// The answer was a switch of protocols.
    pub(crate) fn tunnel(&mut self) {
        self.side.shard().tunnel_began();
        self.tunnel = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let shard = self.side.shard();
        match self.state {
            State::Waiting => shard.client_left(),
            State::Answered { .. } => shard.answer_ended(),
            State::Over => {}
        }
        if self.tunnel {
            shard.tunnel_over();
        }
        shard.over();
    }
}
