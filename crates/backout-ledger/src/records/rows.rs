//! Rows that need no lease: requests, blobs, the outbox, readiness and health.

use backout_core::ids::{EnvironmentKey, OperationId, RequestId, hex};
use backout_core::model::{Request, RequestAnswer, RequestKind};
use backout_core::ports::audit::{AUDIT_PLAIN_FORMAT, AuditKind};
use backout_core::ports::{LedgerError, OutboxMessage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::MAX_BLOB_BYTES;
use super::codec::{RECORD_FORMAT, column, corrupt, decode, encode, parse, readable};
use super::logged::Logged;
use super::store::{Row, Statement, Store};

type Answer<T> = Result<T, LedgerError>;

pub(super) async fn submit(store: &dyn Store, request: &Request) -> Answer<()> {
    let json = encode("a request", &Request { answer: None, ..request.clone() })?;
    let statement = Statement::new(
        "INSERT INTO requests (id, app, environment, operation, kind, format, json) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(request.id.as_str())
    .bind(request.key.app.as_str())
    .bind(request.key.environment.as_str())
    .bind(request.operation.as_str())
    .bind(request.kind.as_str())
    .bind(RECORD_FORMAT)
    .bind(json.as_str());
    let mut write = Logged::begin(store).await?;
    if write.execute(statement).await? == 1 {
        write.log(AuditKind::Request, request.id.as_str(), RECORD_FORMAT, &json);
    }
    write.commit().await
}

/// The readable ones: one that can't be read can't be acted on and must not stop the holder.
pub(super) async fn pending_requests(
    store: &dyn Store,
    operation: &OperationId,
) -> Answer<Vec<Request>> {
    let statement = Statement::new(
        "SELECT id, format, json, answer FROM requests WHERE operation = $1 AND answer IS NULL ORDER BY sequence",
    )
    .bind(operation.as_str());
    let rows = store.fetch_all(statement).await?;
    Ok(readable(rows.iter().map(read_request)))
}

/// Ordered deploys without an answer. As with requests, one that can't be read stops nobody.
pub(super) async fn orders(
    store: &dyn Store,
    key: Option<&EnvironmentKey>,
) -> Answer<Vec<Request>> {
    let mut statement = Statement::new(
        "SELECT id, format, json, answer FROM requests WHERE answer IS NULL AND kind = ",
    );
    statement.push("", RequestKind::Deploy.as_str());
    if let Some(key) = key {
        statement.push(" AND app = ", key.app.as_str());
        statement.push(" AND environment = ", key.environment.as_str());
    }
    statement.push_sql(" ORDER BY sequence");
    let rows = store.fetch_all(statement).await?;
    Ok(readable(rows.iter().map(read_request)))
}

/// The first answer stays.
pub(super) async fn answer(
    store: &dyn Store,
    id: &RequestId,
    answer: &RequestAnswer,
) -> Answer<bool> {
    let json = encode("an answer", answer)?;
    let statement =
        Statement::new("UPDATE requests SET answer = $1 WHERE id = $2 AND answer IS NULL")
            .bind(json.as_str())
            .bind(id.as_str());
    let mut write = Logged::begin(store).await?;
    let first = write.execute(statement).await? == 1;
    if first {
        write.log(AuditKind::Answer, id.as_str(), AUDIT_PLAIN_FORMAT, &json);
    }
    write.commit().await?;
    Ok(first)
}

pub(super) async fn request(store: &dyn Store, id: &RequestId) -> Answer<Option<Request>> {
    let statement = Statement::new("SELECT id, format, json, answer FROM requests WHERE id = $1")
        .bind(id.as_str());
    store.fetch_optional(statement).await?.map(|row| read_request(&row)).transpose()
}

fn read_request(row: &Row) -> Answer<Request> {
    let id: String = column("a request", row, "id")?;
    let what = format!("request {id}");
    let request: Request = decode(&what, row, RECORD_FORMAT)?;
    let answer: Option<String> = column(&what, row, "answer")?;
    let answer = answer.map(|text| parse(&what, &text)).transpose()?;
    Ok(Request { answer, ..request })
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

pub(super) async fn put_blob(store: &dyn Store, bytes: &[u8]) -> Answer<String> {
    if bytes.len() > MAX_BLOB_BYTES {
        let message =
            format!("a blob of {} bytes is larger than the {MAX_BLOB_BYTES} allowed", bytes.len());
        return Err(LedgerError::Unavailable(message));
    }
    let digest = digest_of(bytes);
    // Written again only if what is stored was damaged.
    let statement = Statement::new(
        "INSERT INTO blobs (digest, bytes) VALUES ($1, $2)
         ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes WHERE blobs.bytes <> excluded.bytes",
    )
    .bind(digest.as_str())
    .bind(bytes);
    store.execute(statement).await?;
    Ok(digest)
}

pub(super) async fn blob(store: &dyn Store, digest: &str) -> Answer<Option<Vec<u8>>> {
    let statement =
        Statement::new("SELECT bytes FROM blobs WHERE digest = $1").bind(digest).large();
    let Some(row) = store.fetch_optional(statement).await? else { return Ok(None) };
    let what = format!("blob {digest}");
    let bytes: Vec<u8> = column(&what, &row, "bytes")?;
    let found = digest_of(&bytes);
    if found == digest {
        Ok(Some(bytes))
    } else {
        Err(corrupt(&what, &format!("its content has digest {found}")))
    }
}

pub(super) async fn outbox(store: &dyn Store, limit: u32) -> Answer<Vec<(i64, OutboxMessage)>> {
    let statement = Statement::new(
        "SELECT id, format, json FROM outbox WHERE sent_at IS NULL ORDER BY id LIMIT $1",
    )
    .bind(limit);
    let rows = store.fetch_all(statement).await?;
    Ok(readable(rows.iter().map(|row| {
        let id: i64 = column("a message", row, "id")?;
        Ok((id, decode(&format!("message {id} of the outbox"), row, RECORD_FORMAT)?))
    })))
}

/// The two tables with one row per environment that anybody may write.
#[derive(Clone, Copy)]
pub(super) enum Latest {
    Readiness,
    Health,
}

pub(super) async fn latest<T: DeserializeOwned>(
    store: &dyn Store,
    which: Latest,
    key: &EnvironmentKey,
) -> Answer<Option<T>> {
    let (what, sql) = match which {
        Latest::Readiness => {
            ("readiness", "SELECT format, json FROM readiness WHERE app = $1 AND environment = $2")
        }
        Latest::Health => {
            ("health", "SELECT format, json FROM health WHERE app = $1 AND environment = $2")
        }
    };
    let statement = Statement::new(sql).bind(key.app.as_str()).bind(key.environment.as_str());
    let row = store.fetch_optional(statement).await?;
    row.map(|row| decode(&format!("the {what} of {key}"), &row, RECORD_FORMAT)).transpose()
}

pub(super) async fn forget_readiness(store: &dyn Store, key: &EnvironmentKey) -> Answer<()> {
    let sql = "DELETE FROM readiness WHERE app = $1 AND environment = $2";
    let statement = Statement::new(sql).bind(key.app.as_str()).bind(key.environment.as_str());
    store.execute(statement).await.map(|_| ())
}

pub(super) async fn put_latest<T: Serialize>(
    store: &dyn Store,
    which: Latest,
    key: &EnvironmentKey,
    record: &T,
) -> Answer<()> {
    let (what, sql) = match which {
        Latest::Readiness => (
            "readiness",
            "INSERT INTO readiness (app, environment, format, json) VALUES ($1, $2, $3, $4)
             ON CONFLICT (app, environment) DO UPDATE SET format = excluded.format, json = excluded.json",
        ),
        Latest::Health => (
            "health",
            "INSERT INTO health (app, environment, format, json) VALUES ($1, $2, $3, $4)
             ON CONFLICT (app, environment) DO UPDATE SET format = excluded.format, json = excluded.json",
        ),
    };
    let statement = Statement::new(sql)
        .bind(key.app.as_str())
        .bind(key.environment.as_str())
        .bind(RECORD_FORMAT)
        .bind(encode(what, record)?);
    store.execute(statement).await.map(|_| ())
}
