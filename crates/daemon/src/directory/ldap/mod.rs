//! The live directory: UM and Lync objects read from Active Directory, or whatever has its attributes. Owns the conversation and its
//! bounds; what comes out is what cmdlets print, so that everything behind it is the import's. Refuses to follow referrals.

mod ber;
mod entry;
mod mapping;
mod wire;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use b2bua::{Code, codes};
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, StdStream};
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::view::View;
pub use entry::Attributes;
use entry::Entry;
use mapping::{Base, ENTRIES, Entries};
pub use mapping::{TABLES, TABLES_READ};

/// The whole reading.
pub const READ_MAX: Duration = Duration::from_secs(60);
/// Connecting, with TLS.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// One answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Entries of a page; Active Directory gives at most 1,000 of them.
const PAGE: i32 = 500;
/// Entries taken in all; more are an error, for a part would pass for the whole.
const ENTRIES_MAX: usize = 20_000;
/// Octets taken in all.
const OCTETS_MAX: u64 = 64 * 1024 * 1024;
const PASSWORD_BYTES_MAX: u64 = 1_024;
/// What a directory says of an error, as far as it is told.
const DIAGNOSTIC_CHARS_MAX: usize = 200;

/// How what is said is kept from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// `ldaps://`.
    Tls,
    /// `ldap://`, TLS from the first word on.
    StartTls,
    /// Nothing is.
    Clear,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// DN, or what Active Directory takes for one.
    pub name: String,
    /// Holds the password; read anew each time.
    pub password_file: PathBuf,
}

/// A directory, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is sealed.
    pub sealing: Sealing,
    /// Base of the configuration naming context.
    pub configuration_base: String,
    /// Bases of the users.
    pub users_bases: Vec<String>,
    /// Without it, nobody in particular asks.
    pub bind: Option<Bind>,
    /// Who may vouch for the directory.
    pub trusted_roots: Vec<PathBuf>,
    /// From one reading to the next.
    pub refresh: Duration,
    /// Tables that are read.
    pub tables: Vec<&'static str>,
    /// Attributes other than Microsoft's.
    pub attributes: Attributes,
}

impl Directory {
    /// As it is named where people read.
    pub fn url(&self) -> String {
        let scheme = if self.sealing == Sealing::Tls { "ldaps" } else { "ldap" };
        match self.host.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.host, self.port),
            false => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }

    /// What tells one source of objects from another: a kept view of this one is no view of that one.
    pub fn source(&self) -> String {
        let bases = self.users_bases.join("|");
        format!("{} {} {bases} {}", self.url(), self.configuration_base, self.tables.join(","))
    }

    fn bases(&self, base: Base) -> &[String] {
        match base {
            Base::Configuration => std::slice::from_ref(&self.configuration_base),
            Base::Users => &self.users_bases,
        }
    }
}

/// Why there is no new view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// Stable code.
    pub code: Code,
    /// What happened; what the directory said of it may be part of it, without control characters.
    pub what: String,
}

impl Failure {
    pub(super) fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into() }
    }
}

/// Reads everything that the configuration wants from it.
///
/// # Errors
/// No connection, no right, no answer, or one that is not understood; and a directory in which there is nothing.
pub async fn read(from: &Directory) -> Result<View, Failure> {
    let late =
        || Failure::new(codes::DIR_UNREACHABLE, format!("{} took longer than {READ_MAX:?}", from.url()));
    tokio::time::timeout(READ_MAX, converse(from)).await.unwrap_or_else(|_| Err(late()))
}

async fn converse(from: &Directory) -> Result<View, Failure> {
    let password = from.bind.as_ref().map(password).transpose()?;
    let connect = tokio::time::timeout(CONNECT_MAX, wire::connect(from)).await;
    let late = |_| {
        Failure::new(codes::DIR_UNREACHABLE, format!("{} does not answer within {CONNECT_MAX:?}", from.url()))
    };
    let stream = connect.map_err(late)??;
    let broken = |error: std::io::Error| Failure::new(codes::DIR_UNREACHABLE, error.to_string());
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(broken)?;
    let guard = wire::guard(stream, ours, OCTETS_MAX).map_err(broken)?;
    // Whatever happens to us, what was started ends with this set.
    let mut tasks = JoinSet::new();
    let stopped = guard.stopped.clone();
    tasks.spawn(guard.run());
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(theirs));
    let (driver, ldap) =
        LdapConnAsync::with_settings(settings, "ldapi:///").await.map_err(|error| said(&error))?;
    tasks.spawn(async move {
        // Why it ended, the one who asked hears too.
        let _ended = driver.drive().await;
    });
    // In a task of its own, so that a panic of the crate over what a directory said is a failed reading.
    let mut asking = JoinSet::new();
    let (from, at) = (from.clone(), SystemTime::now());
    asking.spawn(
        async move { ask(ldap, &from, password).await.map(|documents| View::new(&from, documents, at)) },
    );
    let answer = asking.join_next().await.and_then(Result::ok);
    match answer {
        Some(Ok(view)) => Ok(view),
        Some(Err(failure)) => Err(stopped.get().map_or(failure, |why| Failure::new(codes::DIR_ANSWER, why))),
        None => Err(Failure::new(codes::DIR_ANSWER, "an answer of the directory is not understood")),
    }
}

