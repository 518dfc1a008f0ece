//! A server that speaks TLS with a certificate of its own authority: who is trusted, and what is said otherwise.

use backout_core::ports::Ledger;
use backout_ledger::{DatabaseUrl, OpenMode, PostgresLedger, holder_for_this_process};
use backout_testkit::ledger::samples;
use backout_testkit::ledger::suite::Leased;
use backout_testkit::postgres::{PostgresServer, Setup, USER};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Who proves himself by a certificate.
const CERTIFIED: &str = "certified";

/// Over the network encrypted only; the test itself comes by the socket.
const RULES: &str = "local all all trust
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 trust
";

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Certificate and key.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn vouch_for(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A server for `localhost`, and the files of who connects.
struct Encrypted {
    server: PostgresServer,
    port: u16,
    files: tempfile::TempDir,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start() -> Encrypted {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = ours.vouch_for("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let client = ours.vouch_for(CERTIFIED, ExtendedKeyUsagePurpose::ClientAuth);
    let port = free_port();
    let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let setup = Setup {
        port: Some(port),
        settings: vec![setting("ssl", "on"), setting("ssl_ca_file", "ca.crt")],
        files: vec![
            file("server.crt", &server.certificate),
            file("server.key", &server.key),
            file("ca.crt", &ours.0.pem()),
            file("pg_hba.conf", RULES),
        ],
        ..Setup::default()
    };
    let files = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("ours.pem", ours.0.pem()),
        ("theirs.pem", theirs.0.pem()),
        ("client.pem", client.certificate),
        ("client.key", client.key),
    ] {
        std::fs::write(files.path().join(name), text).unwrap();
    }
    let server = PostgresServer::start(&setup);
    server.sql("postgres", &format!("CREATE ROLE {CERTIFIED} LOGIN SUPERUSER"));
    Encrypted { server, port, files }
}

impl Encrypted {
    /// The address of a database over the network. `query` may name files in braces.
    fn url(&self, user: &str, host: &str, database: &str, query: &str) -> String {
        let folder = self.files.path().to_str().unwrap().replace('/', "%2F");
        let query = query.replace('{', &format!("{folder}%2F")).replace('}', "");
        format!("postgres://{user}@{host}:{}/{database}?{query}", self.port)
    }

    async fn open(
        &self,
        host: &str,
        database: &str,
        query: &str,
    ) -> Result<PostgresLedger, String> {
        open(&self.url(USER, host, database, query)).await
    }

    /// Connections to a database that are encrypted, and those that are not.
    fn connections(&self, database: &str) -> String {
        self.server.sql(
            "postgres",
            &format!(
                "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl)
                 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE datname = '{database}' AND application_name = 'backout'"
            ),
        )
    }
}

async fn open(url: &str) -> Result<PostgresLedger, String> {
    let url: DatabaseUrl = url.parse().unwrap();
    let opened = PostgresLedger::connect(&url, OpenMode::ReadWrite).await;
    opened.map_err(|error| error.to_string())
}

/// What is said of a server that is not trusted. Nothing was written there, and none of the words mislead.
fn refused(opened: Result<PostgresLedger, String>, words: &[&str]) {
    let Err(said) = opened else { panic!("it was opened; expected {words:?}") };
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("check that the server runs"), "{said}");
    assert!(!said.contains("password"), "{said}");
}

/// A whole life of an operation over the connection.
async fn use_it(ledger: PostgresLedger) -> Leased {
    let holder = holder_for_this_process("deploy", false).unwrap();
    let ledger = std::sync::Arc::new(ledger);
    let lease = ledger.claim(&samples::key("shop", "production"), &holder).await.unwrap();
    let leased = Leased { ledger, lease, holder };
    leased.open("one").await;
    leased
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_by_its_authority_and_its_name() {
    let mut there = tokio::task::block_in_place(start);
    let database = there.server.database();
    // Without TLS nothing is let in, and it is said how.
    refused(
        there.open("localhost", &database, "sslmode=disable").await,
        &["encrypted connections only", "sslmode=verify-full"],
    );
    for query in [
        "sslmode=verify-full",
        "sslmode=verify-full&sslrootcert={theirs.pem}",
        // Who names an authority wants it asked, also on this machine.
        "sslrootcert={theirs.pem}",
        "sslmode=verify-ca&sslrootcert={theirs.pem}",
    ] {
        refused(there.open("localhost", &database, query).await, &["sslrootcert=FILE"]);
    }
    let ours = "sslmode=verify-full&sslrootcert={ours.pem}";
    refused(there.open("127.0.0.1", &database, ours).await, &["another name", "localhost"]);
    let lost = "sslmode=verify-full&sslrootcert={nowhere.pem}";
    refused(there.open("localhost", &database, lost).await, &["sslrootcert", "nowhere.pem"]);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'backout'";
    assert_eq!(there.server.sql(&database, schemas), "0");

    let leased = use_it(there.open("localhost", &database, ours).await.unwrap()).await;
    assert_eq!(there.connections(&database), "1|0");
    let by_address = "sslmode=verify-ca&sslrootcert={ours.pem}";
    let second = there.open("127.0.0.1", &database, by_address).await.unwrap();
    let third = there.open("localhost", &database, "sslmode=require").await.unwrap();
    assert_eq!(there.connections(&database), "3|0");
    let operation = samples::operation("one");
    assert_eq!(second.journal_length(&operation).await.unwrap(), 1);
    assert_eq!(third.journal_length(&operation).await.unwrap(), 1);

    // A server that restarts is found again, and trusted again.
    tokio::task::block_in_place(|| {
        there.server.stop_at_once();
        there.server.start_again();
    });
    leased.commit(&[leased.entries("one", 1, &["after the restart"])]).await;
    assert_eq!(there.connections(&database), "1|0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_may_prove_himself_by_a_certificate() {
    let there = tokio::task::block_in_place(start);
    let database = there.server.database();
    let url = |query: &str| there.url(CERTIFIED, "localhost", &database, query);
    let bare = "sslmode=verify-full&sslrootcert={ours.pem}";
    let Err(said) = open(&url(bare)).await else { panic!("anybody is let in") };
    assert!(said.contains("certificate"), "{said}");
    let whole = format!("{bare}&sslcert={{client.pem}}&sslkey={{client.key}}");
    let _held = use_it(open(&url(&whole)).await.unwrap()).await;
    assert_eq!(there.connections(&database), "1|0");
}

/// What is asked to be encrypted never goes out plain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_it_is_asked_for() {
    let port = free_port();
    let setup = Setup { port: Some(port), ..Setup::default() };
    let server = tokio::task::block_in_place(|| PostgresServer::start(&setup));
    let database = server.database();
    let url = |query: &str| format!("postgres://{USER}@localhost:{port}/{database}{query}");
    for mode in ["require", "verify-ca", "verify-full"] {
        refused(open(&url(&format!("?sslmode={mode}"))).await, &["ssl = on"]);
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'backout'";
    assert_eq!(server.sql(&database, schemas), "0");
    // On this machine nobody listens in, so that nothing need be chosen.
    use_it(open(&url("")).await.unwrap()).await;
}
