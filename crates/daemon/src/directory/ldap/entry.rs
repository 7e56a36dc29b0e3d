//! From an entry to what the cmdlet of its kind would have printed. Whatever a directory says comes out as data or not at all;
//! whether it makes sense is for `collect` and the configuration to say.

use std::collections::BTreeMap;

use ldap3::asn1::StructureTag;
use serde_json::{Map, Value};

use super::mapping::{Entries, Reading, Row};
use crate::directory::table::kind_of;

/// Longest value taken.
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Values of an attribute that are looked at.
const VALUES_MAX: usize = 4_096;
/// Longest distinguished name that is kept to say where an object stands.
const DN_CHARS_MAX: usize = 512;
const ENTRY: u64 = 4;

/// Attributes other than those of Microsoft, by table and key.
pub type Attributes = BTreeMap<(&'static str, &'static str), String>;

/// An entry as the directory sent it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub dn: String,
    /// In lower case.
    pub attributes: BTreeMap<String, Vec<String>>,
}

impl Entry {
    /// `None` for what is none.
    pub(super) fn read(tag: StructureTag) -> Option<Self> {
        let mut parts = tag.match_id(ENTRY)?.expect_constructed()?.into_iter();
        let dn = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
        let mut attributes = BTreeMap::new();
        for attribute in parts.next()?.expect_constructed()? {
            let mut parts = attribute.expect_constructed()?.into_iter();
            let name = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
            let values = parts.next()?.expect_constructed()?.into_iter().take(VALUES_MAX);
            let texts = values.filter_map(|value| String::from_utf8(value.expect_primitive()?).ok());
            let fit = texts.filter(|text| text.len() <= VALUE_BYTES_MAX);
            attributes.insert(name.to_ascii_lowercase(), fit.collect());
        }
        Some(Self { dn, attributes })
    }

    fn values(&self, attribute: &str) -> &[String] {
        self.attributes.get(&attribute.to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default()
    }

    fn first(&self, attribute: &str) -> Option<&str> {
        self.values(attribute).first().map(String::as_str)
    }
}

/// What the cmdlet would have printed; `None` when the entry is no such object.
pub(super) fn object(entry: &Entry, entries: &Entries, other: &Attributes) -> Option<Value> {
    if let Some((attribute, bit)) = entries.bit {
        let flags = entry.first(attribute)?.trim().parse::<i64>().ok()?;
        if flags & i64::from(bit) == 0 {
            return None;
        }
    }
    let dn: String = entry.dn.chars().take(DN_CHARS_MAX).collect();
    let mut object = Map::from_iter([("DistinguishedName".to_owned(), Value::from(dn))]);
    for row in entries.rows {
        if let Some(value) = value(entry, row, attribute_of(entries, row, other)) {
            object.insert(row.property.to_owned(), value);
        }
    }
    Some(Value::Object(object))
}

/// The attributes that are asked for.
pub(super) fn attributes(entries: &Entries, other: &Attributes) -> Vec<String> {
    let rows = entries.rows.iter().map(|row| attribute_of(entries, row, other));
    let all = rows.chain(entries.bit.map(|(attribute, _)| attribute)).filter(|name| !name.is_empty());
    let mut all: Vec<String> = all.map(str::to_owned).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn attribute_of<'a>(entries: &Entries, row: &Row, other: &'a Attributes) -> &'a str {
    let field = kind_of(entries.table)
        .and_then(|kind| kind.fields.iter().find(|field| field.property == row.property));
    let named = field.and_then(|field| other.get(&(entries.table, field.key)));
    named.map_or(row.attribute, String::as_str)
}

fn value(entry: &Entry, row: &Row, attribute: &str) -> Option<Value> {
    let values = entry.values(attribute);
    let first = || values.first().map(String::as_str);
    let list = |texts: Vec<String>| (!texts.is_empty()).then(|| Value::from(texts));
    match row.reading {
        Reading::Text => first().map(Value::from),
        Reading::Texts => list(values.to_vec()),
        Reading::Whole => first().map(whole),
        Reading::Port => first().map(whole).filter(|port| port != 0),
        Reading::Flag => first().map(|text| match text {
            _ if text.eq_ignore_ascii_case("true") => Value::from(true),
            _ if text.eq_ignore_ascii_case("false") => Value::from(false),
            other => Value::from(other),
        }),
        Reading::Word(words) => first().map(|text| {
            let word = words.iter().find(|(number, _)| *number == text.trim());
            Value::from(word.map_or(text, |(_, word)| *word))
        }),
        Reading::Name => first().map(|dn| Value::from(names_of(dn).into_iter().next().unwrap_or_default())),
        Reading::Names => list(values.iter().filter_map(|dn| names_of(dn).into_iter().next()).collect()),
        Reading::Parent => names_of(&entry.dn).into_iter().nth(1).map(Value::from),
        Reading::Host => host(values, &entry.dn).map(Value::from),
        Reading::Eum => list(eum(values).cloned().collect()),
        Reading::EumNumber => eum(values).find_map(|address| number_of(address)).map(Value::from),
        Reading::Setting(name) => values.iter().find_map(|value| setting(value, name)).map(Value::from),
    }
}

