use std::collections::BTreeSet;

use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::tables::{NOT_COPIED, TABLES};

/// A table or a column that a later format brings must be copied too.
#[tokio::test]
async fn everything_that_there_is_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let ledger =
        crate::SqliteLedger::open(folder.path(), crate::OpenMode::ReadWrite).await.unwrap();
    ledger.close().await.unwrap();
    let file = folder.path().join(crate::LEDGER_FILE);
    let mut connection = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    let rows = sqlx::query(
        "SELECT t.name AS name, c.name AS field FROM sqlite_schema t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut there = BTreeSet::new();
    for row in &rows {
        let (table, field): (String, String) = (row.get("name"), row.get("field"));
        if !NOT_COPIED.contains(&table.as_str()) {
            there.insert(format!("{table}.{field}"));
        }
    }
    let mut copied = BTreeSet::new();
    for table in TABLES {
        for column in table.columns.iter().filter(|column| column.name != "rowid") {
            copied.insert(format!("{}.{}", table.name, column.name));
        }
    }
    assert_eq!(there, copied);
    assert!(copied.len() > 80, "{}", copied.len());
}
