//! Standing controllers: a row each, that lives as a lease does.

use backout_core::model::ControllerBeat;
use backout_core::ports::{ControllerView, Holder, LedgerError};

use super::codec::{RECORD_FORMAT, column, decode, encode, readable, signed, unsigned};
use super::lease::Terms;
use super::store::{Row, Statement, Store};
use crate::surroundings::Liveness;

/// Beyond the end of its term a row is kept this long, milliseconds.
const KEPT_MS: u64 = 3_600_000;

/// A process by what tells it from every other one.
fn id(holder: &Holder) -> String {
    format!("{}:{}:{}", holder.boot_id, holder.pid, holder.pid_start)
}

pub(super) async fn beat(
    store: &dyn Store,
    terms: &Terms<'_>,
    beat: &ControllerBeat,
) -> Result<(), LedgerError> {
    let now_ms = store.now_ms(terms.surroundings).await?;
    let expires_ms = signed("the end of a term", now_ms.saturating_add(terms.term_ms))?;
    let statement = Statement::new(
        "INSERT INTO controllers (id, expires_ms, format, json) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET
             expires_ms = excluded.expires_ms, format = excluded.format, json = excluded.json",
    )
    .bind(id(&beat.holder))
    .bind(expires_ms)
    .bind(RECORD_FORMAT)
    .bind(encode("a controller", beat)?);
    store.execute(statement).await?;
    for (gone, view) in all(store, terms, now_ms).await? {
        if gone && id(&view.beat.holder) != id(&beat.holder) {
            leave(store, &view.beat.holder).await?;
        }
    }
    Ok(())
}

pub(super) async fn leave(store: &dyn Store, holder: &Holder) -> Result<(), LedgerError> {
    let statement = Statement::new("DELETE FROM controllers WHERE id = $1").bind(id(holder));
    store.execute(statement).await.map(|_| ())
}

pub(super) async fn list(
    store: &dyn Store,
    terms: &Terms<'_>,
) -> Result<Vec<ControllerView>, LedgerError> {
    let now_ms = store.now_ms(terms.surroundings).await?;
    let mut views: Vec<ControllerView> =
        all(store, terms, now_ms).await?.into_iter().map(|(_, view)| view).collect();
    views.sort_by_key(|view| (view.beat.started_at, id(&view.beat.holder)));
    Ok(views)
}

/// Those that can be read; with each, whether its row may go.
async fn all(
    store: &dyn Store,
    terms: &Terms<'_>,
    now_ms: u64,
) -> Result<Vec<(bool, ControllerView)>, LedgerError> {
    let statement = Statement::new("SELECT id, expires_ms, format, json FROM controllers");
    let rows = store.fetch_all(statement).await?;
    Ok(readable(rows.iter().map(|row| read(row, terms, now_ms))))
}

fn read(row: &Row, terms: &Terms<'_>, now_ms: u64) -> Result<(bool, ControllerView), LedgerError> {
    let what = format!("controller {}", column::<String>("a controller", row, "id")?);
    let expires_ms = unsigned(&what, row, "expires_ms")?;
    let beat: ControllerBeat = decode(&what, row, RECORD_FORMAT)?;
    let ended = terms.surroundings.liveness(&beat.holder) == Liveness::Gone;
    let alive = !ended && now_ms < expires_ms;
    let gone = ended || now_ms > expires_ms.saturating_add(KEPT_MS);
    Ok((gone, ControllerView { beat, alive }))
}
