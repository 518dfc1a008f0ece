//! What is copied. A test holds it against the tables that there are.

/// How a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Bytes,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What the copy holds instead of what is there.
    pub(super) instead: Option<&'static str>,
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, instead: None }
}

const fn number(name: &'static str) -> Column {
    Column { name, kind: Kind::Number, instead: None }
}

const fn bytes(name: &'static str) -> Column {
    Column { name, kind: Kind::Bytes, instead: None }
}

const fn fixed(name: &'static str, value: &'static str) -> Column {
    Column { name, kind: Kind::Number, instead: Some(value) }
}

/// A table, with what its rows are ordered by.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: &'static [&'static str],
    pub(super) columns: &'static [Column],
    /// Rows that are read at once.
    pub(super) page: u32,
    /// Column that the target counts up by itself.
    pub(super) counted: Option<&'static str>,
}

const PLACE: &[&str] = &["app", "environment"];

const fn table(
    name: &'static str,
    key: &'static [&'static str],
    columns: &'static [Column],
) -> Table {
    Table { name, key, columns, page: 500, counted: None }
}

const fn counted(
    name: &'static str,
    key: &'static [&'static str],
    columns: &'static [Column],
) -> Table {
    Table { name, key, columns, page: 500, counted: Some(key[0]) }
}

/// In an order in which nothing is named before it is there. The row of `ledger` is not among them, it says how far
/// the copy is; nor are `controllers`, which live with the ledger that they serve.
pub(super) const TABLES: &[Table] = &[
    table(
        "environments",
        PLACE,
        &[text("app"), text("environment"), number("format"), text("json")],
    ),
    // Epochs go on; nobody holds anything, and the other clock says nothing.
    table(
        "leases",
        PLACE,
        &[
            text("app"),
            text("environment"),
            number("epoch"),
            number("pid"),
            number("pid_start"),
            text("boot_id"),
            fixed("expires_ms", "0"),
            fixed("released", "1"),
            text("since"),
            text("holder"),
        ],
    ),
    table(
        "operations",
        &["id"],
        &[
            text("id"),
            text("app"),
            text("environment"),
            text("kind"),
            number("open"),
            number("format"),
            text("json"),
        ],
    ),
    table(
        "entries",
        &["id"],
        &[
            number("id"),
            text("operation"),
            number("sequence"),
            number("format"),
            number("epoch"),
            text("at"),
            text("json"),
        ],
    ),
    table(
        "releases",
        &["id"],
        &[
            text("id"),
            text("app"),
            text("version"),
            text("created_at"),
            number("format"),
            text("json"),
        ],
    ),
    table(
        "deployments",
        &["app", "environment", "number"],
        &[
            text("app"),
            text("environment"),
            number("number"),
            text("id"),
            text("kind"),
            text("release"),
            text("version"),
            text("status"),
            number("rejected"),
            text("started_at"),
            number("started_at_ns"),
            number("format"),
            text("json"),
        ],
    ),
    counted(
        "rollbacks",
        &["rowid"],
        &[
            number("rowid"),
            text("id"),
            text("app"),
            text("environment"),
            number("deployment_to"),
            text("status"),
            number("format"),
            text("json"),
        ],
    ),
    counted(
        "requests",
        &["sequence"],
        &[
            number("sequence"),
            text("id"),
            text("app"),
            text("environment"),
            text("operation"),
            text("kind"),
            number("format"),
            text("json"),
            text("answer"),
        ],
    ),
    counted(
        "outbox",
        &["id"],
        &[number("id"), text("topic"), number("format"), text("json"), text("sent_at")],
    ),
    Table {
        name: "blobs",
        key: &["digest"],
        columns: &[text("digest"), bytes("bytes")],
        page: 4,
        counted: None,
    },
    table("readiness", PLACE, &[text("app"), text("environment"), number("format"), text("json")]),
    table(
        "documents",
        &["app", "environment", "name"],
        &[
            text("app"),
            text("environment"),
            text("name"),
            number("written_ms"),
            number("format"),
            text("json"),
        ],
    ),
    table("health", PLACE, &[text("app"), text("environment"), number("format"), text("json")]),
    table(
        "audit_leaves",
        &["leaf"],
        &[
            number("leaf"),
            text("kind"),
            text("subject"),
            number("format"),
            bytes("digest"),
            text("at"),
        ],
    ),
    table("audit_head", &["only_row"], &[number("only_row"), number("size"), bytes("peaks")]),
];

/// Tables beside those that are copied.
#[cfg(test)]
pub(super) const NOT_COPIED: &[&str] = &["ledger", "controllers"];