/// The first line of the file; an empty password would be taken for nobody's by the directory, and let in (RFC 4513 §5.1.2).
fn password(bind: &Bind) -> Result<Zeroizing<String>, Failure> {
    let failed =
        |what: String| Failure::new(codes::DIR_PASSWORD, format!("{}: {what}", bind.password_file.display()));
    let mut text = Zeroizing::new(String::new());
    let opened = std::fs::File::open(&bind.password_file).map_err(|error| failed(error.to_string()))?;
    let read = opened.take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text);
    let length = read.map_err(|error| failed(error.to_string()))?;
    if length as u64 > PASSWORD_BYTES_MAX {
        return Err(failed(format!("longer than {PASSWORD_BYTES_MAX} octets")));
    }
    match text.lines().next().unwrap_or_default() {
        "" => Err(failed("is empty".to_owned())),
        line => Ok(Zeroizing::new(line.to_owned())),
    }
}

async fn ask(
    mut ldap: Ldap,
    from: &Directory,
    password: Option<Zeroizing<String>>,
) -> Result<Value, Failure> {
    if let (Some(bind), Some(password)) = (&from.bind, &password) {
        let answer = ldap.with_timeout(ANSWER_MAX).simple_bind(&bind.name, password).await;
        refused(&answer.map_err(|error| said(&error))?, codes::DIR_BIND, &format!("bind as {}", bind.name))?;
    }
    let mut documents: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut count = 0;
    for entries in ENTRIES.iter().filter(|entries| from.tables.contains(&entries.table)) {
        let found = documents.entry(entries.cmdlet).or_default();
        for base in from.bases(entries.base) {
            count += search(&mut ldap, entries, base, &from.attributes, found, ENTRIES_MAX - count).await?;
        }
        // The order of a directory is nobody's: without one of ours, every reading would be a change.
        found.sort_by(|a, b| a["DistinguishedName"].as_str().cmp(&b["DistinguishedName"].as_str()));
        // Bases may overlap.
        found.dedup_by(|a, b| a["DistinguishedName"] == b["DistinguishedName"]);
    }
    // Why the farewell failed changes nothing.
    let _goodbye = ldap.unbind().await;
    match documents.values().all(Vec::is_empty) {
        true => Err(Failure::new(codes::DIR_EMPTY, format!("{} shows no object of UM or Lync", from.url()))),
        false => Ok(Value::Object(Map::from_iter(
            documents.into_iter().map(|(key, list)| (key.to_owned(), list.into())),
        ))),
    }
}

/// Entries read; `left` more are taken.
async fn search(
    ldap: &mut Ldap,
    entries: &Entries,
    base: &str,
    other: &Attributes,
    found: &mut Vec<Value>,
    left: usize,
) -> Result<usize, Failure> {
    let adapters: Vec<Box<dyn Adapter<'_, String, Vec<String>>>> =
        vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
    let asked = entry::attributes(entries, other);
    let answers = ldap.with_timeout(ANSWER_MAX).streaming_search_with(
        adapters,
        base,
        Scope::Subtree,
        entries.filter,
        asked,
    );
    let mut answers = answers.await.map_err(|error| said(&error))?;
    let mut count = 0;
    while let Some(answer) = answers.next().await.map_err(|error| said(&error))? {
        if count == left {
            return Err(Failure::new(
                codes::DIR_ANSWER,
                format!("there are more than {ENTRIES_MAX} entries"),
            ));
        }
        count += 1;
        let entry = Entry::read(answer.0)
            .ok_or_else(|| Failure::new(codes::DIR_ANSWER, "an entry is not understood"))?;
        found.extend(entry::object(&entry, entries, other));
    }
    refused(&answers.finish().await, codes::DIR_SEARCH, &format!("search below {base}"))?;
    Ok(count)
}

