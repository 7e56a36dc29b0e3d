//! `[directory]`: where UM and Lync objects are read live, and how. What stands there is for `directory` to say.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use b2bua::codes;

use super::reader::Reader;
use crate::directory::{Attributes, Bind, Directory, Sealing, TABLES, TABLES_READ, keys_of};

const LDAP_PORT: u16 = 389;
const LDAPS_PORT: u16 = 636;
/// Exchange reads its own directory this often.
const REFRESH: Duration = Duration::from_secs(600);
const REFRESH_MIN: Duration = Duration::from_secs(1);
const REFRESH_MAX: Duration = Duration::from_secs(24 * 3600);

/// `None` where there is no section, or an error in it.
pub(super) fn section(root: &Reader<'_>, base: &Path, tls_roots: &[std::path::PathBuf]) -> Option<Directory> {
    let section = root.table("directory");
    if !section.is_present() {
        return None;
    }
    let url = section.need_text("url");
    let wants_tls = section.flag("start_tls").unwrap_or(false);
    let at = if url.is_empty() { None } else { address(&section, &url, wants_tls) };
    let roots = section.list("trusted_roots").map(|paths| paths.iter().map(|path| base.join(path)).collect());
    let refresh = section.duration("refresh", REFRESH_MIN..=REFRESH_MAX).unwrap_or(REFRESH);
    let (bind, tables, attributes) = (bind(&section, base), tables(&section), attributes(&section));
    let configuration_base = section.need_text("configuration_base");
    let users_bases = section.list("users_bases").unwrap_or_default();
    if users_bases.is_empty() && tables.contains(&"mailbox") {
        section.error(
            codes::CFG_MISSING_KEY,
            "users_bases",
            "`users_bases` is missing; without mailboxes, leave `mailbox` out of `tables`",
        );
    }
    section.finish();
    let (sealing, host, port) = at?;
    let trusted_roots: Vec<_> = roots.unwrap_or_else(|| tls_roots.to_vec());
    match sealing {
        Sealing::Clear if bind.is_some() => in_the_clear(&section, &host),
        Sealing::Tls | Sealing::StartTls if trusted_roots.is_empty() => {
            section.error(
                codes::DIR_ROOTS,
                "trusted_roots",
                "the connection is sealed, and nobody may vouch for the directory",
            );
        }
        _ => {}
    }
    Some(Directory {
        host,
        port,
        sealing,
        configuration_base,
        users_bases,
        bind,
        trusted_roots,
        refresh,
        tables,
        attributes,
    })
}