/// A number, or the text as it stands: what is no number is for others to refuse.
fn whole(text: &str) -> Value {
    text.trim().parse::<u64>().map_or_else(|_| Value::from(text), Value::from)
}

fn eum(values: &[String]) -> impl Iterator<Item = &String> {
    values.iter().filter(|value| value.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("eum:")))
}

fn number_of(address: &str) -> Option<&str> {
    let user = address.get(4..)?.split(';').next()?;
    let digits = user.strip_prefix('+').unwrap_or(user);
    (!digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())).then_some(user)
}

fn setting(value: &str, name: &str) -> Option<bool> {
    let (own, flag) = value.split_once('=')?;
    match (own.trim().eq_ignore_ascii_case(name), flag.trim()) {
        (true, "1") => Some(true),
        (true, "0") => Some(false),
        _ => None,
    }
}

fn host(addresses: &[String], dn: &str) -> Option<String> {
    let by_tcp = |address: &String| {
        let (kind, host) = address.split_once(':')?;
        kind.eq_ignore_ascii_case("ncacn_ip_tcp").then(|| host.to_owned())
    };
    let named = || {
        let names = names_of(dn);
        let at = names.iter().position(|name| name.eq_ignore_ascii_case("Servers"))?;
        names.get(at.checked_sub(1)?).cloned()
    };
    addresses.iter().find_map(by_tcp).or_else(named)
}

/// The values of the parts of a DN, nearest first, without the escapes of RFC 4514 §2.4. What is no DN is a name itself.
fn names_of(dn: &str) -> Vec<String> {
    let (mut names, mut name, mut rest) = (Vec::new(), Vec::new(), dn.as_bytes());
    let is_dn = dn.contains('=');
    let mut is_value = !is_dn;
    while let [octet, more @ ..] = rest {
        rest = more;
        match (octet, more) {
            (b'\\', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                name.push(digit(*high) << 4 | digit(*low));
                rest = after;
            }
            (b'\\', [next, after @ ..]) => {
                name.push(*next);
                rest = after;
            }
            (b'=', _) if !is_value => {
                is_value = true;
                name.clear();
            }
            (b',', _) if is_dn && is_value => {
                names.push(String::from_utf8_lossy(&std::mem::take(&mut name)).into_owned());
                is_value = false;
            }
            (other, _) => name.push(*other),
        }
    }
    names.push(String::from_utf8_lossy(&name).into_owned());
    names
}