/// The result codes that operators meet (RFC 4511 Appendix A.2), in words.
fn refused(result: &LdapResult, code: Code, what: &str) -> Result<(), Failure> {
    let why = match result.rc {
        0 => return Ok(()),
        3 | 4 | 11 => "a limit of the directory is exceeded",
        7 | 8 | 13 => "the directory wants another way of authentication, or TLS",
        10 => "another directory has it, and referrals are not followed",
        32 => "there is no such entry",
        34 => "the DN is none",
        48 | 49 => "name or password is refused",
        50 => "the right is missing",
        51..=53 => "the directory is not ready",
        _ => "refused",
    };
    let rc = result.rc;
    let diagnostic = clean(&result.text);
    let told = if diagnostic.is_empty() { String::new() } else { format!(": {diagnostic}") };
    Err(Failure::new(code, format!("{what}: {why} (result {rc}{told})")))
}

fn said(error: &LdapError) -> Failure {
    match error {
        LdapError::LdapResult { result } => refused(result, codes::DIR_SEARCH, "search")
            .err()
            .unwrap_or_else(|| Failure::new(codes::DIR_ANSWER, "no answer")),
        LdapError::Timeout { .. } => Failure::new(
            codes::DIR_UNREACHABLE,
            format!("the directory does not answer within {ANSWER_MAX:?}"),
        ),
        LdapError::FilterParsing | LdapError::DecodingUTF8 => {
            Failure::new(codes::DIR_ANSWER, "an answer of the directory is not understood")
        }
        _ => Failure::new(codes::DIR_UNREACHABLE, "the directory closed the connection"),
    }
}

/// Somebody else's words: bounded, on one line, without what steers a terminal.
fn clean(text: &str) -> String {
    let calm = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    calm.take(DIAGNOSTIC_CHARS_MAX).collect::<String>().trim().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::directory) fn directory() -> Directory {
        Directory {
            host: "127.0.0.1".to_owned(),
            port: 1,
            sealing: Sealing::Clear,
            configuration_base: "CN=Configuration,DC=contoso,DC=test".to_owned(),
            users_bases: vec!["DC=contoso,DC=test".to_owned()],
            bind: None,
            trusted_roots: Vec::new(),
            refresh: Duration::from_secs(600),
            tables: TABLES_READ.to_vec(),
            attributes: Attributes::new(),
        }
    }

    /// A directory that answers whatever is asked with these octets, and then waits.
    async fn answering(octets: Vec<u8>) -> Result<View, Failure> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let _asked = stream.read(&mut asked).await;
            stream.write_all(&octets).await.unwrap();
            let _ends = stream.read(&mut asked).await;
        });
        read(&Directory { port, ..directory() }).await
    }

    #[tokio::test]
    async fn an_answer_that_is_none_ends_the_reading_with_its_reason_and_nothing_else() {
        crate::tls::install_provider();
        let entry_without_parts = vec![0x30, 5, 0x02, 1, 1, 0x64, 0];
        let done_without_parts = vec![0x30, 5, 0x02, 1, 1, 0x65, 0];
        let bind_for_a_search = vec![0x30, 12, 0x02, 1, 1, 0x61, 7, 0x0a, 1, 0, 0x04, 0, 0x04, 0];
        let endless = vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff];
        let cases = [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "no LDAP message"),
            (endless, "longer than"),
            (entry_without_parts, "not understood"),
            (done_without_parts, ""),
            (bind_for_a_search, ""),
        ];
        for (octets, words) in cases {
            let failure = answering(octets.clone()).await.unwrap_err();
            assert!(failure.what.contains(words), "{octets:?}: {failure}");
        }
    }

    #[test]
    fn what_a_directory_says_of_an_error_is_one_bounded_line() {
        let text = format!("80090308: LdapErr\r\n\u{1b}[31m{}", "x".repeat(1_000));
        let result = LdapResult { rc: 49, matched: String::new(), text, refs: Vec::new(), ctrls: Vec::new() };
        let failure = refused(&result, codes::DIR_BIND, "bind as CN=umbra").unwrap_err();
        assert_eq!(failure.code, codes::DIR_BIND);
        assert!(failure.what.contains("name or password is refused (result 49: 80090308"), "{failure}");
        assert!(failure.what.len() < 320 && !failure.what.contains(['\r', '\n', '\u{1b}']), "{failure}");
    }

    #[test]
    fn an_empty_password_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let bind = |name: &str| Bind { name: "CN=umbra".to_owned(), password_file: folder.path().join(name) };
        for (name, text, is_fit) in
            [("good", "s3cret \r\nmore\n", true), ("empty", "", false), ("line", "\nsecret", false)]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
            assert_eq!(password(&bind(name)).is_ok(), is_fit, "{name}");
        }
        assert_eq!(password(&bind("good")).unwrap().as_str(), "s3cret ");
        std::fs::write(folder.path().join("long"), "x".repeat(2_000)).unwrap();
        for name in ["long", "missing"] {
            assert_eq!(password(&bind(name)).unwrap_err().code, codes::DIR_PASSWORD);
        }
    }
}