/// `ldaps://host:port`; an address of IPv6 in brackets.
fn address(section: &Reader<'_>, url: &str, wants_tls: bool) -> Option<(Sealing, String, u16)> {
    let refused = |what: String| {
        section.error(codes::DIR_URL, "url", what);
        None
    };
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let (sealing, port) = match (scheme.to_ascii_lowercase().as_str(), wants_tls) {
        ("ldaps", false) => (Sealing::Tls, LDAPS_PORT),
        ("ldaps", true) => {
            return refused("`start_tls` goes with ldap://; ldaps:// has TLS already".to_owned());
        }
        ("ldap", true) => (Sealing::StartTls, LDAP_PORT),
        ("ldap", false) => (Sealing::Clear, LDAP_PORT),
        _ => return refused(format!("`{url}` is neither ldap://host nor ldaps://host")),
    };
    let (host, port) = match rest.trim_end_matches('/').rsplit_once(':') {
        Some((host, digits)) if !digits.ends_with(']') => {
            (host, digits.parse().ok().filter(|port| *port != 0))
        }
        _ => (rest.trim_end_matches('/'), Some(port)),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_name =
        !bare.is_empty() && bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    match port {
        Some(port) if is_name || bare.parse::<IpAddr>().is_ok() => Some((sealing, bare.to_owned(), port)),
        _ => refused(format!("`{url}` has no host, or more than a host and a port")),
    }
}

fn in_the_clear(section: &Reader<'_>, host: &str) {
    let is_here = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let what = format!("the password of `bind_dn` would go to {host} unsealed");
    match is_here {
        true => section.warn(codes::DIR_CLEAR, "url", what),
        false => section.error(codes::DIR_CLEAR, "url", what),
    }
}

fn bind(section: &Reader<'_>, base: &Path) -> Option<Bind> {
    match (section.text("bind_dn"), section.file("password_file", base)) {
        (Some(name), Some(password_file)) if !name.is_empty() => Some(Bind { name, password_file }),
        (None, None) => None,
        _ => {
            section.error(codes::DIR_PASSWORD, "bind_dn", "`bind_dn` and `password_file` go together");
            None
        }
    }
}

fn tables(section: &Reader<'_>) -> Vec<&'static str> {
    let Some(wanted) = section.list("tables") else { return TABLES_READ.to_vec() };
    let mut tables = Vec::new();
    for name in wanted {
        match TABLES.iter().find(|table| **table == name) {
            Some(table) => tables.push(*table),
            None => {
                let what = format!("`{name}` is not read from a directory; known: {}", TABLES.join(", "));
                section.error(codes::CFG_VALUE, "tables", what);
            }
        }
    }
    tables
}

/// `[directory.attributes]`: `dial_plan.voip_security = "…"`.
fn attributes(section: &Reader<'_>) -> Attributes {
    let all = section.table("attributes");
    let mut found = Attributes::new();
    for table in TABLES {
        let keys = all.table(table);
        for key in keys_of(table) {
            let Some(attribute) = keys.text(key) else { continue };
            let is_name = attribute.starts_with(|c: char| c.is_ascii_alphabetic())
                && attribute.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            match is_name {
                true => drop(found.insert((table, key), attribute)),
                false => {
                    keys.error(codes::CFG_VALUE, key, format!("`{attribute}` is no name of an attribute"))
                }
            }
        }
        keys.finish();
    }
    all.finish();
    found
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::{Compiled, Problems, compile};

    const PLAIN: &str = include_str!("../../../../config/minimal-plain.toml");
    const NOBODY: [(&str, &str); 0] = [];

    fn with(section: &str) -> Result<Compiled, Problems> {
        let text = format!("{PLAIN}\n[directory]\n{section}");
        compile(Path::new("umbra.toml"), &text, NOBODY, SystemTime::now())
    }

    fn found(lines: &str) -> Directory {
        let bases = "configuration_base = \"CN=Configuration,DC=contoso,DC=test\"\nusers_bases = \"DC=contoso,DC=test\"\n";
        with(&format!("{bases}{lines}"))
            .unwrap_or_else(|problems| panic!("{problems}"))
            .directory
            .expect("directory")
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_at_most_a_port() {
        let roots = "trusted_roots = [\"roots.pem\"]\n";
        let cases = [
            ("ldaps://dc01.contoso.test", "", Sealing::Tls, "ldaps://dc01.contoso.test:636"),
            (
                "LDAP://dc01.contoso.test:3268/",
                "start_tls = true\n",
                Sealing::StartTls,
                "ldap://dc01.contoso.test:3268",
            ),
            ("ldap://192.0.2.9", "", Sealing::Clear, "ldap://192.0.2.9:389"),
            ("ldaps://[2001:db8::9]:6360", "", Sealing::Tls, "ldaps://[2001:db8::9]:6360"),
            ("ldaps://[2001:db8::9]", "", Sealing::Tls, "ldaps://[2001:db8::9]:636"),
        ];
        for (url, more, sealing, shown) in cases {
            let directory = found(&format!("url = \"{url}\"\n{more}{roots}"));
            assert_eq!((directory.sealing, directory.url().as_str()), (sealing, shown));
            assert_eq!(directory.refresh, REFRESH);
            assert_eq!(directory.trusted_roots, [Path::new("roots.pem")]);
        }
        for url in [
            "",
            "dc01",
            "ldapi:///",
            "ldap://",
            "ldap://:389",
            "ldap://a b",
            "ldap://dc01:0",
            "ldap://dc01:70000",
            "ldap://dc01/dc=x",
            "ldap://a@dc01",
            "ldap://[::1",
        ] {
            let problems = with(&format!("url = \"{url}\"\n")).expect_err(url);
            let is_told = |problem: &crate::config::Problem| {
                problem.setting == "directory.url" && !problem.fix.is_empty()
            };
            assert!(url.is_empty() || problems.list.iter().any(is_told), "{url}: {problems}");
        }
    }

    #[test]
    fn each_mistake_of_the_section_has_its_code_and_key() {
        let good = "url = \"ldap://192.0.2.9\"\nconfiguration_base = \"CN=Configuration\"\nusers_bases = [\"DC=x\"]\n";
        let bind = "bind_dn = \"CN=umbra\"\npassword_file = \"pw\"\n";
        let cases = [
            (format!("{good}{bind}"), "UMB-DIR002", "directory.url"),
            (format!("{good}bind_dn = \"CN=umbra\"\n"), "UMB-DIR003", "directory.bind_dn"),
            (format!("{good}password_file = \"pw\"\n"), "UMB-DIR003", "directory.bind_dn"),
            (good.replace("ldap:", "ldaps:"), "UMB-DIR004", "directory.trusted_roots"),
            (format!("{}start_tls = true\n", good.replace("ldap:", "ldaps:")), "UMB-DIR001", "directory.url"),
            (good.replace("users_bases = [\"DC=x\"]\n", ""), "UMB-CFG", "directory.users_bases"),
            (format!("{good}refresh = \"0s\"\n"), "UMB-CFG", "directory.refresh"),
            (format!("{good}tables = [\"dial_plan\", \"hosted\"]\n"), "UMB-CFG", "directory.tables"),
            (format!("{good}password = \"secret\"\n"), "UMB-CFG", "directory.password"),
            (
                format!("{good}attributes = {{ dial_plan = {{ voip_security = \"a)(b\" }} }}\n"),
                "UMB-CFG",
                "directory.attributes.dial_plan.voip_security",
            ),
            (
                format!("{good}attributes = {{ dial_plan = {{ secrecy = \"a\" }} }}\n"),
                "UMB-CFG",
                "directory.attributes.dial_plan.secrecy",
            ),
        ];
        for (section, code, setting) in cases {
            let problems = with(&section).expect_err(&section);
            let hit = problems.list.iter().find(|problem| problem.setting == setting);
            let hit = hit.unwrap_or_else(|| panic!("{setting}: {problems}\n{section}"));
            assert!(hit.code.as_str().starts_with(code), "{}: {section}", hit.code);
        }
        let warned = with(&format!("{}{bind}", good.replace("192.0.2.9", "127.0.0.1"))).expect("loopback");
        assert!(warned.warnings.iter().any(|problem| problem.code == codes::DIR_CLEAR));
    }

    #[test]
    fn tables_and_attributes_are_those_that_are_named() {
        let attributes = "[directory.attributes]\ndial_plan.voip_security = \"extensionAttribute7\"\n";
        let directory =
            found(&format!("url = \"ldap://192.0.2.9\"\ntables = [\"pool\", \"dial_plan\"]\n{attributes}"));
        assert_eq!(directory.tables, ["pool", "dial_plan"]);
        assert_eq!(
            directory.attributes.get(&("dial_plan", "voip_security")).map(String::as_str),
            Some("extensionAttribute7")
        );
    }
}