fn digit(octet: u8) -> u8 {
    match octet {
        b'0'..=b'9' => octet - b'0',
        other => (other | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::ENTRIES;
    use super::*;
    use crate::directory::table::KINDS;

    const FOREST: &str = "CN=Configuration,DC=contoso,DC=test";

    fn entry(dn: &str, attributes: &[(&str, &[&str])]) -> Entry {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let attributes = attributes.iter().map(|(name, values)| (name.to_ascii_lowercase(), owned(values)));
        Entry { dn: dn.to_owned(), attributes: attributes.collect() }
    }

    fn of(cmdlet: &str) -> &'static Entries {
        ENTRIES.iter().find(|entries| entries.cmdlet == cmdlet).expect("kind")
    }

    fn printed(cmdlet: &str, dn: &str, attributes: &[(&str, &[&str])]) -> Value {
        object(&entry(dn, attributes), of(cmdlet), &Attributes::new()).unwrap_or_default()
    }

    #[test]
    fn every_property_is_one_that_the_import_reads() {
        for entries in ENTRIES.iter().filter(|entries| entries.cmdlet != "Get-CsUser") {
            let kind = KINDS.iter().find(|kind| kind.cmdlet == entries.cmdlet).expect(entries.cmdlet);
            assert_eq!(kind.table, entries.table);
            for row in entries.rows {
                assert!(kind.fields.iter().any(|field| field.property == row.property), "{}", row.property);
            }
            assert!(ldap3::parse_filter(entries.filter).is_ok(), "{}", entries.filter);
        }
    }

    #[test]
    fn numbers_become_words_and_what_is_none_stays_for_others_to_refuse() {
        let plan = |value| {
            let found = printed(
                "Get-UMDialPlan",
                &format!("CN=DP,{FOREST}"),
                &[("msExchUMDialPlanVoipSecurity", &[value])],
            );
            found["VoIPSecurity"].clone()
        };
        for (number, word) in [
            ("1", "SIPSecured"),
            ("2", "Unsecured"),
            ("3", "Secured"),
            ("Secured", "Secured"),
            ("9", "9"),
            ("", ""),
        ] {
            assert_eq!(plan(number), word);
        }
        let gateway = printed(
            "Get-UMIPGateway",
            "CN=gw",
            &[("MSEXCHUMIPGATEWAYPORT", &["0"]), ("msExchUMOutcallsAllowed", &["FALSE"])],
        );
        assert_eq!((gateway.get("Port"), &gateway["OutcallsAllowed"]), (None, &Value::from(false)));
        let odd = printed(
            "Get-UMIPGateway",
            "CN=gw",
            &[("msExchUMIPGatewayPort", &["-7"]), ("msExchUMOutcallsAllowed", &["si"])],
        );
        assert_eq!((&odd["Port"], &odd["OutcallsAllowed"]), (&Value::from("-7"), &Value::from("si")));
    }

    #[test]
    fn a_hunt_group_belongs_to_the_gateway_above_it_and_links_are_names() {
        let dn = format!("CN=hg\\, one,CN=pool01\\2c west,CN=UM IPGateway Container,{FOREST}");
        let link = format!("CN=DP-\\C3\\A9t\\C3\\A9,CN=UM DialPlan Container,{FOREST}");
        let found = printed(
            "Get-UMHuntGroup",
            &dn,
            &[("cn", &["hg, one"]), ("msExchUMHuntGroupDialPlanLink", &[&link])],
        );
        assert_eq!(
            (&found["UMIPGateway"], &found["UMDialPlan"]),
            (&Value::from("pool01, west"), &Value::from("DP-été"))
        );
        for dn in ["", "=", ",", "\\", "CN", "CN=\\", "CN=\\4", "CN=\\ff,CN=\\zz", "a=b=c,,=", "CN=é\\é"] {
            let _any_answer_will_do = (names_of(dn), host(&[], dn));
        }
    }

    #[test]
    fn a_server_is_its_network_address_for_tcp_else_the_server_it_stands_below() {
        let dn = format!("CN=SIP,CN=Protocols,CN=CAS01,CN=Servers,{FOREST}");
        let all: &[&str] = &["ncacn_np:CAS01", "netbios:CAS01", "ncacn_ip_tcp:cas01.contoso.test"];
        let named = printed("Get-UMCallRouterSettings", &dn, &[("networkAddress", all)]);
        assert_eq!(named["Fqdn"], "cas01.contoso.test");
        assert_eq!(printed("Get-UMCallRouterSettings", &dn, &[])["Fqdn"], "CAS01");
        assert_eq!(printed("Get-UMCallRouterSettings", FOREST, &[]).get("Fqdn"), None);
    }

    #[test]
    fn a_mailbox_has_um_by_its_flag_and_its_addresses_of_um_alone_count() {
        let link = format!("CN=DP,{FOREST}");
        let all: &[&str] = &[
            "SMTP:ken@contoso.test",
            "EUM:ken@contoso.test;phone-context=DP.contoso.test",
            "eum:1001;phone-context=DP.contoso.test",
            "é",
        ];
        let mailbox = |flags: &[&str]| {
            let attributes: &[(&str, &[&str])] = &[
                ("msExchUMEnabledFlags", flags),
                ("msExchUMRecipientDialPlanLink", &[&link]),
                ("proxyAddresses", all),
            ];
            object(&entry("CN=Ken", attributes), of("Get-UMMailbox"), &Attributes::new())
        };
        for without in [&["830"] as &[&str], &["0"], &["x"], &[]] {
            assert!(mailbox(without).is_none(), "{without:?}");
        }
        let found = mailbox(&["831"]).unwrap();
        assert_eq!(found["EmailAddresses"].as_array().map(Vec::len), Some(2));
        assert_eq!((&found["Extensions"], &found["UMDialPlan"]), (&Value::from("1001"), &Value::from("DP")));
        let hosted = |value| {
            printed(
                "Get-CsUser",
                "CN=Ken",
                &[("msExchUCVoiceMailSettings", &["ExchangeHostedVoiceMail=1", value])],
            )
        };
        assert_eq!(hosted("CsHostedVoiceMail=1")["HostedVoiceMail"], true);
        assert_eq!(hosted("cshostedvoicemail = 0")["HostedVoiceMail"], false);
        assert_eq!(hosted("CsHostedVoiceMail").get("HostedVoiceMail"), None);
    }

    #[test]
    fn an_attribute_of_the_operators_choice_takes_the_place_of_microsofts() {
        let other = Attributes::from([(("dial_plan", "voip_security"), "extensionAttribute7".to_owned())]);
        let plans = of("Get-UMDialPlan");
        let asked = attributes(plans, &other);
        assert!(asked.iter().any(|name| name == "extensionAttribute7"));
        assert!(!asked.iter().any(|name| name == "msExchUMDialPlanVoipSecurity"));
        let found = entry(
            "CN=DP",
            &[("extensionAttribute7", &["Secured"]), ("msExchUMDialPlanVoipSecurity", &["2"])],
        );
        assert_eq!(object(&found, plans, &other).unwrap()["VoIPSecurity"], "Secured");
    }
}
